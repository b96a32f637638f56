"""An unbroken stretch of one microphone's stream, from the first sample to the last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clap_server.audio.level import level_dbfs
from clap_server.audio.ring import RingBuffer
from clap_server.detection.detector import Detector
from clap_server.detection.windows import WindowCutter
from clap_server.listening.clock import StreamClock
from clap_server.listening.reporter import RING_S, EventReporter

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from clap_server.audio.block import AudioBlock
    from clap_server.detection.gate import NoiseGate
    from clap_server.detection.windows import Window
    from clap_server.listening.plan import Plan
    from clap_server.listening.sink import ListeningSink

# Blocks of any length are taken in pieces of this, so that gate and onsets do not depend on the source.
_PIECE_S = 0.1
_LEVEL_EVERY_S = 0.5


class Stretch:
    """Holds what belongs to one stretch: a gap in the stream begins another one.

    So no window, event or recording ever joins sound from before and after a gap.

    Args:
        microphone_id: whose stream it is.
        plan: what is listened for.
        sample_rate: in Hz.
        window_s: of the model, seconds.
        gate: outlives the stretch, because the room does.
        sink: gets levels and events.
    """

    def __init__(
        self,
        microphone_id: str,
        plan: Plan,
        *,
        sample_rate: int,
        window_s: float,
        gate: NoiseGate,
        sink: ListeningSink,
    ) -> None:
        self._microphone_id = microphone_id
        self.sample_rate = sample_rate
        self._gate = gate
        self._sink = sink
        self._ring = RingBuffer(sample_rate, RING_S)
        self.cutter = WindowCutter(self._ring, window_s=window_s, hop_s=plan.hop_s)
        self.clock = StreamClock()
        self.detector = Detector(plan.labels, hop_s=plan.hop_s)
        self.reporter = EventReporter(microphone_id, self._ring, self.clock, sink)
        self._level_due = round(_LEVEL_EVERY_S * sample_rate)
        self._gated = True

    def take(self, block: AudioBlock) -> Iterator[tuple[Window, bool]]:
        """Take the next block.

        Yields:
            Windows as they become due, and whether each is worth scoring.
        """
        end = self._ring.total_samples + len(block.samples)
        self.clock.observe(end / self.sample_rate, block.captured_at)
        size = round(_PIECE_S * self.sample_rate)
        for start in range(0, len(block.samples), size):
            yield from self._take_piece(block.samples[start : start + size])

    def _take_piece(self, piece: NDArray[np.float32]) -> Iterator[tuple[Window, bool]]:
        self._ring.append(piece)
        self.reporter.keep()
        reporting = bool(self.detector.active)
        self._gate.update(level_dbfs(piece), len(piece) / self.sample_rate, reporting=reporting)
        for window in self.cutter.advance():
            admitted = self._gate.admits(window, reporting=reporting)
            self._gated = not admitted
            yield window, admitted
        if self._ring.total_samples >= self._level_due:
            self._level_due = self._ring.total_samples + round(_LEVEL_EVERY_S * self.sample_rate)
            self._sink.level(
                self._microphone_id,
                self.clock.utc(self._ring.total_samples / self.sample_rate),
                level_dbfs(self._ring.last(round(_LEVEL_EVERY_S * self.sample_rate))),
                self._gate.floor_dbfs,
                self._gated,
            )
