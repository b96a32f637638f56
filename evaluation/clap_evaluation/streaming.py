"""Plays recordings through the same windows as live sound, faster than real time."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Protocol

import numpy as np

from clap_server.detection.recording import hear
from clap_server.detection.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from clap_server.clap.model import ClapModel
    from clap_server.detection.front import Heard
    from clap_server.detection.patterns import DecodedPattern

    Listener = Callable[[list[Heard], NDArray[np.float32]], None]


class Scorer(Protocol):
    """Turns embeddings into a value for each label, such as ``LabelScorer``."""

    @property
    def label_ids(self) -> tuple[str, ...]:
        """Of the columns."""

    def scores(self, audio_embeddings: NDArray[np.float32], /) -> NDArray[np.float32]:
        """From ``(n, dimension)`` to ``(n, labels)``."""


@dataclass(frozen=True, slots=True)
class WindowScores:
    """The scores of a recording, with all that the detector needs besides.

    Attributes:
        label_ids: of the columns of ``scores``.
        starts_s: ``(w,)`` start of each window in seconds.
        ends_s: ``(w,)`` end of each window.
        scores: ``(w, labels)`` in 0..1.
        levels_dbfs: ``(w,)`` level of the loudest 50 ms of each window.
        onsets_s: ``(w,)`` the sharpest onset in each window; NaN where there is none.
        pieces: ``(w,)`` pieces of the stream, each ``windows.PIECE_S`` long, that had ended by then.
        piece_levels_dbfs: ``(p,)`` level of each piece, for the noise gate.
        admitted: ``(w,)`` whether the gate lets the window through, as long as nothing was reported.
        hop_s: seconds between regular windows.
        window_s: length of a full window, seconds.
        patterns: that were decoded or stopped, in order.
        all_onsets_s: of each window, all its onsets.
    """

    label_ids: tuple[str, ...]
    starts_s: NDArray[np.float64]
    ends_s: NDArray[np.float64]
    scores: NDArray[np.float32]
    levels_dbfs: NDArray[np.float64]
    onsets_s: NDArray[np.float64]
    pieces: NDArray[np.intp]
    piece_levels_dbfs: NDArray[np.float64]
    admitted: NDArray[np.bool_]
    hop_s: float
    window_s: float
    patterns: tuple[DecodedPattern, ...] = ()
    all_onsets_s: tuple[tuple[float, ...], ...] = ()

    @property
    def best(self) -> NDArray[np.float32]:
        """``(labels,)`` the highest score of each label."""
        return np.asarray(self.scores.max(axis=0), np.float32)

    @property
    def sounding_s(self) -> NDArray[np.float64]:
        """``(w,)`` sound above the gate that each window adds, seconds; counted as in a bank."""
        ends_s = self.ends_s[self.admitted]
        added = np.zeros(len(self.ends_s))
        added[self.admitted] = np.minimum(np.diff(ends_s, prepend=ends_s[:1] - self.hop_s), self.hop_s)
        return added

    def column(self, label_id: str) -> NDArray[np.float32]:
        """``(w,)`` the scores of one label.

        Raises:
            ValueError: it was not scored.
        """
        return self.scores[:, self.label_ids.index(label_id)]

    def windows(self) -> list[Window]:
        """The windows, without their sound."""
        firsts = [0, *self.pieces[:-1].tolist()]
        levels = self.piece_levels_dbfs.tolist()
        return [
            Window(
                start_s,
                end_s,
                level_dbfs,
                None if isnan(onset_s) else onset_s,
                tuple(levels[first:last]),
                onsets_s,
            )
            for start_s, end_s, level_dbfs, onset_s, first, last, onsets_s in zip(
                self.starts_s.tolist(),
                self.ends_s.tolist(),
                self.levels_dbfs.tolist(),
                self.onsets_s.tolist(),
                firsts,
                self.pieces.tolist(),
                self.all_onsets_s or [()] * len(self.starts_s),
                strict=True,
            )
        ]


def score_stream(
    model: ClapModel,
    scorer: Scorer,
    blocks: Iterable[NDArray[np.float32]],
    *,
    hop_s: float,
    tail_s: float = 0.0,
    denoise: bool = False,
    on_heard: Listener | None = None,
) -> WindowScores:
    """Score a recording as if it were live; one more window ends where the recording ends.

    Only a few seconds of it are held in memory.

    Args:
        model: embeds.
        scorer: of the same model.
        blocks: each ``(n,)`` mono at the model's rate; not all empty.
        hop_s: seconds between windows.
        tail_s: so long go windows on after the end; see ``Front.finish``.
        denoise: see ``Front``.
        on_heard: called with windows and their embeddings ``(n, dimension)``, batch by batch.
    """
    heard: list[Heard] = []
    scores: list[NDArray[np.float32]] = []
    patterns: list[DecodedPattern] = []
    for batch, embeddings in hear(
        model, blocks, hop_s=hop_s, tail_s=tail_s, on_pattern=patterns.append, denoise=denoise
    ):
        heard += batch
        scores.append(scorer.scores(embeddings))
        if on_heard is not None:
            on_heard(batch, embeddings)
    windows = [window for window, _ in heard]
    return WindowScores(
        label_ids=scorer.label_ids,
        starts_s=np.array([window.start_s for window in windows]),
        ends_s=np.array([window.end_s for window in windows]),
        scores=np.concatenate(scores),
        levels_dbfs=np.array([window.level_dbfs for window in windows]),
        onsets_s=np.array([np.nan if window.onset_s is None else window.onset_s for window in windows]),
        pieces=np.cumsum([len(window.piece_levels_dbfs) for window in windows]),
        piece_levels_dbfs=np.concatenate([window.piece_levels_dbfs for window in windows]),
        admitted=np.array([admitted for _, admitted in heard]),
        hop_s=hop_s,
        window_s=model.window_s,
        patterns=tuple(patterns),
        all_onsets_s=tuple(window.onsets_s for window in windows),
    )


def score_recording(
    model: ClapModel, scorer: Scorer, samples: NDArray[np.float32], *, hop_s: float
) -> WindowScores:
    """Score a recording that is in memory; see ``score_stream``.

    Args:
        model: embeds.
        scorer: of the same model.
        samples: ``(n,)`` mono at the model's rate, not empty.
        hop_s: seconds between windows.
    """
    return score_stream(model, scorer, [samples], hop_s=hop_s)
