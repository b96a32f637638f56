"""One microphone's life: source, windows, gate, model, scores, events."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from clap_server.audio.level import FLOOR_DBFS
from clap_server.audio.reconnect import ReconnectingSource
from clap_server.audio.source import SourceState, SourceStatus
from clap_server.detection.gate import NoiseGate
from clap_server.detection.scoring import LabelScorer
from clap_server.errors import ClapServerError, ModelError
from clap_server.listening.batcher import WindowDroppedError
from clap_server.listening.stretch import Stretch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from clap_server.audio.block import AudioBlock
    from clap_server.audio.source import AudioSource
    from clap_server.clap.holder import ModelHolder
    from clap_server.clap.model import ClapModel
    from clap_server.detection.detector import Detection
    from clap_server.detection.labels import Label
    from clap_server.detection.windows import Window
    from clap_server.listening.batcher import Batcher
    from clap_server.listening.plan import Plan
    from clap_server.listening.sink import ListeningSink

_LOGGER = logging.getLogger(__name__)

# Bursts (HLS) are held back a little rather than dropped, when this many windows are under way.
_UNDER_WAY = 3
_TICK_S = 0.5
# When no window was judged for this long (the model hangs), events end by the clock on the wall. Longer than
# a stream may be silent before it counts as stalled.
_GRACE_S = 15.0
# Longest that the model may take for a window before the microphone's status says so.
_ANSWER_S = 30.0
# Windows that wait to be judged at most, if the model hangs for minutes; newer ones are dropped.
_LONGEST_QUEUE = 600
_NOTHING = np.empty(0, np.float32)
STARTING = SourceStatus(SourceState.CONNECTING, "connecting", "starting")


@dataclass(slots=True)
class Counters:
    """Windows of a microphone since the server started."""

    scored: int = 0
    gated: int = 0
    dropped: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Scoring:
    """A model with the scorer that it made for some labels and negatives."""

    model: ClapModel
    labels: tuple[Label, ...]
    negatives: tuple[str, ...]
    scorer: LabelScorer

    def serves(self, model: ClapModel, plan: Plan) -> bool:
        """Whether it is of this model and for what this plan listens for."""
        return self.model is model and (self.labels, self.negatives) == (_labels(plan), plan.negatives)


def _labels(plan: Plan) -> tuple[Label, ...]:
    return tuple(watched.label for watched in plan.labels)


@dataclass(frozen=True, slots=True)
class _Heard:
    """A window to judge, without its samples: not scored if there is no embedding to come."""

    stretch: Stretch
    window: Window
    scorer: LabelScorer
    embedding: asyncio.Future[NDArray[np.float32]] | None


@dataclass(frozen=True, slots=True)
class _Gap:
    """The stretch is over."""

    stretch: Stretch


@dataclass(frozen=True, slots=True)
class _Change:
    """Other labels from here on."""

    stretch: Stretch
    plan: Plan


class MicrophoneListener:
    """Listens to one source until it is cancelled.

    Args:
        microphone_id: for the sink and the batcher.
        source: of the sound; reconnected as often as needed.
        plan: what to listen for.
        background: the label library's background prompts.
        holder: has the model, now and after it changed.
        batcher: runs it.
        sink: gets everything that is learnt.
        counters: are counted up.
        on_status: is called with the state of the sound, also when it did not change.
    """

    def __init__(
        self,
        microphone_id: str,
        source: AudioSource,
        plan: Plan,
        *,
        background: Sequence[str],
        holder: ModelHolder,
        batcher: Batcher,
        sink: ListeningSink,
        counters: Counters,
        on_status: Callable[[SourceStatus], None],
    ) -> None:
        self._id = microphone_id
        self._source = source
        self._plan = plan
        self._background = background
        self._holder = holder
        self._batcher = batcher
        self._sink = sink
        self._counters = counters
        self._gate = NoiseGate()
        self._scoring: Scoring | None = None
        self._report_lock = asyncio.Lock()
        self._stretch: Stretch | None = None
        self._queue: asyncio.Queue[_Heard | _Gap | _Change] = asyncio.Queue()
        self._under_way: list[asyncio.Future[NDArray[np.float32]]] = []
        self._outdated = asyncio.Event()
        self._judged_stretch: Stretch | None = None
        self._judged_s = 0.0
        self._judged_at = time.monotonic()
        self._asked_at: float | None = None
        self._scores_told = False
        self._source_status = STARTING
        self._failing = False
        self._on_change = on_status

    @property
    def active(self) -> frozenset[str]:
        """Ids of labels of which an event is going on."""
        stretch = self._judged_stretch
        return stretch.detector.active if stretch is not None else frozenset()

    async def run(self) -> None:
        """Listen until cancelled; whatever is going on then ends.

        Raises:
            ExceptionGroup: something broke that the owner should know of and try again.
        """
        unsubscribe = self._holder.subscribe(self._outdated.set)
        try:
            await self._use()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen())
                tasks.create_task(self._judge())
                tasks.create_task(self._keep_time())
                tasks.create_task(self._follow_model())
        finally:
            unsubscribe()
            for future in self._under_way:
                future.cancel()
            for stretch in (self._judged_stretch, self._stretch):
                if stretch is not None:
                    await self._report(stretch, stretch.detector.finish())

    async def prepare(self, plan: Plan) -> Scoring:
        """Have the present model embed the texts of a plan; nothing is changed.

        Raises:
            ModelError: it cannot.
        """
        model, scoring = self._holder.model, self._scoring
        if scoring is not None and scoring.serves(model, plan):
            return scoring
        labels = _labels(plan)
        scorer = await self._batcher.run(lambda: LabelScorer(model, labels, self._background, plan.negatives))
        return Scoring(model, labels, plan.negatives, scorer)

    def change(self, plan: Plan, scoring: Scoring | None) -> None:
        """Listen for other labels, or with other thresholds, without losing the stream.

        Args:
            plan: in force from here on.
            scoring: as ``prepare`` gave it; without it, the labels before are scored until it is made.
        """
        self._plan = plan
        if scoring is not None:
            self._scoring = scoring
        if self._scoring is None or not self._scoring.serves(self._holder.model, plan):
            self._outdated.set()
        self._reshape()
        if self._stretch is not None:
            self._queue.put_nowait(_Change(self._stretch, plan))

    async def _use(self) -> None:
        """Have a scorer of the present model for the present plan, whichever changes meanwhile."""
        while self._scoring is None or not self._scoring.serves(self._holder.model, self._plan):
            plan = self._plan
            scoring = await self.prepare(plan)
            if scoring.serves(self._holder.model, self._plan):
                self._scoring = scoring
        self._reshape()

    def _reshape(self) -> None:
        """Cut windows as the present model and plan want them."""
        model, stretch = self._holder.model, self._stretch
        if stretch is not None and stretch.sample_rate == model.sample_rate:
            stretch.cutter.reshape(window_s=model.window_s, hop_s=self._plan.hop_s)

    async def _follow_model(self) -> None:
        while True:
            await self._outdated.wait()
            self._outdated.clear()
            try:
                await self._use()
            except ModelError as error:
                self._model_fails(error)

    @property
    def _ready(self) -> Scoring:
        if self._scoring is None:
            raise ModelError("the labels are not embedded yet")
        return self._scoring

    async def _listen(self) -> None:
        source = ReconnectingSource(self._source, self._on_status)
        while True:
            rate = self._ready.model.sample_rate
            blocks = source.blocks(rate)
            try:
                async for block in blocks:
                    if self._ready.model.sample_rate != rate:
                        break
                    await self._take(block)
                    # Sources that have much at once must not keep the others waiting.
                    await asyncio.sleep(0)
                else:
                    self._end_stretch()
                    return
            finally:
                await blocks.aclose()
            self._end_stretch()

    async def _take(self, block: AudioBlock) -> None:
        if self._stretch is None:
            self._stretch = Stretch(
                self._id,
                self._plan,
                sample_rate=block.sample_rate,
                window_s=self._ready.model.window_s,
                gate=self._gate,
                sink=self._sink,
            )
        stretch, scoring = self._stretch, self._ready
        # A window may have been cut for a model that came in the meantime.
        longest = round(scoring.model.window_s * stretch.sample_rate)
        for window, admitted in stretch.take(block):
            if self._queue.qsize() >= _LONGEST_QUEUE:
                self._counters.dropped += 1
                continue
            embedding = None
            if admitted:
                embedding = self._batcher.submit(self._id, scoring.model, window.samples[-longest:])
                self._under_way.append(embedding)
            else:
                self._counters.gated += 1
            heard = replace(window, samples=_NOTHING)
            self._queue.put_nowait(_Heard(stretch, heard, scoring.scorer, embedding))
            self._under_way = [future for future in self._under_way if not future.done()]
            if len(self._under_way) >= _UNDER_WAY:
                await asyncio.wait(self._under_way[:1], timeout=self._plan.hop_s / 2)

    def _end_stretch(self) -> None:
        if self._stretch is not None:
            self._queue.put_nowait(_Gap(self._stretch))
            self._stretch = None

    def _on_status(self, status: SourceStatus) -> None:
        if status.state is not SourceState.LISTENING:
            self._end_stretch()
        self._source_status = status
        if not self._failing:
            self._on_change(status)

    async def _judge(self) -> None:
        while True:
            item = await self._queue.get()
            stretch = self._judged_stretch = item.stretch
            match item:
                case _Gap():
                    self._tell_quiet(stretch, self._judged_s, FLOOR_DBFS)
                    detections = stretch.detector.finish()
                case _Change():
                    detections = stretch.detector.change(item.plan.labels, hop_s=item.plan.hop_s)
                case _Heard():
                    detections = await self._detect(item)
                    # Nothing is awaited in between: the clock must never run on the time of another stretch.
                    self._judged_s = item.window.end_s
            self._judged_at = time.monotonic()
            await self._report(stretch, detections)

    async def _detect(self, item: _Heard) -> list[Detection]:
        stretch, window = item.stretch, item.window
        if item.embedding is None:
            self._tell_quiet(stretch, window.end_s, window.level_dbfs)
            return stretch.detector.update(window, {})
        self._asked_at = time.monotonic()
        try:
            embedding = await item.embedding
        except WindowDroppedError:
            self._counters.dropped += 1
            return stretch.detector.tick(window.end_s)
        except ModelError as error:
            self._counters.failed += 1
            self._model_fails(error)
            return stretch.detector.tick(window.end_s)
        finally:
            self._asked_at = None
        values = item.scorer.scores(embedding[None])[0]
        scores = dict(zip(item.scorer.label_ids, map(float, values), strict=True))
        self._counters.scored += 1
        self._model_works()
        self._sink.scores(self._id, stretch.clock.utc(window.end_s), scores, window.level_dbfs)
        self._scores_told = True
        return stretch.detector.update(window, scores)

    def _tell_quiet(self, stretch: Stretch, at_s: float, level_dbfs: float) -> None:
        """Say once that nothing is scored any more."""
        if self._scores_told:
            self._scores_told = False
            self._sink.scores(self._id, stretch.clock.utc(at_s), {}, level_dbfs)

    async def _report(self, stretch: Stretch, detections: Sequence[Detection]) -> None:
        if not detections:
            return
        # Completed even when listening is cancelled now: a start without its end would stick.
        telling = asyncio.ensure_future(self._tell_events(stretch, detections))
        try:
            await asyncio.shield(telling)
        except asyncio.CancelledError:
            await asyncio.wait([telling])
            raise

    async def _tell_events(self, stretch: Stretch, detections: Sequence[Detection]) -> None:
        async with self._report_lock:
            for detection in detections:
                try:
                    await stretch.reporter.report(detection)
                except ClapServerError as error:
                    _LOGGER.error("%s: an event could not be kept: %s", self._id, error)  # noqa: TRY400 - in words

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            if self._asked_at is not None and now - self._asked_at > _ANSWER_S:
                self._model_fails(ModelError(f"the model has not answered for {_ANSWER_S:g} s"))
            stretch = self._judged_stretch
            if stretch is not None and stretch.detector.active:
                waited_s = now - self._judged_at
                if waited_s > _GRACE_S:
                    await self._report(stretch, stretch.detector.tick(self._judged_s + waited_s))

    def _model_fails(self, error: ModelError) -> None:
        if not self._failing:
            self._failing = True
            self._on_change(SourceStatus(SourceState.FAILED, "model_failed", f"cannot score sound: {error}"))

    def _model_works(self) -> None:
        if self._failing:
            self._failing = False
            self._on_change(self._source_status)
