"""Microphones in the database, and what the server remembers of where they came from."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from clap_server.store.folder import DataFolder
from clap_server.store.migrations import MIGRATIONS
from clap_server.store.store import Store
from tests.server.store.conftest import POLICY
from tests.support.sound_events import microphone

if TYPE_CHECKING:
    from pathlib import Path

HOME = "home_assistant:01JTEST"


async def _reopened(store: Store) -> Store:
    await store.close()
    again = Store(DataFolder(store.folder.root), POLICY)
    await again.open()
    return again


async def test_microphone_taken_from_the_server_is_remembered_across_a_restart(store: Store) -> None:
    await store.microphones.put(microphone("hall"))
    assert not store.microphones.is_adopted("hall")
    await store.microphones.put(microphone("hall", owner=HOME))
    await store.microphones.put(microphone("hall", owner=HOME, name="Corridor"))
    await store.microphones.put(microphone("garden", owner=HOME))
    again = await _reopened(store)
    try:
        assert again.microphones.is_adopted("hall")
        assert not again.microphones.is_adopted("garden"), "it never was the server's"
    finally:
        await again.close()


async def test_microphone_given_back_is_the_servers_own_again(store: Store) -> None:
    await store.microphones.put(microphone("hall"))
    await store.microphones.put(microphone("hall", owner=HOME))
    await store.microphones.put(microphone("hall"))
    assert not store.microphones.is_adopted("hall")


async def test_removed_microphone_leaves_no_memory_of_its_owner(store: Store) -> None:
    await store.microphones.put(microphone("hall"))
    await store.microphones.put(microphone("hall", owner=HOME))
    await store.microphones.delete("hall")
    await store.microphones.put(microphone("hall", owner=HOME))
    assert not store.microphones.is_adopted("hall")


@pytest.mark.parametrize(
    ("microphone_id", "owner", "adopted"),
    [
        ("hall-1a2b3c", HOME, True),
        ("01JTESTTESTTESTTESTTESTTES", HOME, False),
        ("hall-1a2b3c", "server", False),
        ("hall-1a2b3c", "script", False),
    ],
)
async def test_old_database_tells_what_was_the_servers_own(
    tmp_path: Path, microphone_id: str, owner: str, adopted: bool
) -> None:
    (tmp_path / "data").mkdir()
    with sqlite3.connect(tmp_path / "data" / "clap.db") as connection:
        for statement in MIGRATIONS[0]:
            connection.execute(statement)
        settings = microphone(owner=owner).settings.model_dump_json()
        connection.execute("INSERT INTO microphones VALUES (?, ?, '', '')", (microphone_id, settings))
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    store = Store(DataFolder(tmp_path / "data"), POLICY)
    await store.open()
    try:
        assert [each.id for each in store.microphones.all()] == [microphone_id]
        assert store.microphones.is_adopted(microphone_id) is adopted
    finally:
        await store.close()
