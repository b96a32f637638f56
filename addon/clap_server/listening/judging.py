"""From one microphone's windows and patterns to its scores and events.

Windows are judged in the order of the stream, as the model answers. Patterns need no model and do not wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clap_server.audio.level import FLOOR_DBFS
from clap_server.detection.judgement import Decision
from clap_server.errors import ModelError
from clap_server.listening.batcher import WindowDroppedError, answer
from clap_server.listening.diary import Fate, WindowNote
from clap_server.listening.withholding import Withholding

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from clap_server.clap.model import ClapModel
    from clap_server.detection.detector import Detection
    from clap_server.detection.judgement import Judgement
    from clap_server.detection.patterns import DecodedPattern
    from clap_server.detection.scoring import LabelScorer, NearerText
    from clap_server.detection.windows import Window
    from clap_server.listening.condition import Condition
    from clap_server.listening.counters import Counters
    from clap_server.listening.diary import Diary, GateView
    from clap_server.listening.events import ClipWithheld
    from clap_server.listening.plan import Plan
    from clap_server.listening.sink import ListeningSink
    from clap_server.listening.stretch import Stretch

_LOGGER = logging.getLogger(__name__)

_TICK_S = 0.5
# When no window was judged for this long (the model hangs), events end by the clock on the wall. Longer than
# a stream may be silent before it counts as stalled.
_GRACE_S = 15.0
# Longest that the model may take for a window before the microphone's status says so.
_ANSWER_S = 30.0
# Windows that wait to be judged at most, if the model hangs for minutes; newer ones are dropped.
_LONGEST_QUEUE = 600


@dataclass(frozen=True, slots=True)
class Heard:
    """A window to judge; not scored if there is no embedding to come.

    That is because it is too quiet, or is left out as there are too many.
    """

    stretch: Stretch
    window: Window
    gate: GateView
    model: ClapModel
    scorer: LabelScorer
    embedding: asyncio.Future[NDArray[np.float32]] | None
    left_out: bool = False

    def note(self, fate: Fate, problem: str | None = None) -> WindowNote:
        """For the diary."""
        ended_at = self.stretch.clock.utc(self.window.end_s)
        return WindowNote(
            self.window, ended_at, self.gate, fate, self.stretch.detector.watched, problem=problem
        )


@dataclass(frozen=True, slots=True)
class Gap:
    """The stretch is over."""

    stretch: Stretch


@dataclass(frozen=True, slots=True)
class Change:
    """Other labels from here on."""

    stretch: Stretch
    plan: Plan


class Judging:
    """Waits for the model's answers, runs the detector and tells the sink.

    Args:
        microphone_id: for the sink.
        sink: gets scores and events.
        counters: are counted up.
        condition: is told how the model does.
        diary: is told what became of each window.
    """

    def __init__(
        self,
        microphone_id: str,
        *,
        sink: ListeningSink,
        counters: Counters,
        condition: Condition,
        diary: Diary,
    ) -> None:
        self._id = microphone_id
        self._sink = sink
        self._counters = counters
        self._condition = condition
        self._diary = diary
        self.withholding = Withholding()
        self._queue: asyncio.Queue[Heard | Gap | Change] = asyncio.Queue()
        self._report_lock = asyncio.Lock()
        # Mostly one: while the model is late, patterns of the next may be known already.
        self._stretches: list[Stretch] = []
        self._telling: set[asyncio.Future[None]] = set()
        self._judged_s = 0.0
        self._judged_at = time.monotonic()
        self._asked_at: float | None = None
        self._scores_told = False
        self._wiped = False

    @property
    def active(self) -> frozenset[str]:
        """Ids of labels of which an event is going on."""
        return self.heard - self.withholding.labels

    @property
    def heard(self) -> frozenset[str]:
        """The same, with what a self-test found."""
        return frozenset().union(*(stretch.detector.active for stretch in self._stretches))

    @property
    def is_full(self) -> bool:
        """Whether too many windows wait already."""
        return self._queue.qsize() >= _LONGEST_QUEUE

    def put(self, item: Heard | Gap | Change) -> None:
        """Take what comes next in the stream."""
        if isinstance(item, Gap):
            # If the model hangs nothing else would end them.
            item.stretch.detector.forget_patterns()
        self._queue.put_nowait(item)

    def take_pattern(self, stretch: Stretch, pattern: DecodedPattern) -> None:
        """Take a pattern that was decoded or stopped; it is judged at once."""
        self._enter(stretch)
        self._tell_soon(stretch, stretch.detector.take_pattern(pattern), stretch.now_s)

    async def run(self) -> None:
        """Judge until cancelled."""
        while True:
            item = await self._queue.get()
            stretch = item.stretch
            self._enter(stretch)
            match item:
                case Gap():
                    self._tell_quiet(stretch, self._judged_s, FLOOR_DBFS)
                    stretch.reporter.stream_is_over()
                    detections = stretch.detector.finish(stretch.length_s)
                    stretch.gathering.finish()
                    self._stretches.remove(stretch)
                case Change():
                    stretch.reporter.settings = item.plan.recording
                    detections = stretch.detector.change(item.plan.labels, hop_s=item.plan.hop_s)
                    stretch.gathering.change(hop_s=item.plan.hop_s)
                    stretch.traces.hop_s = item.plan.hop_s
                case Heard():
                    detections = await self._detect(item)
                    # Nothing is awaited in between: the clock must never run on the time of another stretch.
                    self._judged_s = item.window.end_s
            self._judged_at = time.monotonic()
            await self._report(stretch, detections, self._judged_s)
            self._tell_recordings_soon(stretch)

    async def keep_time(self) -> None:
        """Let time pass for events when no window is judged, until cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            if self._asked_at is not None and now - self._asked_at > _ANSWER_S:
                self._condition.model_fails(ModelError(f"the model has not answered for {_ANSWER_S:g} s"))
            for stretch in self._stretches:
                self._tell_recordings_soon(stretch)
            if now - self._judged_at > _GRACE_S:
                for stretch in [stretch for stretch in self._stretches if stretch.detector.active]:
                    await self._report(stretch, stretch.detector.tick(stretch.now_s), stretch.now_s)

    async def finish(self) -> None:
        """End what is going on, because listening stops, and forget the stream."""
        stretches, self._stretches = self._stretches, []
        while not self._queue.empty():
            self._queue.get_nowait()
        for stretch in stretches:
            stretch.reporter.stream_is_over()
            self._tell_soon(stretch, stretch.detector.finish(stretch.length_s), stretch.length_s)
            self._tell_recordings_soon(stretch)
            stretch.gathering.finish()
        self.withholding.stop()
        if self._telling:
            await _completed(self._telling)

    def wipe(self, reason: ClipWithheld) -> None:
        """Forget the sound of all that waits; ``reason`` is why events have no recording."""
        self._wiped = True
        waiting: list[Heard | Gap | Change] = []
        while not self._queue.empty():
            waiting.append(self._queue.get_nowait())
        for stretch in dict.fromkeys([*self._stretches, *(item.stretch for item in waiting)]):
            stretch.wipe(reason)
            self._enter(stretch)

    def _enter(self, stretch: Stretch) -> None:
        if stretch not in self._stretches:
            self._stretches.append(stretch)

    async def _detect(self, item: Heard) -> list[Detection]:
        stretch, window = item.stretch, item.window
        if item.left_out:
            self._counters.dropped += 1
            self._diary.note(item.note(Fate.DROPPED))
            return stretch.detector.tick(window.end_s)
        if item.embedding is None:
            self._diary.note(item.note(Fate.GATED))
            self._tell_quiet(stretch, window.end_s, window.level_dbfs)
            self._gather(item, None)
            return stretch.detector.update(window, {})
        self._asked_at = time.monotonic()
        try:
            embedding = await answer(item.embedding)
        finally:
            self._asked_at = None
        if self._wiped:
            # The microphone was muted while the model was asked: nothing of the sound is told any more.
            return stretch.detector.tick(window.end_s)
        if isinstance(embedding, WindowDroppedError):
            self._counters.dropped += 1
            self._diary.note(item.note(Fate.DROPPED))
            self._condition.windows_were(lost=True, hop_s=stretch.detector.hop_s)
            return stretch.detector.tick(window.end_s)
        if isinstance(embedding, ModelError):
            self._counters.failed += 1
            self._diary.note(item.note(Fate.FAILED, str(embedding)))
            self._condition.model_fails(embedding)
            return stretch.detector.tick(window.end_s)
        values = item.scorer.scores(embedding[None])[0]
        scores = dict(zip(item.scorer.label_ids, map(float, values), strict=True))
        self._counters.scored += 1
        self._condition.windows_were(lost=False, hop_s=stretch.detector.hop_s)
        self._condition.model_works()
        self._sink.scores(self._id, stretch.clock.utc(window.end_s), scores, window.level_dbfs)
        self._scores_told = True
        self._gather(item, embedding)
        detections = stretch.detector.update(window, scores)
        watched = stretch.detector.watched
        stretch.traces.take(item.scorer.made_for, embedding, scores, watched, detections)
        judgements = tuple(stretch.detector.judgements(window, scores))
        self._diary.note(
            replace(
                item.note(Fate.SCORED),
                label_ids=item.scorer.label_ids,
                scores=values,
                judgements=judgements,
                tested=self.withholding.tested,
                nearer=texts_nearer(item.scorer, embedding, judgements),
            )
        )
        return detections

    def _gather(self, item: Heard, embedding: NDArray[np.float32] | None) -> None:
        """Let the room teach; what turns out to be an event is taken out again."""
        tested = bool(self.withholding.tested)
        item.stretch.gathering.take(item.window, embedding, item.model, tested=tested)

    def _tell_quiet(self, stretch: Stretch, at_s: float, level_dbfs: float) -> None:
        """Say once that nothing is scored any more."""
        if self._scores_told:
            self._scores_told = False
            self._sink.scores(self._id, stretch.clock.utc(at_s), {}, level_dbfs)

    async def _report(self, stretch: Stretch, detections: Sequence[Detection], now_s: float) -> None:
        telling = self._tell_soon(stretch, detections, now_s)
        if telling is not None:
            await _completed([telling])

    def _tell_soon(
        self, stretch: Stretch, detections: Sequence[Detection], now_s: float
    ) -> asyncio.Future[None] | None:
        """Tell in the background, in the order of the calls."""
        stretch.gathering.heard(detections)
        detections = self.withholding.pass_on(detections, now_s)
        if not detections:
            return None
        telling = asyncio.ensure_future(self._tell_events(stretch, detections))
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)
        return telling

    def _tell_recordings_soon(self, stretch: Stretch) -> None:
        """In the background, for those that wait for nothing any more: their events are told already."""
        if stretch.reporter.recordings_are_due:
            telling = asyncio.ensure_future(self._tell_recordings(stretch))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    async def _tell_recordings(self, stretch: Stretch) -> None:
        try:
            await stretch.reporter.tell_recordings()
        except Exception:
            _LOGGER.exception("%s: a recording could not be told", self._id)

    async def _tell_events(self, stretch: Stretch, detections: Sequence[Detection]) -> None:
        async with self._report_lock:
            for detection in detections:
                try:
                    await stretch.reporter.report(detection)
                except Exception:
                    # The others must still be told: without its end an event would stick.
                    _LOGGER.exception("%s: an event could not be told", self._id)


async def _completed(telling: Collection[asyncio.Future[None]]) -> None:
    """Wait, also when listening is cancelled now: a start without its end would stick."""
    waiting = asyncio.ensure_future(asyncio.wait(telling))
    try:
        await asyncio.shield(waiting)
    except asyncio.CancelledError:
        await asyncio.wait([waiting])
        raise


def texts_nearer(
    scorer: LabelScorer, embedding: NDArray[np.float32], judgements: Sequence[Judgement]
) -> dict[str, NearerText]:
    """For people who ask why labels that came near stayed under their thresholds."""
    found = {
        each.watched.label.id: scorer.nearer_text(embedding, each.watched.label.id)
        for each in judgements
        if each.decision is Decision.UNDER_THRESHOLD
    }
    return {label_id: text for label_id, text in found.items() if text is not None}
