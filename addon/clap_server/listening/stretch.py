"""An unbroken stretch of one microphone's stream, from the first sample to the last."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from clap_server.detection.detector import Detector
from clap_server.detection.front import Front, Heard
from clap_server.listening.clock import StreamClock
from clap_server.listening.reporter import RING_S, EventReporter
from clap_server.listening.room.gathering import Gathering
from clap_server.listening.traces import Traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clap_server.audio.block import AudioBlock
    from clap_server.detection.gate import NoiseGate
    from clap_server.detection.patterns import DecodedPattern
    from clap_server.listening.events import ClipWithheld
    from clap_server.listening.plan import Plan
    from clap_server.listening.room.gathering import Ear
    from clap_server.listening.sink import ListeningSink

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
        on_check: see ``EventReporter``.
        ear: gets the room's everyday sound; None if nothing is to be learnt of it.
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
        on_check: Callable[[str | None], None],
        ear: Ear | None = None,
    ) -> None:
        self._microphone_id = microphone_id
        self.sample_rate = sample_rate
        self._gate = gate
        self._sink = sink
        self.front = Front(
            sample_rate,
            window_s=window_s,
            hop_s=plan.hop_s,
            gate=gate,
            keep_s=RING_S,
            denoise=plan.denoise,
        )
        self.clock = StreamClock()
        self.detector = Detector(plan.labels, hop_s=plan.hop_s)
        self.traces = Traces(hop_s=plan.hop_s, denoise=plan.denoise)
        self.reporter = EventReporter(
            microphone_id,
            self.front.ring,
            self.clock,
            sink,
            gate,
            self.traces,
            settings=plan.recording,
            on_check=on_check,
        )
        self.gathering = Gathering(ear, self.clock, hop_s=plan.hop_s)
        self._level_due = round(_LEVEL_EVERY_S * sample_rate)
        self._gated = True
        self._taken_at = time.monotonic()

    def take(self, block: AudioBlock) -> Iterator[Heard | DecodedPattern]:
        """Take the next block.

        Yields:
            Windows as they become due, and whether each is worth scoring; patterns as they are decoded.
        """
        self._taken_at = time.monotonic()
        self.clock.observe(self.length_s + block.duration_s, block.captured_at)
        for piece in self.front.pieces(block.samples):
            for heard in self.front.take(piece, self._reporting):
                if isinstance(heard, Heard):
                    self._gated = not heard.admitted
                yield heard
            self.reporter.keep()
            self._tell_level()

    def wipe(self, reason: ClipWithheld) -> None:
        """Forget the sound; what would have been recorded of it is withheld."""
        self.reporter.withhold(reason)
        self.gathering.wipe()
        self.front.wipe()

    @property
    def length_s(self) -> float:
        """How long it is by now, seconds."""
        return self.front.ring.total_samples / self.sample_rate

    @property
    def now_s(self) -> float:
        """Stream time by the clock on the wall, which goes on where no sound comes."""
        return self.length_s + time.monotonic() - self._taken_at

    def _reporting(self) -> bool:
        return self.detector.reporting

    def _tell_level(self) -> None:
        total = self.front.ring.total_samples
        if total >= self._level_due:
            self._level_due += round(_LEVEL_EVERY_S * self.sample_rate)
            self._sink.level(
                self._microphone_id,
                self.clock.utc(total / self.sample_rate),
                self.front.level_dbfs,
                self._gate.floor_dbfs,
                self._gated,
            )
