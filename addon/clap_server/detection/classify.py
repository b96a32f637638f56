"""Scores of a whole recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from clap_server.detection.library import NORMAL
from clap_server.detection.scoring import LabelScorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from clap_server.clap.model import ClapModel
    from clap_server.detection.library import LabelLibrary

    Normalize = Literal["softmax"]

_BATCH = 16


class WindowScores(NamedTuple):
    """One window's scores, 0..1, by the label's text as the user gave it."""

    start_s: float
    end_s: float
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class FileScores:
    """A recording's scores.

    Attributes:
        duration_s: of the recording.
        windows: in the order of time; they overlap.
        best: the scores that stand for the recording, by the label's text as the user gave it, highest first.
            Each is the highest of any window; that of ``normal`` is the lowest, as the complement of the
            others. With softmax all are those of the window in which a label other than ``normal`` scores
            highest, so that they sum to 1.
    """

    duration_s: float
    windows: list[WindowScores]
    best: dict[str, float]


def window_starts(samples: int, window: int, hop: int) -> list[int]:
    """First samples of the windows that cover a recording: one each hop, and one that ends where it ends."""
    last = max(0, samples - window)
    starts = list(range(0, last + 1, hop))
    if starts[-1] != last:
        starts.append(last)
    return starts


def classify(
    model: ClapModel,
    library: LabelLibrary,
    samples: NDArray[np.float32],
    labels: Sequence[str],
    *,
    hop_s: float = 0.5,
    normalize: Normalize | None = None,
    negatives: Sequence[str] = (),
    progress: Callable[[float], None] | None = None,
) -> FileScores:
    """Score a recording for labels. Blocks.

    Args:
        model: whose embeddings and calibration to use.
        library: where labels are looked up; other texts are the user's own words.
        samples: ``(n,)`` at the model's sample rate, full scale -1..1, not empty.
        labels: as the user typed them; repetitions count once.
        hop_s: seconds between windows.
        normalize: None: independent scores. ``softmax``: the classic zero-shot distribution over the labels.
        negatives: what the recording's sounds are not.
        progress: called with the share that is done, 0..1.

    Raises:
        LabelError: no labels, too many, or one that is not usable.
        ValueError: no samples.
        ModelError: the model cannot be used.
    """
    texts = list(dict.fromkeys(labels))
    resolved = library.resolve_all(texts)
    if not len(samples):
        raise ValueError("a recording without samples cannot be scored")
    scorer = LabelScorer(model, resolved, library.background, negatives)
    columns = [scorer.label_ids.index(label.id) for label in resolved]
    normal = np.array([label.id == NORMAL.id for label in resolved])
    rate = model.sample_rate
    size = round(model.window_s * rate)
    starts = window_starts(len(samples), size, max(1, round(hop_s * rate)))
    rows = []
    for done, batch in _batches(starts):
        embeddings = model.embed_audio([samples[start : start + size] for start in batch])
        if normalize == "softmax":
            scores = scorer.distribution(embeddings)[:, columns]
        else:
            scores = scorer.scores(embeddings)[:, columns]
        rows.append(scores)
        if progress:
            progress(done / len(starts))
    table = np.concatenate(rows)
    best = _best(table, normal, normalize)
    return FileScores(
        duration_s=len(samples) / rate,
        windows=[
            WindowScores(
                start / rate,
                min(start + size, len(samples)) / rate,
                dict(zip(texts, map(float, row), strict=True)),
            )
            for start, row in zip(starts, table, strict=True)
        ],
        best={texts[n]: float(best[n]) for n in np.argsort(-best, kind="stable")},
    )


def _batches(starts: list[int]) -> Iterator[tuple[int, list[int]]]:
    for first in range(0, len(starts), _BATCH):
        batch = starts[first : first + _BATCH]
        yield first + len(batch), batch


def _best(
    table: NDArray[np.float32], normal: NDArray[np.bool_], normalize: Normalize | None
) -> NDArray[np.float32]:
    """Sum the windows up; see ``FileScores.best``."""
    if normalize == "softmax":
        others = table if normal.all() else table[:, ~normal]
        return np.asarray(table[others.max(axis=1).argmax()])
    return np.asarray(np.where(normal, table.min(axis=0), table.max(axis=0)))
