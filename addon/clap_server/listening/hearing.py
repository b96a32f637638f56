"""From one microphone's source to windows that wait to be judged."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from clap_server.audio.reconnect import ReconnectingSource
from clap_server.audio.source import SourceState
from clap_server.detection.gate import NoiseGate
from clap_server.detection.patterns import DecodedPattern
from clap_server.detection.temporal import sustains
from clap_server.detection.windows import EXTRA_DELAYS_S
from clap_server.listening.diary import Fate, GateView, MomentKind
from clap_server.listening.judging import Change, Gap, Heard
from clap_server.listening.self_test import SelfTestError
from clap_server.listening.shadow import Shadow
from clap_server.listening.silence import Silence
from clap_server.listening.stretch import Stretch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clap_server.audio.block import AudioBlock
    from clap_server.audio.source import AudioSource, SourceStatus
    from clap_server.detection.labels import WatchedLabel
    from clap_server.detection.windows import Window
    from clap_server.listening.batcher import Batcher
    from clap_server.listening.condition import Condition
    from clap_server.listening.counters import Counters
    from clap_server.listening.diary import Diary
    from clap_server.listening.events import ClipWithheld
    from clap_server.listening.judging import Judging
    from clap_server.listening.room.gathering import Ear
    from clap_server.listening.scoring import ScoringKeeper
    from clap_server.listening.sink import ListeningSink

# Bursts (HLS) are held back a little rather than dropped, when this many windows are under way.
_UNDER_WAY = 3
# When others wait for the model too, sound that is so late is not heard any more, until it is fresh again:
# better a gap, and then the present, than to be ever further behind.
_LATE_S = 2.0
# For so long after an onset its windows come, as they do without an overload.
_RISEN_S = EXTRA_DELAYS_S[-1] + 0.1
_FRESH_S = 0.5


class Hearing:
    """Takes a source's sound, cuts it into stretches and windows, and asks the model about them.

    Args:
        microphone_id: for the sink and the batcher.
        source: of the sound; reconnected as often as needed.
        scoring: has the model and the plan.
        batcher: runs the model.
        judging: is handed the windows.
        sink: is told levels.
        counters: are counted up.
        condition: is told how the source is.
        diary: is told of what is missing.
        ear: is told of the room's everyday sound, if it is to be.
    """

    def __init__(
        self,
        microphone_id: str,
        source: AudioSource,
        *,
        scoring: ScoringKeeper,
        batcher: Batcher,
        judging: Judging,
        sink: ListeningSink,
        counters: Counters,
        condition: Condition,
        diary: Diary,
        ear: Ear | None = None,
    ) -> None:
        self._id = microphone_id
        self._ear = ear
        self._source = source
        self._scoring = scoring
        self._batcher = batcher
        self._judging = judging
        self._sink = sink
        self._counters = counters
        self._condition = condition
        self._diary = diary
        self._gate = NoiseGate()
        self._stretch: Stretch | None = None
        self._shadow: Shadow | None = None
        self._under_way: list[asyncio.Future[NDArray[np.float32]]] = []
        self._silence = Silence()
        self._shedding = False
        self._lost_s = 0.0
        self._wiped = False
        self._asked: tuple[Stretch, float] | None = None

    async def run(self) -> None:
        """Listen until the source ends for good."""
        source = ReconnectingSource(self._source, self._on_status)
        while True:
            rate = self._scoring.present.model.sample_rate
            blocks = source.blocks(rate)
            try:
                async for block in blocks:
                    if self._scoring.present.model.sample_rate != rate:
                        break
                    await self._take(block)
                    # Sources that have much at once must not keep the others waiting.
                    await asyncio.sleep(0)
                else:
                    return
            finally:
                await blocks.aclose()
                self._end_stretch()

    def forget(self) -> None:
        """Let go of the stream."""
        self._stretch = self._asked = None
        self._break_shadow()
        self._under_way.clear()

    def wipe(self, reason: ClipWithheld) -> None:
        """Forget the sound at once and take no more; ``reason`` is why events have no recording."""
        self._wiped = True
        if self._stretch is not None:
            self._stretch.wipe(reason)
        self.forget()

    def _is_wiped(self) -> bool:
        return self._wiped

    def begin_shadow(self, watched: WatchedLabel, sound: NDArray[np.float32]) -> Shadow:
        """Hear the stream a second time, with a sound in it, until ``end_shadow``.

        Raises:
            SelfTestError: there is no stream.
        """
        stretch = self._stretch
        if stretch is None or stretch.sample_rate != self._scoring.present.model.sample_rate:
            raise SelfTestError("not_listening", "No sound comes at the moment; try again when it does")
        shadow = self._shadow = Shadow(
            self._id,
            stretch,
            self._gate,
            scoring=self._scoring.present,
            watched=watched,
            hop_s=self._scoring.plan.hop_s,
            sound=sound,
            batcher=self._batcher,
            denoise=self._scoring.plan.denoise,
        )
        return shadow

    def end_shadow(self) -> None:
        """Let go of the second hearing."""
        self._shadow = None

    @property
    def noise_floor_dbfs(self) -> float:
        """Of the microphone."""
        return self._gate.floor_dbfs

    def replan(self) -> None:
        """Go on with the present plan."""
        self.reshape()
        if self._stretch is not None:
            self._judging.put(Change(self._stretch, self._scoring.plan))

    def reshape(self) -> None:
        """Cut windows as the present model and plan want them."""
        stretch = self._stretch
        if stretch is not None and stretch.sample_rate == (model := self._scoring.present.model).sample_rate:
            stretch.front.reshape(window_s=model.window_s, hop_s=self._scoring.plan.hop_s)

    def _on_status(self, status: SourceStatus) -> None:
        if status.state is not SourceState.LISTENING:
            self._end_stretch()
            self._silence.begin()
        self._condition.source_is(status)
        if status.state is not SourceState.LISTENING:
            self._condition.silent_is(False)

    def _end_stretch(self) -> None:
        if self._stretch is not None:
            self._judging.put(Gap(self._stretch))
            self._stretch = self._asked = None
        self._condition.health.break_off()
        self._break_shadow()

    def _break_shadow(self) -> None:
        if self._shadow is not None:
            self._shadow.break_off()
            self._shadow = None

    async def _take(self, block: AudioBlock) -> None:
        if self._is_wiped():
            return
        if block.after_gap:
            self._note(MomentKind.GAP, "gap: sound is missing in the stream", block)
            self._end_stretch()
        self._condition.health.take(block)
        self._condition.health_may_differ()
        self._lose(block.dropped_s, block)
        if self._is_too_late(block):
            self._end_stretch()
            self._lose(block.duration_s, block)
            return
        if self._stretch is None:
            self._stretch = Stretch(
                self._id,
                self._scoring.plan,
                sample_rate=block.sample_rate,
                window_s=self._scoring.present.model.window_s,
                gate=self._gate,
                sink=self._sink,
                on_check=self._condition.speech_check_is,
                ear=self._ear,
            )
        stretch = self._stretch
        if self._shadow is not None:
            self._under_way += self._shadow.take(block)
        for heard in stretch.take(block):
            if self._is_wiped():
                return
            if isinstance(heard, DecodedPattern):
                self._judging.take_pattern(stretch, heard)
                continue
            window, admitted = heard
            self._condition.health.heard(window, admitted=admitted)
            self._condition.silent_is(self._silence.take(window.piece_levels_dbfs))
            self._hand_over(stretch, window, admitted=admitted)
            self._under_way = [future for future in self._under_way if not future.done()]
            if len(self._under_way) >= _UNDER_WAY:
                await asyncio.wait(self._under_way[:1], timeout=self._scoring.plan.hop_s / 2)

    def _hand_over(self, stretch: Stretch, window: Window, *, admitted: bool) -> None:
        gate = GateView.of(self._gate, reporting=bool(stretch.detector.active))
        scoring = self._scoring.present
        embedding = None
        left_out = self._leaves_out(stretch, window) and admitted
        if self._judging.is_full:
            self._diary.note(
                Heard(stretch, window, gate, scoring.model, scoring.scorer, None).note(Fate.DROPPED)
            )
            self._count_lost(1)
            return
        if admitted and not left_out:
            # A window may have been cut for a model that came in the meantime.
            longest = round(scoring.model.window_s * stretch.sample_rate)
            front = stretch.front
            embedding = self._batcher.submit(
                self._id, scoring.model, lambda: front.samples(window)[-longest:]
            )
            self._under_way.append(embedding)
            self._asked = stretch, window.end_s
        elif not admitted:
            self._counters.gated += 1
            self._condition.windows_were(lost=False, hop_s=self._scoring.plan.hop_s)
        self._judging.put(Heard(stretch, window, gate, scoring.model, scoring.scorer, embedding, left_out))

    def _leaves_out(self, stretch: Stretch, window: Window) -> bool:
        """Whether a window gives way to those of others; never just after something rose suddenly."""
        hop_s = self._scoring.plan.hop_s
        every_s = self._batcher.pace.every * hop_s
        if not sustains(hop_s=hop_s, every_s=every_s):
            every_s = hop_s
        self._condition.hop_is(every_s, wanted_s=hop_s)
        if every_s == hop_s or self._asked is None or self._asked[0] is not stretch:
            return False
        risen = bool(window.onsets_s) and window.end_s - window.onsets_s[-1] < _RISEN_S
        # Windows after an onset cut hops unevenly.
        return not risen and window.end_s - self._asked[1] < every_s - hop_s / 4

    def _is_too_late(self, block: AudioBlock) -> bool:
        late_s = time.time() - block.captured_at
        if self._shedding:
            self._shedding = late_s > _FRESH_S
        else:
            self._shedding = late_s > _LATE_S and self._batcher.crowded
        return self._shedding

    def _note(self, kind: MomentKind, words: str, block: AudioBlock) -> None:
        """Remember what happened where a block begins."""
        began_at = datetime.fromtimestamp(block.captured_at - block.duration_s, UTC)
        self._diary.happened(kind, words, began_at)

    def _lose(self, seconds: float, block: AudioBlock) -> None:
        """Count sound at or before a block that nobody heard, in windows."""
        self._lost_s += seconds
        hop_s = self._scoring.plan.hop_s
        count = int(self._lost_s / hop_s + 1e-9)
        if count:
            self._lost_s -= count * hop_s
            lost = f"not scored: {count * hop_s:.1f} s of sound were lost, the computer was too slow"
            self._note(MomentKind.LOST, lost, block)
            self._count_lost(count)

    def _count_lost(self, count: int) -> None:
        self._counters.dropped += count
        self._condition.windows_were(lost=True, count=count, hop_s=self._scoring.plan.hop_s)
