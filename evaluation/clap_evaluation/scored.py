"""A recording with its scores: what all figures are computed from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_evaluation.streaming import WindowScores, score_stream
from clap_server.detection.frames import FRAME_S
from clap_server.detection.onset import OnsetDetector
from clap_server.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from clap_evaluation.manifest import Occurrence
    from clap_evaluation.streaming import Listener, Scorer
    from clap_server.clap.model import ClapModel

# Live, a sound is not cut off where a clip ends: windows go on to see it while quiet follows.
TAIL_S = 1.0
# An event of which only the onset is told lasts as long as this.
UNTOLD_LENGTH_S = 2.0
# The sound of a clip begins where it first comes this near to its loudest.
_STRONG_DB = 10.0
_SMOOTH_FRAMES = 5
# How far the onset that belongs to it may be away.
_NEAR_S = 0.1


@dataclass(frozen=True, slots=True)
class Event:
    """One sound of a known label in a recording, seconds.

    Attributes:
        onset_s: where it starts; the recording's start if not told.
        offset_s: where it ends.
        heard_from_s: from where the delay of a detection counts; None if that is not known.
    """

    onset_s: float
    offset_s: float
    heard_from_s: float | None


@dataclass(frozen=True, slots=True)
class ScoredRecording:
    """A recording that was scored.

    Attributes:
        name: of the recording.
        occurrences: what it is known to hold; one or more.
        duration_s: its length.
        windows: its scores.
        first_onset_s: where its sound suddenly starts; None if it was there from the beginning or swells.
    """

    name: str
    occurrences: tuple[Occurrence, ...]
    duration_s: float
    windows: WindowScores
    first_onset_s: float | None = None

    @property
    def label_ids(self) -> frozenset[str]:
        """The labels that are heard in it."""
        return frozenset(o.label_id for o in self.occurrences if o.label_id is not None)

    @property
    def group(self) -> str:
        """Of its first row; may be empty."""
        return self.occurrences[0].group

    def events(self, label_id: str) -> list[Event]:
        """The events of a label, by onset; those that touch are one.

        A row without times is an event as long as the recording.
        """
        found = sorted(
            (self._event(o) for o in self.occurrences if o.label_id == label_id), key=lambda e: e.onset_s
        )
        joined: list[Event] = []
        for event in found:
            if joined and event.onset_s <= joined[-1].offset_s:
                before = joined.pop()
                event = Event(  # noqa: PLW2901 - the two become one
                    before.onset_s, max(before.offset_s, event.offset_s), before.heard_from_s
                )
            joined.append(event)
        return joined

    def _event(self, occurrence: Occurrence) -> Event:
        onset_s, offset_s = occurrence.onset_s, occurrence.offset_s
        if onset_s is None:
            return Event(
                0.0,
                self.duration_s if offset_s is None else min(offset_s, self.duration_s),
                self.first_onset_s,
            )
        onset_s = min(onset_s, self.duration_s)
        if offset_s is None:
            offset_s = onset_s + UNTOLD_LENGTH_S
        return Event(onset_s, max(onset_s, min(offset_s, self.duration_s)), onset_s)


class SoundStart:
    """Finds where the sound of a clip starts.

    It becomes *strong* where its last 50 ms first come within 10 dB of its loudest.

    Args:
        sample_rate: in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._frame = round(FRAME_S * sample_rate)
        self._detector = OnsetDetector(sample_rate)
        self._onsets_s: list[float] = []
        self._rest = np.empty(0, np.float32)
        self._power: list[NDArray[np.float64]] = []

    def feed(self, samples: NDArray[np.float32]) -> None:
        """Take the next ``(n,)`` samples."""
        pending = np.concatenate((self._rest, samples))
        count = len(pending) // self._frame
        self._rest = pending[count * self._frame :]
        frames = pending[: count * self._frame].reshape(count, self._frame).astype(np.float64)
        self._power.append(np.mean(frames**2, axis=1))
        self._onsets_s += [onset.at_s for onset in self._detector.feed(self._power[-1])]

    @property
    def strong_s(self) -> float | None:
        """Where it becomes strong, seconds; None if there is no sound."""
        power = np.concatenate(self._power) if self._power else np.empty(0)
        smooth = np.convolve(power, np.full(_SMOOTH_FRAMES, 1 / _SMOOTH_FRAMES)) if len(power) else power
        if not len(smooth) or smooth.max() <= 0:
            return None
        return float(np.argmax(smooth >= smooth.max() * 10 ** (-_STRONG_DB / 10))) * FRAME_S

    @property
    def onset_s(self) -> float | None:
        """The onset (see ``OnsetDetector``) where it becomes strong.

        None if the sound is there from the beginning, swells, or there is none.
        """
        strong_s = self.strong_s
        if strong_s is None:
            return None
        near = [at_s for at_s in self._onsets_s if abs(at_s - strong_s) <= _NEAR_S]
        return min(near, key=lambda at_s: abs(at_s - strong_s)) if near else None


def score(
    model: ClapModel,
    scorer: Scorer,
    blocks: Iterable[NDArray[np.float32]],
    occurrences: Sequence[Occurrence],
    *,
    name: str = "",
    hop_s: float = 0.5,
    denoise: bool = False,
    on_heard: Listener | None = None,
) -> ScoredRecording:
    """Score sound that is known to hold something.

    Windows go on for ``TAIL_S`` after its end, as they do live.

    Args:
        model: embeds.
        scorer: of the same model.
        blocks: each ``(n,)`` mono at the model's rate; not all empty. A recording in memory is one block.
        occurrences: what they hold; one or more.
        name: of the recording.
        hop_s: seconds between windows.
        denoise: whether the model hears it through RNNoise.
        on_heard: see ``score_stream``.

    Raises:
        AudioError: something is said to start after the end.
    """
    rate = model.sample_rate
    start = SoundStart(rate)
    length = 0

    def observed() -> Iterator[NDArray[np.float32]]:
        nonlocal length
        for block in blocks:
            start.feed(block)
            length += len(block)
            yield block

    windows = score_stream(
        model, scorer, observed(), hop_s=hop_s, tail_s=TAIL_S, denoise=denoise, on_heard=on_heard
    )
    result = ScoredRecording(name, tuple(occurrences), length / rate, windows, start.onset_s)
    _check_times(result)
    return result


def _check_times(result: ScoredRecording) -> None:
    for occurrence in result.occurrences:
        if occurrence.onset_s is not None and occurrence.onset_s >= result.duration_s:
            raise AudioError(
                f"A sound starts at {occurrence.onset_s:g} s (row {occurrence.row}), but the recording is"
                f" {result.duration_s:.1f} s long."
            )
