"""What stands before the model: from samples to alarm patterns and to the windows that are worth its time.

Live listening, the scores of a file, evaluation and calibration all hear through it, so that a figure of one
holds for the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from clap_server.audio.denoise import Denoiser
from clap_server.audio.ring import RingBuffer
from clap_server.detection.gate import NoiseGate
from clap_server.detection.patterns import DecodedPattern, PatternDecoder
from clap_server.detection.windows import PIECE_S, SHORTEST_S, Window, WindowCutter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray


_LEVEL_S = 0.5
_LONGEST_PIECE = 1.5
# Windows may wait for the model that long.
_CLEAN_S = 15.0


class Heard(NamedTuple):
    """A window that became due, and whether the gate lets it through."""

    window: Window
    admitted: bool


def _never() -> bool:
    return False


class Front:
    """Hears one unbroken stretch of sound.

    Patterns are decoded in all of it, before the gate. What is remembered of beeps ends with the stretch, as
    stream time does: after a gap nobody knows how long they were silent.

    Args:
        sample_rate: in Hz.
        window_s: of the model, seconds.
        hop_s: seconds between windows.
        gate: knows the microphone's noise already; a new one if left out.
        keep_s: how much sound stays in the ring at least, seconds.
        denoise: whether the model hears the sound through RNNoise. It alone does: patterns, levels, the gate,
            onsets and recordings are of the sound as it came. A denoiser for speech would take the beeps of
            an alarm for noise, and would make a floor of silence over which everything is loud; and a
            recording is to show what there was.

    Raises:
        ConfigurationError: it is to be denoised, which cannot be done here.
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        window_s: float,
        hop_s: float,
        gate: NoiseGate | None = None,
        keep_s: float = 0.0,
        denoise: bool = False,
    ) -> None:
        self._window_s = window_s
        self._hop_s = hop_s
        self.ring = RingBuffer(sample_rate, max(keep_s, window_s + 2 * PIECE_S))
        self.gate = gate or NoiseGate()
        self._denoiser = Denoiser(sample_rate) if denoise else None
        # What the model hears, sample for sample beside the other.
        self._clean = RingBuffer(sample_rate, window_s + _CLEAN_S) if denoise else self.ring
        self._decoder = PatternDecoder(sample_rate)
        self._cutter = WindowCutter(sample_rate, window_s=window_s, hop_s=hop_s)

    def reshape(self, *, window_s: float, hop_s: float) -> None:
        """Change the length of windows or the hop without losing the stream."""
        self._window_s, self._hop_s = window_s, hop_s
        self._cutter.reshape(window_s=window_s, hop_s=hop_s)

    def take(
        self, samples: NDArray[np.float32], reporting: Callable[[], bool] = _never
    ) -> Iterator[Heard | DecodedPattern]:
        """Take the next ``(n,)`` samples; in which portions they come changes nothing.

        Args:
            samples: full scale -1..1.
            reporting: says whether an event is going on of which windows must tell when it ends.

        Yields:
            Patterns as they are decoded or stop, and windows as they become due. ``samples`` has their sound
            until the next one is asked for.
        """
        for piece in self.pieces(samples):
            self.ring.append(piece)
            if self._denoiser is not None:
                self._clean.append(self._denoiser.take(piece))
            yield from self._decoder.feed(piece)
            for window in self._cutter.advance(piece):
                yield Heard(window, self.gate.admits(window, reporting=reporting()))

    def pieces(self, samples: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Cut sound into pieces so short that the ring does not forget a window before it is taken.

        Blocks of a resampler are some samples longer or shorter: what is left over is no piece of its own.
        """
        size = round(PIECE_S * self.ring.sample_rate)
        start = 0
        while len(samples) - start > _LONGEST_PIECE * size:
            yield samples[start : start + size]
            start += size
        if start < len(samples):
            yield samples[start:]

    def finish(self, reporting: Callable[[], bool] = _never, *, tail_s: float = 0.0) -> Iterator[Heard]:
        """End the stretch with a window up to its end, if there is none.

        Args:
            reporting: as for ``take``.
            tail_s: so long go windows on after the end, with less and less of the sound in them, as if quiet
                followed. It is the model that fills them up: noise that breaks off in digital silence would
                sound like a crash.
        """
        ends_s = [0.0] if self._cutter.uncut_s else []
        ends_s += [number * self._hop_s for number in range(1, int(tail_s / self._hop_s + 1e-9) + 1)]
        for after_s in ends_s:
            if not after_s or self._window_s - after_s >= SHORTEST_S:
                window = self._cutter.last(after_s)
                yield Heard(window, self.gate.admits(window, reporting=reporting()))

    @property
    def level_dbfs(self) -> float:
        """RMS level of the last half second, without DC and hum."""
        return self._cutter.level_dbfs(_LEVEL_S)

    def wipe(self) -> None:
        """Forget the sound."""
        self.ring.wipe()
        self._clean.wipe()

    def samples(self, window: Window) -> NDArray[np.float32]:
        """Copy out the sound of a window as the model is to hear it, as far as there is any.

        Raises:
            AudioError: it is no longer held.
        """
        rate, total = self.ring.sample_rate, self.ring.total_samples
        first, last = round(window.start_s * rate), round(window.end_s * rate)
        return self._clean.read(min(first, total), min(last, total))
