"""A microphone's room teaches it: what it hears every day counts in its scores."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from clap_server.clap.everyday import EverydayBank, Piece
from clap_server.detection.everyday.preparing import model_key
from clap_server.errors import StoreError
from clap_server.listening.batcher import Batcher
from clap_server.listening.plan import make_plan
from clap_server.listening.room.piece import RoomPiece, coded
from clap_server.listening.room.reservoir import KEPT_S
from clap_server.listening.room.room import REFRESH_S, Room
from clap_server.listening.room.sound import UNKNOWN
from clap_server.listening.scoring import ScoringKeeper
from clap_server.store.folder import DataFolder
from clap_server.store.store import Store
from tests.server.listening.rig import LIBRARY, eventually, holder_of, microphone
from tests.server.listening.spectral import SpectralModel
from tests.server.store.conftest import POLICY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from clap_server.clap.holder import ModelHolder

HOP_S = 0.5
NOW = 1_790_000_000.0
PLAN = make_plan(microphone("hall").settings, LIBRARY)


def everyday(seed: int, windows: int, *, like: int = 2) -> np.ndarray:
    """Embeddings of a room whose sound lies about one band."""
    rng = np.random.default_rng(seed)
    rows = np.abs(rng.standard_normal((windows, SpectralModel().dimension))) * 0.2
    rows[:, like] += 1
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def piece(seed: int, *, at: float = NOW, windows: int = 60) -> RoomPiece:
    return RoomPiece(at, np.arange(1, windows + 1) * HOP_S, coded(everyday(seed, windows)))


def with_bank(name: str = "spectral") -> SpectralModel:
    """A model that has half an hour of everyday sound."""
    model = SpectralModel(name=name)
    count = 3600
    ends_s, recordings = np.arange(1, count + 1) * HOP_S, np.zeros(count, np.intp)
    model.everyday = EverydayBank.of(
        model_key(model), everyday(99, count), ends_s, recordings, [Piece()], hop_s=HOP_S, sources="made"
    )
    return model


class House:
    """A room at work, with everything that it needs and a clock that the test sets."""

    def __init__(self, store: Store, holder: ModelHolder) -> None:
        self.store = store
        self.holder = holder
        self.now = NOW
        self.batcher = Batcher()
        self.keeper = ScoringKeeper(PLAN, LIBRARY.background, holder, self.batcher)
        self.room = Room("hall", store.rooms, holder, now=lambda: self.now)
        self.made = 0
        self.steps = 0
        self.busy = True
        self._step, self.room._step = self.room._step, self._counted  # type: ignore[method-assign]

    async def _counted(self, scoring: ScoringKeeper) -> None:
        self.busy = True
        await self._step(scoring)
        self.steps += 1
        self.busy = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[House]:
        self.batcher.start()
        await self.keeper.make()

        def on_change() -> None:
            self.made += 1

        def on_error(error: Exception) -> None:
            raise error

        tasks = [
            asyncio.create_task(self.keeper.follow(on_change, on_error)),
            asyncio.create_task(self.room.run(self.keeper)),
        ]
        # ``follow`` tells once when it begins.
        await eventually(lambda: self.room._refreshed_at is not None and self.made == 1)
        self.made = 0
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.room.finish()
            await self.batcher.stop()

    async def step(self) -> None:
        """Have the room look around, as it does every five minutes."""
        await eventually(lambda: not self.busy)
        before = self.steps
        self.room._wake.set()
        await eventually(lambda: self.steps > before and not self.busy and not self.room._wake.is_set())

    async def hour(self) -> None:
        self.now += REFRESH_S
        await self.step()

    def hear(self, count: int, *, first: int = 0) -> None:
        for number in range(first, first + count):
            self.room.take(piece(number, at=self.now), self.holder.model, HOP_S)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(DataFolder(tmp_path / "data"), POLICY)
    await store.open()
    await store.microphones.put(microphone("hall"))
    yield store
    await store.close()


@pytest.fixture
def holder(tmp_path: Path) -> ModelHolder:
    return holder_of(with_bank(), tmp_path)


async def learn(house: House, minutes: int) -> None:
    """Hear so many minutes of sound, a few pieces at a time, and let an hour go by."""
    for first in range(0, 2 * minutes, 10):
        house.hear(min(10, 2 * minutes - first), first=first)
        await house.step()
    await house.hour()


async def test_what_is_heard_counts_after_an_hour_when_there_is_enough(
    store: Store, holder: ModelHolder
) -> None:
    async with House(store, holder).open() as house:
        before = house.keeper.present
        await learn(house, 10)
        assert house.room.sound.bank is None
        assert house.room.kept_hours == pytest.approx(1 / 6, rel=0.01)
        assert house.keeper.present is before, "nothing was learnt that counts"
        await learn(house, 25)
        await eventually(lambda: house.keeper.present is not before)
        bank = house.keeper.present.room.bank
        assert bank is not None
        assert bank.hours == pytest.approx(35 / 60, rel=0.01)
        assert len(bank.pieces) == 70
        assert house.made == 1


async def test_a_room_survives_a_restart_and_counts_at_once(store: Store, holder: ModelHolder) -> None:
    async with House(store, holder).open() as house:
        await learn(house, 25)
        house.room.listened(48 * 3600, 24 * 3600)
        house.hear(2, first=100)
    again = House(store, holder)
    async with again.open():
        await eventually(lambda: again.keeper.present.room.bank is not None)
        bank = again.room.sound.bank
        assert bank is not None
        assert len(bank.pieces) == 52, "what came last was kept when listening ended"
        assert again.room.sound.sounding_hours == pytest.approx(12)


async def test_another_model_begins_anew_and_the_first_finds_its_own_again(
    store: Store, holder: ModelHolder
) -> None:
    first = holder.model
    async with House(store, holder).open() as house:
        await learn(house, 25)
        await eventually(lambda: house.keeper.present.room.bank is not None)
        holder._use(with_bank("another"))
        await eventually(lambda: house.keeper.present.model is not first)
        await eventually(lambda: house.room._for is not None and house.room._for.model is not first)
        assert house.room.sound.bank is None
        assert house.room.sound.model is None, "the model before is let go of"
        house.room.take(piece(200), first, HOP_S)
        await house.step()
        assert house.room._reservoir.kept == (), "what the model before embedded comes too late"
        holder._use(first)
        await eventually(lambda: house.keeper.present.model is first)
        await eventually(lambda: house.keeper.present.room.bank is not None)


@pytest.mark.parametrize("change", [{"hop_s": 1.0}, {"denoise": True}])
async def test_another_hop_or_front_end_begins_anew(
    store: Store, holder: ModelHolder, change: dict[str, Any]
) -> None:
    async with House(store, holder).open() as house:
        await learn(house, 25)
        house.keeper.change(replace(PLAN, **change), None)
        await house.step()
        assert house.room._reservoir.kept == ()
        assert house.room.sound.bank is None


async def test_what_is_older_than_two_weeks_is_forgotten(store: Store, holder: ModelHolder) -> None:
    async with House(store, holder).open() as house:
        await learn(house, 25)
        house.now += KEPT_S
        house.hear(1, first=500)
        await house.step()
        await house.hour()
        assert len(house.room._reservoir.kept) == 1
        assert house.room.sound.bank is None
        assert len(await store._database.rows("SELECT 1 FROM room_pieces")) == 1


async def test_an_event_counts_only_when_the_user_calls_it_false(store: Store, holder: ModelHolder) -> None:
    async with House(store, holder).open() as house:
        await learn(house, 25)
        key = model_key(holder.model)
        await house.room.add_false("event", piece(900, windows=4), key, HOP_S)
        await house.hour()
        bank = house.room.sound.bank
        assert bank is not None
        assert len(bank.pieces) == 51
        await house.room.remove_false("event")
        await house.hour()
        bank = house.room.sound.bank
        assert bank is not None
        assert len(bank.pieces) == 50


async def test_a_room_that_knows_nothing_new_makes_no_new_scores(store: Store, holder: ModelHolder) -> None:
    async with House(store, holder).open() as house:
        await learn(house, 25)
        await eventually(lambda: house.made == 1)
        sound = house.room.sound
        for _ in range(3):
            await house.hour()
        assert house.room.sound is sound
        house.room.listened(30 * 3600, 15 * 3600)
        await house.hour()
        assert house.room.sound.sounding_hours == pytest.approx(12)
        assert house.room.sound.bank is sound.bank
        await eventually(lambda: house.made == 2)


async def test_damaged_pieces_do_not_count(store: Store, holder: ModelHolder) -> None:
    async with House(store, holder).open() as house:
        await learn(house, 25)
        async with store._database.transaction() as connection:
            await connection.execute(
                "UPDATE room_pieces SET checksum = 0 WHERE name IN (SELECT name FROM room_pieces LIMIT 5)"
            )
        house.hear(1, first=300)
        await house.step()
        await house.hour()
        bank = house.room.sound.bank
        assert bank is not None
        assert len(bank.pieces) == len(house.room._reservoir.kept) == 46


async def test_listening_goes_on_while_nothing_can_be_stored(
    store: Store, holder: ModelHolder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with House(store, holder).open() as house:
        await learn(house, 25)

        async def full(*_args: object) -> None:
            raise StoreError("The disk is full", "disk_full")

        with monkeypatch.context() as patched:
            patched.setattr(store.rooms, "keep", full)
            for first in (100, 110):
                house.hear(10, first=first)
                await house.step()
        assert caplog.text.count("what is learnt of the room cannot be kept: The disk is full") == 1
        assert house.room.sound.bank is not None, "what was learnt before still counts"
        house.hear(10, first=120)
        await house.step()
        assert len(house.room._reservoir.kept) == 60


async def test_a_mistake_stops_no_microphone(
    store: Store, holder: ModelHolder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with House(store, holder).open() as house:
        monkeypatch.setattr(store.rooms, "keep", lambda *_: 1 / 0)
        house.hear(1)
        await house.step()
        assert "nothing is learnt of the room at present" in caplog.text
        monkeypatch.undo()
        house.hear(1)
        await house.step()
        assert len(house.room._reservoir.kept) == 1


async def test_pieces_that_wait_are_bounded(store: Store, holder: ModelHolder) -> None:
    house = House(store, holder)
    house.hear(100)
    assert len(house.room._offered) == 16
    assert house.room.sound is UNKNOWN
