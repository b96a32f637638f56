"""Keeps a scorer of the present model for what one microphone listens for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clap_server.detection.everyday.enough import is_guessed
from clap_server.detection.scoring import LabelScorer
from clap_server.errors import ClapServerError, ModelError
from clap_server.listening.room.sound import UNKNOWN
from clap_server.listening.shared_model import run_aside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from clap_server.clap.holder import ModelHolder
    from clap_server.clap.model import ClapModel
    from clap_server.detection.labels import Label
    from clap_server.listening.batcher import Batcher
    from clap_server.listening.plan import Plan
    from clap_server.listening.room.sound import RoomSound


@dataclass(frozen=True, slots=True)
class Scoring:
    """A model with the scorer that it made for some labels and negatives, and what the room taught it."""

    model: ClapModel
    labels: tuple[Label, ...]
    negatives: tuple[str, ...]
    room: RoomSound
    scorer: LabelScorer

    def serves(self, model: ClapModel, plan: Plan, room: RoomSound) -> bool:
        """Whether it is of this model, for what this plan listens for, with all that the room taught."""
        same = (self.labels, self.negatives) == (_labels(plan), plan.negatives)
        return self.model is model and self.room is room and same


def _labels(plan: Plan) -> tuple[Label, ...]:
    return tuple(watched.label for watched in plan.labels)


async def make_scoring(
    model: ClapModel,
    plan: Plan,
    background: Sequence[str],
    batcher: Batcher,
    room: RoomSound = UNKNOWN,
) -> Scoring:
    """Have a model embed the texts of a plan, and find what they are worth; no window waits for that.

    Raises:
        ModelError: it cannot.
    """
    labels = _labels(plan)

    def make(shared: ClapModel) -> LabelScorer:
        # Asked for by the event loop soon; the first time it takes a while.
        for label in labels:
            is_guessed(model, label)
        return LabelScorer(
            shared,
            labels,
            background,
            plan.negatives,
            room=room.bank_of(model),
            sounding_hours=room.sounding_hours,
        )

    try:
        scorer = await run_aside(model, batcher, make)
    except ClapServerError:
        raise
    except Exception as error:
        raise ModelError(f"the model cannot embed the labels: {error}") from error
    return Scoring(model, labels, plan.negatives, room, scorer)


class ScoringKeeper:
    """Follows the model, the plan and what is learnt of the room.

    Args:
        plan: what to listen for.
        background: the label library's background prompts.
        holder: has the model, now and after it changed.
        batcher: runs it.
        present: a scorer that is made already.
    """

    def __init__(
        self,
        plan: Plan,
        background: Sequence[str],
        holder: ModelHolder,
        batcher: Batcher,
        present: Scoring | None = None,
    ) -> None:
        self.plan = plan
        self._background = background
        self._holder = holder
        self._batcher = batcher
        self._present = present
        self._room = UNKNOWN if present is None else present.room
        self._outdated = asyncio.Event()
        self._tried = asyncio.Event()

    @property
    def present(self) -> Scoring:
        """The newest scorer; that of the model or the plan before, until the new one is made.

        Raises:
            ModelError: there was none yet.
        """
        if self._present is None:
            raise ModelError("the labels are not embedded yet")
        return self._present

    @property
    def scorer(self) -> LabelScorer | None:
        """The newest scorer; None if there was none yet."""
        return None if self._present is None else self._present.scorer

    async def prepare(self, plan: Plan) -> Scoring:
        """Have the present model embed the texts of a plan; nothing is changed.

        Raises:
            ModelError: it cannot.
        """
        model, scoring, room = self._holder.model, self._present, self._room
        if scoring is not None and scoring.serves(model, plan, room):
            return scoring
        return await make_scoring(model, plan, self._background, self._batcher, room)

    def change(self, plan: Plan, scoring: Scoring | None) -> None:
        """Take another plan; see ``MicrophoneListener.change``."""
        self.plan = plan
        if scoring is not None:
            self._present = scoring
        if not self._is_current():
            self._outdated.set()

    def use_room(self, room: RoomSound) -> None:
        """Take what is known of the room now; the scorer before goes on until that with it is made."""
        self._room = room
        if not self._is_current():
            self._outdated.set()

    async def make(self) -> None:
        """Have a scorer of the present model for the present plan, whichever changes meanwhile.

        Raises:
            ModelError: the model cannot embed the texts.
        """
        while not self._is_current():
            plan = self.plan
            scoring = await self.prepare(plan)
            if scoring.serves(self._holder.model, self.plan, self._room):
                self._present = scoring

    async def settle(self) -> bool:
        """Wait until what is scored is what the plan wants now; no longer than until that was tried.

        Returns:
            Whether it is.
        """
        if not self._is_current():
            self._tried.clear()
            await self._tried.wait()
        return self._is_current()

    async def follow(self, on_change: Callable[[], None], on_error: Callable[[ModelError], None]) -> None:
        """Make a new scorer whenever the present one is outdated, until cancelled.

        Args:
            on_change: called when there is one.
            on_error: called when the model cannot embed the texts; the one before stays.
        """
        unsubscribe = self._holder.subscribe(self._outdated.set)
        # It may have changed before there was anyone to hear of it.
        self._outdated.set()
        try:
            while True:
                await self._outdated.wait()
                self._outdated.clear()
                try:
                    await self.make()
                except ModelError as error:
                    on_error(error)
                else:
                    on_change()
                finally:
                    self._tried.set()
        finally:
            unsubscribe()
            self._tried.set()

    def _is_current(self) -> bool:
        return self._present is not None and self._present.serves(self._holder.model, self.plan, self._room)
