"""Plays recordings through the same windows as live sound, faster than real time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from clap_server.audio.level import level_dbfs
from clap_server.audio.ring import RingBuffer
from clap_server.detection.gate import NoiseGate
from clap_server.detection.windows import SHORTEST_S, Window, WindowCutter
from clap_server.synthesis import loudest_rms

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from clap_server.clap.model import ClapModel
    from clap_server.detection.scoring import LabelScorer

# As in live listening: gate and onsets see the stream in pieces of this.
PIECE_S = 0.1
_WINDOWS_AT_ONCE = 64
_LEVEL_FRAME_S = 0.05
_NOTHING = np.empty(0, np.float32)


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
        pieces: ``(w,)`` pieces of the stream, each ``PIECE_S`` long, that had come when the window was cut.
        piece_levels_dbfs: ``(p,)`` level of each piece, for the noise gate.
        admitted: ``(w,)`` whether the gate lets the window through, as long as nothing was reported.
        hop_s: seconds between regular windows.
        window_s: length of a full window, seconds.
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

    @property
    def best(self) -> NDArray[np.float32]:
        """``(labels,)`` the highest score of each label."""
        return np.asarray(self.scores.max(axis=0), np.float32)

    def column(self, label_id: str) -> NDArray[np.float32]:
        """``(w,)`` the scores of one label.

        Raises:
            ValueError: it was not scored.
        """
        return self.scores[:, self.label_ids.index(label_id)]


@dataclass(frozen=True, slots=True)
class _Row:
    """What is kept of a window."""

    window: Window
    pieces: int
    admitted: bool


class _Collector:
    """Gathers windows and has the model score them in batches."""

    def __init__(self, model: ClapModel, scorer: LabelScorer) -> None:
        self._model = model
        self._scorer = scorer
        self._pending: list[NDArray[np.float32]] = []
        self._gate = NoiseGate()
        self.rows: list[_Row] = []
        self.scores: list[NDArray[np.float32]] = []
        self.piece_levels: list[float] = []

    def hear(self, piece: NDArray[np.float32], sample_rate: int) -> None:
        self.piece_levels.append(level_dbfs(piece))
        self._gate.update(self.piece_levels[-1], len(piece) / sample_rate)

    def add(self, window: Window) -> None:
        self._pending.append(window.samples)
        if len(self._pending) >= _WINDOWS_AT_ONCE:
            self.flush()
        kept = replace(window, samples=_NOTHING)
        self.rows.append(_Row(kept, len(self.piece_levels), self._gate.admits(window)))

    def flush(self) -> None:
        if self._pending:
            self.scores.append(self._scorer.scores(self._model.embed_audio(self._pending)))
            self._pending = []


def score_stream(
    model: ClapModel,
    scorer: LabelScorer,
    blocks: Iterable[NDArray[np.float32]],
    *,
    hop_s: float,
    tail_s: float = 0.0,
) -> WindowScores:
    """Score a recording as if it were live; one more window ends where the recording ends.

    Only a few seconds of it are held in memory.

    Args:
        model: embeds.
        scorer: of the same model.
        blocks: each ``(n,)`` mono at the model's rate; not all empty.
        hop_s: seconds between windows.
        tail_s: so long go windows on after the end, with less and less of the recording in them, as if quiet
            followed. It is the model that fills them up: noise that breaks off in digital silence would sound
            like a crash.
    """
    rate = model.sample_rate
    ring = RingBuffer(rate, model.window_s + 2 * PIECE_S)
    cutter = WindowCutter(ring, window_s=model.window_s, hop_s=hop_s)
    found = _Collector(model, scorer)
    for piece in _pieces(blocks, round(PIECE_S * rate)):
        ring.append(piece)
        found.hear(piece, rate)
        for window in cutter.advance():
            found.add(window)
    length_s = ring.total_samples / rate
    if not found.rows or found.rows[-1].window.end_s < length_s:
        found.add(_last_window(ring, length_s, model.window_s))
    for number in range(1, int(tail_s / hop_s + 1e-9) + 1):
        after_s = number * hop_s
        if model.window_s - after_s >= SHORTEST_S:
            found.add(_last_window(ring, length_s + after_s, model.window_s))
    found.flush()
    windows = [row.window for row in found.rows]
    return WindowScores(
        label_ids=scorer.label_ids,
        starts_s=np.array([window.start_s for window in windows]),
        ends_s=np.array([window.end_s for window in windows]),
        scores=np.concatenate(found.scores),
        levels_dbfs=np.array([window.level_dbfs for window in windows]),
        onsets_s=np.array([np.nan if window.onset_s is None else window.onset_s for window in windows]),
        pieces=np.array([row.pieces for row in found.rows]),
        piece_levels_dbfs=np.array(found.piece_levels),
        admitted=np.array([row.admitted for row in found.rows]),
        hop_s=hop_s,
        window_s=model.window_s,
    )


def _last_window(ring: RingBuffer, end_s: float, window_s: float) -> Window:
    """The window that ends at or after the end of the recording, with what is left of it."""
    length_s = ring.total_samples / ring.sample_rate
    start_s = max(0.0, end_s - window_s)
    samples = ring.last(round((length_s - start_s) * ring.sample_rate))
    level = 20 * float(np.log10(max(loudest_rms(samples, ring.sample_rate, _LEVEL_FRAME_S), 1e-6)))
    return Window(start_s, end_s, samples, level, None)


def score_recording(
    model: ClapModel, scorer: LabelScorer, samples: NDArray[np.float32], *, hop_s: float
) -> WindowScores:
    """Score a recording that is in memory; see ``score_stream``.

    Args:
        model: embeds.
        scorer: of the same model.
        samples: ``(n,)`` mono at the model's rate, not empty.
        hop_s: seconds between windows.
    """
    return score_stream(model, scorer, [samples], hop_s=hop_s)


def _pieces(blocks: Iterable[NDArray[np.float32]], size: int) -> Iterator[NDArray[np.float32]]:
    """Cut blocks of any length into pieces of one; the last may be shorter."""
    rest = np.empty(0, np.float32)
    for block in blocks:
        pending = np.concatenate((rest, block)) if len(rest) else block
        whole = len(pending) - len(pending) % size
        for start in range(0, whole, size):
            yield pending[start : start + size]
        rest = pending[whole:]
    if len(rest):
        yield rest
