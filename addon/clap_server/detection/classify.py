"""Scores of a whole recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from clap_server.detection.detector import PATTERN_SCORE, Detector
from clap_server.detection.labels import WatchedLabel
from clap_server.detection.library import NORMAL
from clap_server.detection.patterns import RAISED_BY
from clap_server.detection.recording import hear, hear_wanted
from clap_server.detection.scoring import LabelScorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from clap_server.clap.model import ClapModel
    from clap_server.detection.library import LabelLibrary
    from clap_server.detection.patterns import DecodedPattern
    from clap_server.detection.windows import Window

    Normalize = Literal["softmax"]


class WindowScores(NamedTuple):
    """One window's scores, 0..1, by the label's text as the user gave it.

    ``gated``: too quiet, so that live nothing would be scored; all labels count 0 and ``normal`` 1.
    """

    start_s: float
    end_s: float
    scores: dict[str, float]
    gated: bool


@dataclass(frozen=True, slots=True)
class FileScores:
    """A recording's scores.

    Attributes:
        duration_s: of the recording.
        windows: in the order of time; they overlap.
        best: the scores that stand for the recording, by the label's text as the user gave it, highest first.
            Each is the highest of any window; that of ``normal`` is the lowest, as the complement of the
            others. With softmax all are those of the window in which a label other than ``normal`` scores
            highest, so that they sum to 1. Without softmax a label that a pattern means has 1.
        too_quiet: live nothing of it would be scored. So that there is an answer, all windows were, without
            the gate.
        patterns: alarms that were decoded, in order.
    """

    duration_s: float
    windows: list[WindowScores]
    best: dict[str, float]
    too_quiet: bool
    patterns: tuple[DecodedPattern, ...] = ()


def classify(
    model: ClapModel,
    library: LabelLibrary,
    blocks: Iterable[NDArray[np.float32]],
    labels: Sequence[str],
    *,
    hop_s: float = 0.5,
    normalize: Normalize | None = None,
    negatives: Sequence[str] = (),
    progress: Callable[[float], None] | None = None,
) -> FileScores:
    """Score a recording for labels, by the windows and the gate of live sound. Blocks.

    Args:
        model: whose embeddings and bank of everyday sound to use.
        library: where labels are looked up; other texts are the user's own words.
        blocks: each ``(n,)`` at the model's sample rate, full scale -1..1; not all empty.
        labels: as the user typed them; repetitions count once.
        hop_s: seconds between windows.
        normalize: None: independent scores. ``softmax``: the classic zero-shot distribution over the labels,
            which knows no gate.
        negatives: what the recording's sounds are not.
        progress: called with the seconds that are done.

    Raises:
        LabelError: no labels, too many, or one that is not usable.
        ValueError: no samples.
        ModelError: the model cannot be used.
    """
    texts = list(dict.fromkeys(labels))
    resolved = library.resolve_all(texts)
    scorer = LabelScorer(model, resolved, library.background, negatives)
    windows: list[Window] = []
    rows: list[NDArray[np.float32]] = []
    patterns: list[DecodedPattern] = []
    admitted: NDArray[np.bool_] = np.empty(0, bool)
    watched = {label.id: WatchedLabel(label, label.threshold) for label in resolved if label is not NORMAL}
    # The gate is that of live sound, for the labels with their default thresholds.
    detector = Detector(tuple(watched.values()), hop_s=hop_s)
    for batch, scores, open_now in (
        _distributions(model, scorer, blocks, hop_s, patterns.append)
        if normalize == "softmax"
        else hear_wanted(model, scorer, blocks, detector, hop_s=hop_s, on_pattern=patterns.append)
    ):
        windows += batch
        rows.append(scores)
        admitted = np.append(admitted, open_now)
        if progress:
            progress(windows[-1].end_s)
    if not windows:
        raise ValueError("a recording without samples cannot be scored")
    columns = [scorer.label_ids.index(label.id) for label in resolved]
    table = np.concatenate(rows)
    normal = np.array([label.id == NORMAL.id for label in resolved])
    too_quiet = not admitted.any()
    admitted |= too_quiet
    table = np.where(admitted[:, None], table[:, columns], normal.astype(np.float32))
    best = _best(table, normal, normalize)
    decoded = [pattern for pattern in patterns if not pattern.ended]
    meant = {label_id for pattern in decoded for label_id in RAISED_BY[pattern.pattern]}
    certain = np.array([label.id in meant for label in resolved])
    if normalize is None and certain.any():
        best = np.where(certain, PATTERN_SCORE, np.where(normal, 1 - PATTERN_SCORE, best))
    return FileScores(
        duration_s=windows[-1].end_s,
        windows=[
            WindowScores(
                window.start_s, window.end_s, dict(zip(texts, map(float, row), strict=True)), not open_
            )
            for window, row, open_ in zip(windows, table, admitted, strict=True)
        ],
        best={texts[n]: float(best[n]) for n in np.argsort(-best, kind="stable")},
        too_quiet=too_quiet,
        patterns=tuple(decoded),
    )


def _distributions(
    model: ClapModel,
    scorer: LabelScorer,
    blocks: Iterable[NDArray[np.float32]],
    hop_s: float,
    on_pattern: Callable[[DecodedPattern], None],
) -> Iterator[tuple[list[Window], NDArray[np.float32], list[bool]]]:
    """As ``hear_wanted``, without the gate."""
    for batch, embeddings in hear(model, blocks, hop_s=hop_s, on_pattern=on_pattern):
        yield [window for window, _ in batch], scorer.distribution(embeddings), [True] * len(batch)


def _best(
    table: NDArray[np.float32], normal: NDArray[np.bool_], normalize: Normalize | None
) -> NDArray[np.float32]:
    """Sum the windows up; see ``FileScores.best``."""
    if normalize == "softmax":
        others = table if normal.all() else table[:, ~normal]
        return np.asarray(table[others.max(axis=1).argmax()])
    return np.asarray(np.where(normal, table.min(axis=0), table.max(axis=0)))
