"""What one microphone knows of its room: keeps a sample of its everyday sound and has it count in scores."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from clap_server.detection.everyday.preparing import model_key
from clap_server.errors import StoreError
from clap_server.listening.room.hours import Hours
from clap_server.listening.room.reservoir import Reservoir
from clap_server.listening.room.sound import LEAST_KEPT_S, UNKNOWN, RoomSound, make_bank

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import date

    from clap_server.clap.holder import ModelHolder
    from clap_server.clap.model import ClapModel
    from clap_server.listening.plan import Plan
    from clap_server.listening.room.hours import Listened
    from clap_server.listening.room.piece import RoomPiece
    from clap_server.listening.room.reservoir import Kept
    from clap_server.listening.scoring import ScoringKeeper

_LOGGER = logging.getLogger(__name__)

REFRESH_S = 3600.0
"""So often, and when listening begins, what was learnt is made to count."""

_WRITE_S = 300.0
# So many pieces wait to be written before that at most; the oldest goes.
_MOST_WAITING = 16
# A share of a day that changes less than this is no news.
_NEWS = 0.1


@dataclass(frozen=True, slots=True)
class FoundPieces:
    """What is stored of a room for one model.

    Attributes:
        pieces: everyday sound, and the events that the user called false.
        damaged: numbers of the pieces that were, and are removed.
    """

    pieces: tuple[RoomPiece, ...]
    damaged: tuple[int, ...] = ()


class RoomStore(Protocol):
    """Keeps rooms; all methods raise StoreError if the database cannot be used."""

    async def load(self, microphone_id: str, made_for: str, dimension: int) -> list[Kept]:
        """What is kept for a model; that of another one is set aside, damaged pieces are removed."""

    async def days(self, microphone_id: str) -> dict[date, Listened]:
        """How long was listened."""

    async def keep(
        self,
        microphone_id: str,
        made_for: str,
        added: Sequence[tuple[Kept, RoomPiece]],
        gone: Sequence[int],
        days: Mapping[date, Listened],
    ) -> None:
        """Add pieces, remove others, and note how long was listened."""

    async def pieces(self, microphone_id: str, made_for: str, dimension: int) -> FoundPieces:
        """All that is kept for a model, with the events that the user called false."""

    async def add_false(self, microphone_id: str, made_for: str, event_id: str, piece: RoomPiece) -> None:
        """Keep the windows of an event that the user called false."""

    async def remove_false(self, event_id: str) -> None:
        """Forget them; no error if there are none."""


@dataclass(frozen=True, slots=True)
class _For:
    """What the pieces that are kept now are made by."""

    model: ClapModel
    hop_s: float
    denoise: bool
    made_for: str


class Room:
    """Outlives the listener of its microphone; ``run`` works while that listens. Implements ``Ear``.

    Args:
        microphone_id: whose room it is.
        store: keeps it.
        holder: has the model, now and after it changed.
        now: Unix time.
    """

    def __init__(
        self,
        microphone_id: str,
        store: RoomStore,
        holder: ModelHolder,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._id = microphone_id
        self._store = store
        self._holder = holder
        self._now = now
        self._offered: list[tuple[RoomPiece, ClapModel, float]] = []
        self._reservoir = Reservoir()
        self._for: _For | None = None
        self._wake = asyncio.Event()
        self._changed = False
        self._refreshed_at: float | None = None
        self._failing = False
        self._hours_loaded = False
        self.hours = Hours()
        self.sound = UNKNOWN
        self.kept_hours = 0.0
        """Of sound above the gate, when that was counted last."""

    def take(self, piece: RoomPiece, model: ClapModel, hop_s: float) -> None:
        """Take a piece; see ``Ear``."""
        self._offered.append((piece, model, hop_s))
        if len(self._offered) >= _MOST_WAITING:
            self._offered = self._offered[-_MOST_WAITING:]
            self._wake.set()

    def listened(self, heard_s: float, sounding_s: float) -> None:
        """Count time; see ``Ear``."""
        self.hours.add(heard_s, sounding_s, datetime.fromtimestamp(self._now(), UTC))

    async def add_false(
        self, event_id: str, piece: RoomPiece, key: str, hop_s: float, *, denoise: bool = False
    ) -> None:
        """Let an event count as everyday sound, because the user called it false.

        It counts within the hour, and as long as the room's other sound is kept. All of these are kept, the
        other sound only in part: so they count for more than their share, which is on the safe side.

        Args:
            event_id: of the event; the same one again replaces it.
            piece: its windows.
            key: of the model that embedded them, see ``model_key``.
            hop_s: seconds between its regular windows.
            denoise: whether noise was suppressed before them.

        Raises:
            StoreError: it cannot be stored.
        """
        await self._store.add_false(self._id, _made_for(key, hop_s, denoise=denoise), event_id, piece)
        self._changed = True

    async def remove_false(self, event_id: str) -> None:
        """Take ``add_false`` back.

        Raises:
            StoreError: it cannot be stored.
        """
        await self._store.remove_false(event_id)
        self._changed = True

    def read_again(self) -> None:
        """Heed what was changed in the store."""
        self._changed = True

    async def run(self, scoring: ScoringKeeper) -> None:
        """Keep what comes, and have it count once an hour, until cancelled.

        Args:
            scoring: is told what is known of the room.
        """
        # It begins with what an earlier listener of this microphone knew.
        scoring.use_room(self.sound)
        self._refreshed_at = None
        unsubscribe = self._holder.subscribe(self._wake.set)
        try:
            while True:
                await self._step(scoring)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_WRITE_S):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            unsubscribe()

    async def finish(self) -> None:
        """Keep the last of what came, and how long was listened."""
        if self._for is not None:
            await self._guarded(self._write(self._for))

    async def _step(self, scoring: ScoringKeeper) -> None:
        model, plan = self._holder.model, scoring.plan
        present = None if self._for is None else (self._for.model, self._for.hop_s, self._for.denoise)
        if present != (model, plan.hop_s, plan.denoise):
            if self.sound.model is not None and self.sound.model is not model:
                # So that the model before is not held; how much of a day sounds is known all the same.
                self._tell(scoring, RoomSound(None, None, self.sound.sounding_hours))
            await self._guarded(self._load(model, plan))
        if self._for is None or not await self._guarded(self._write(self._for)):
            return
        self._failing = False
        now = self._now()
        # Also if the clock was set back.
        if self._refreshed_at is None or not 0 <= now - self._refreshed_at < REFRESH_S:
            self._refreshed_at = now
            await self._guarded(self._refresh(scoring, self._for))

    async def _load(self, model: ClapModel, plan: Plan) -> None:
        self._for = None
        key = await asyncio.to_thread(model_key, model)
        made_for = _made_for(key, plan.hop_s, denoise=plan.denoise)
        if not self._hours_loaded:
            self.hours.include(await self._store.days(self._id))
            self._hours_loaded = True
        self._reservoir = Reservoir(await self._store.load(self._id, made_for, model.dimension))
        self._for = _For(model, plan.hop_s, plan.denoise, made_for)
        self._refreshed_at, self._changed = None, True

    async def _write(self, present: _For) -> None:
        offered, self._offered = self._offered, []
        now = self._now()
        gone = self._reservoir.expire(now)
        added: dict[int, tuple[Kept, RoomPiece]] = {}
        for piece, model, hop_s in offered:
            if model is not present.model or hop_s != present.hop_s:
                continue
            new, lost = self._reservoir.offer(piece.at, len(piece))
            gone += [number for number in lost if added.pop(number, None) is None]
            if new is not None:
                added[new.number] = (new, piece)
        days = self.hours.since(datetime.fromtimestamp(now, UTC))
        await self._store.keep(self._id, present.made_for, [*added.values()], gone, days)
        self._changed = self._changed or bool(added or gone)

    async def _refresh(self, scoring: ScoringKeeper, present: _For) -> None:
        """Have what was learnt count, if it says anything new."""
        bank = self.sound.bank_of(present.model)
        if self._changed:
            self._changed = False
            found = await self._store.pieces(self._id, present.made_for, present.model.dimension)
            for number in found.damaged:
                self._reservoir.forget(number)
            bank, self.kept_hours = None, 0.0
            if found.pieces:
                made = await asyncio.to_thread(make_bank, found.pieces, present.made_for, present.hop_s)
                self.kept_hours = made.hours
                bank = made if made.hours * 3600.0 >= LEAST_KEPT_S else None
        known = self.sound
        a_day = self.hours.a_day
        if bank is not known.bank or abs(a_day - known.sounding_hours) > _NEWS * known.sounding_hours:
            self._tell(scoring, RoomSound(None if bank is None else present.model, bank, a_day))

    def _tell(self, scoring: ScoringKeeper, sound: RoomSound) -> None:
        self.sound = sound
        scoring.use_room(sound)

    async def _guarded(self, work: Awaitable[None]) -> bool:
        """Go on listening whatever happens to what is learnt; say whether it went well."""
        try:
            await work
        except StoreError as error:
            if not self._failing:
                _LOGGER.warning("%s: what is learnt of the room cannot be kept: %s", self._id, error)
        except Exception:
            if not self._failing:
                _LOGGER.exception("%s: nothing is learnt of the room at present", self._id)
        else:
            return True
        # What is stored may differ from what is known of it: it is read again.
        self._for = None
        self._failing = True
        return False


def _made_for(key: str, hop_s: float, *, denoise: bool) -> str:
    # The rules of events count by the hop, and sound without its noise is embedded elsewhere.
    return f"{key} {hop_s:g} s{' denoised' if denoise else ''}"
