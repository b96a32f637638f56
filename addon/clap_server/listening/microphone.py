"""One microphone's life, from the parts that do it."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from clap_server.listening.condition import Condition
from clap_server.listening.diary import MomentKind, WindowNote
from clap_server.listening.examples import example
from clap_server.listening.hearing import Hearing
from clap_server.listening.judging import Judging
from clap_server.listening.scoring import ScoringKeeper
from clap_server.listening.self_test import Finding, Outcome, SelfTestError
from clap_server.listening.words import nearest_words, nearness, score_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from clap_server.audio.source import AudioSource, SourceStatus
    from clap_server.clap.holder import ModelHolder
    from clap_server.detection.labels import WatchedLabel
    from clap_server.detection.scoring import LabelScorer
    from clap_server.listening.batcher import Batcher
    from clap_server.listening.counters import Counters
    from clap_server.listening.diary import Diary
    from clap_server.listening.events import ClipWithheld
    from clap_server.listening.plan import Plan
    from clap_server.listening.room.room import Room
    from clap_server.listening.scoring import Scoring
    from clap_server.listening.sink import ListeningSink


_LOGGER = logging.getLogger(__name__)


class MicrophoneListener:
    """Listens to one source until it is cancelled.

    ``Hearing`` takes the sound and cuts windows, ``Judging`` makes events of them, ``ScoringKeeper`` follows
    the model and the labels, ``Condition`` tells how it is.

    Args:
        microphone_id: for the sink and the batcher.
        source: of the sound; reconnected as often as needed.
        plan: what to listen for.
        background: the label library's background prompts.
        holder: has the model, now and after it changed.
        batcher: runs it.
        sink: gets everything that is learnt.
        counters: are counted up.
        diary: is told what became of the sound.
        on_status: is called when the state is another.
        scoring: a scorer for the plan that is made already; without it, ``run`` makes one.
        room: learns from what is heard; None if nothing is to be learnt.
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
        diary: Diary,
        on_status: Callable[[SourceStatus], None],
        scoring: Scoring | None = None,
        room: Room | None = None,
    ) -> None:
        self._id = microphone_id
        self._room = room
        self._batcher = batcher
        self._diary = diary
        self._tested = False
        self._condition = Condition(on_status)
        self._scoring = ScoringKeeper(plan, background, holder, batcher, scoring)
        self._judging = Judging(
            microphone_id, sink=sink, counters=counters, condition=self._condition, diary=diary
        )
        self._hearing = Hearing(
            microphone_id,
            source,
            scoring=self._scoring,
            batcher=batcher,
            judging=self._judging,
            sink=sink,
            counters=counters,
            condition=self._condition,
            diary=diary,
            ear=room,
        )

    @property
    def scoring(self) -> Scoring:
        """The scorer in use.

        Raises:
            ModelError: there is none yet.
        """
        return self._scoring.present

    @property
    def active(self) -> frozenset[str]:
        """Ids of labels of which an event is going on."""
        return self._judging.active

    @property
    def scorer(self) -> LabelScorer | None:
        """What scores windows now; None until there is one."""
        return self._scoring.scorer

    async def settle(self) -> bool:
        """Wait until windows are scored by what was learnt last; say whether they are."""
        return await self._scoring.settle()

    async def run(self) -> None:
        """Listen until cancelled; whatever is going on then ends.

        Raises:
            ExceptionGroup: something broke that the owner should know of and try again.
        """
        try:
            await self._scoring.make()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hearing.run())
                tasks.create_task(self._judging.run())
                tasks.create_task(self._judging.keep_time())
                tasks.create_task(self._scoring.follow(self._hearing.reshape, self._condition.model_fails))
                if self._room is not None:
                    tasks.create_task(self._room.run(self._scoring))
        finally:
            # Its backlog goes with it, and none of the sound stays until the garbage is collected.
            self._batcher.forget(self._id)
            await self._judging.finish()
            self._hearing.forget()
            if self._room is not None:
                await self._room.finish()

    async def prepare(self, plan: Plan) -> Scoring:
        """Have the present model embed the texts of a plan; nothing is changed.

        Raises:
            ModelError: it cannot.
        """
        return await self._scoring.prepare(plan)

    def change(self, plan: Plan, scoring: Scoring | None) -> None:
        """Listen for other labels, or with other thresholds, without losing the stream.

        Args:
            plan: in force from here on.
            scoring: as ``prepare`` gave it; without it, the labels before are scored until it is made.
        """
        self._scoring.change(plan, scoring)
        self._hearing.replan()

    def wipe(self, reason: ClipWithheld) -> None:
        """Forget all sound at once, before listening is ended; events have no recording for this reason."""
        self._judging.wipe(reason)
        self._hearing.wipe(reason)

    async def test_digitally(self, label_id: str, timeout_s: float) -> Finding:
        """Have a copy of the stream, with an example mixed in, judged; the real one goes on undisturbed.

        Args:
            label_id: of a label that is watched and has an example.
            timeout_s: at most.

        Raises:
            SelfTestError: it cannot be made now, or the stream was interrupted.
        """
        with self._testing(label_id) as watched:
            sample_rate = self._scoring.present.model.sample_rate
            sound = await asyncio.to_thread(example, label_id, sample_rate)
            shadow = self._hearing.begin_shadow(watched, sound)
            try:
                return await shadow.run(timeout_s)
            finally:
                self._hearing.end_shadow()

    async def test_aloud(self, label_id: str, timeout_s: float) -> Finding:
        """Wait for a sound that the user plays in the room; it is told to nobody else.

        Args:
            label_id: of a label that is watched.
            timeout_s: at most.

        Raises:
            SelfTestError: it cannot be made now, or listening stopped.
        """
        with self._testing(label_id) as watched:
            began_s = time.monotonic()
            expected = self._judging.withholding.expect(label_id)
            try:
                async with asyncio.timeout(timeout_s):
                    found = await expected
                _LOGGER.warning("%s: a self-test heard %s; it is no event", self._id, label_id)
            except TimeoutError:
                return self._unheard(watched, timeout_s, time.monotonic() - began_s)
            finally:
                self._judging.withholding.give_up(label_id)
        # What the clock of the stream knows of the model's time is in the moment that it was found.
        delay_s = found.detected_s - found.onset_s
        scored = score_words(watched, found.score)
        return Finding(
            watched,
            Outcome.FOUND,
            f"found {delay_s:.1f} s after its onset: {scored}",
            found.score,
            delay_s,
            found.peak_level_dbfs,
            self._hearing.noise_floor_dbfs,
        )

    @contextmanager
    def _testing(self, label_id: str) -> Iterator[WatchedLabel]:
        """One self-test at a time, of a label that is not heard anyway."""
        if self._tested:
            raise SelfTestError("self_test_running", "This microphone is being tested; wait for that")
        watched = {each.label.id: each for each in self._scoring.plan.labels}[label_id]
        if label_id in self._judging.heard:
            raise SelfTestError(
                "heard_already", "This sound is being heard now; test again when its event is over"
            )
        self._tested = True
        self._diary.happened(MomentKind.SELF_TEST, f"self-test of {watched.label.names['en']} begins")
        try:
            yield watched
        finally:
            self._tested = False
            self._diary.happened(MomentKind.SELF_TEST, f"self-test of {watched.label.names['en']} ends")

    def _unheard(self, watched: WatchedLabel, timeout_s: float, seconds: float) -> Finding:
        """Nothing was found; say what came nearest."""
        notes = [note for note in self._diary.last(seconds) if isinstance(note, WindowNote)]
        best = max(notes, key=lambda note: nearness(note, watched), default=None)
        why = "no sound came" if best is None else nearest_words(best, watched)
        return Finding(
            watched,
            Outcome.NOT_FOUND,
            f"not found within {timeout_s:g} s: {why}",
            None if best is None else best.score(watched.label.id),
            None,
            None if best is None else best.window.level_dbfs,
            self._hearing.noise_floor_dbfs,
        )
