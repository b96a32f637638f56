"""One microphone's life, from the parts that do it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from clap_server.listening.condition import Condition
from clap_server.listening.hearing import Hearing
from clap_server.listening.judging import Judging
from clap_server.listening.scoring import ScoringKeeper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from clap_server.audio.source import AudioSource, SourceStatus
    from clap_server.clap.holder import ModelHolder
    from clap_server.listening.batcher import Batcher
    from clap_server.listening.counters import Counters
    from clap_server.listening.plan import Plan
    from clap_server.listening.scoring import Scoring
    from clap_server.listening.sink import ListeningSink


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
        on_status: is called when the state is another.
        scoring: a scorer for the plan that is made already; without it, ``run`` makes one.
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
        scoring: Scoring | None = None,
    ) -> None:
        self._id = microphone_id
        self._batcher = batcher
        self._condition = Condition(on_status)
        self._scoring = ScoringKeeper(plan, background, holder, batcher, scoring)
        self._judging = Judging(microphone_id, sink=sink, counters=counters, condition=self._condition)
        self._hearing = Hearing(
            microphone_id,
            source,
            scoring=self._scoring,
            batcher=batcher,
            judging=self._judging,
            sink=sink,
            counters=counters,
            condition=self._condition,
        )

    @property
    def active(self) -> frozenset[str]:
        """Ids of labels of which an event is going on."""
        return self._judging.active

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
        finally:
            # Its backlog goes with it, and none of the sound stays until the garbage is collected.
            self._batcher.forget(self._id)
            await self._judging.finish()
            self._hearing.forget()

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
