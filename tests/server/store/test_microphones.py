"""Microphones in the database, and what the server remembers of where they came from."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from clap_server.store.folder import DataFolder
from clap_server.store.migrations import MIGRATIONS
from clap_server.store.store import Store
from tests.server.store.conftest import POLICY
from tests.support.running_server import running
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


UNREADABLE = '{"name": "Attic", "owner": "home_assistant:1", "labels": [], "colour": "red"}'


def _damage(data: Path, microphone_id: str, settings: str) -> None:
    with sqlite3.connect(data / "clap.db") as connection:
        connection.execute("UPDATE microphones SET settings = ? WHERE id = ?", (settings, microphone_id))
    connection.close()


def _settings(data: Path, microphone_id: str) -> str:
    with sqlite3.connect(data / "clap.db") as connection:
        [[settings]] = connection.execute("SELECT settings FROM microphones WHERE id = ?", (microphone_id,))
    connection.close()
    return str(settings)


@pytest.fixture
async def damaged(tmp_path: Path) -> Path:
    """A data folder with one good microphone and one whose row is not usable."""
    store = Store(DataFolder(tmp_path / "data"), POLICY)
    await store.open()
    for each in ("attic", "hall"):
        await store.microphones.put(microphone(each))
    await store.close()
    _damage(tmp_path / "data", "attic", UNREADABLE)
    return tmp_path / "data"


async def test_unreadable_microphone_is_a_status_and_keeps_its_row(damaged: Path) -> None:
    async with running(damaged) as client:
        listed = (await client.json("GET", "/api/microphones"))["microphones"]
        attic, hall = sorted(listed, key=lambda each: str(each["id"]))
        assert (attic["name"], attic["owner"]) == ("Attic", "home_assistant:1")
        assert (attic["status"]["state"], attic["status"]["code"]) == ("failed", "bad_settings")
        assert "colour" in attic["status"]["reason"]
        assert "set it up again or remove it" in attic["status"]["reason"]
        assert hall["status"]["code"] != "bad_settings"
        problem = await client.json("PATCH", "/api/microphones/attic", status=409, json={"name": "A"})
        assert problem["type"] == "/problems/unreadable_settings"
    assert _settings(damaged, "attic") == UNREADABLE


async def test_unreadable_microphone_can_be_set_up_again(damaged: Path) -> None:
    async with running(damaged) as client:
        settings = microphone().settings.model_dump(mode="json")
        mended = await client.json("PUT", "/api/microphones/attic", json=settings)
        assert mended["status"]["code"] != "bad_settings"
        await client.json("PATCH", "/api/microphones/attic", json={"name": "A"})
    async with running(damaged) as client:
        assert (await client.json("GET", "/api/microphones/attic"))["name"] == "A"


async def test_unreadable_microphone_can_be_removed(damaged: Path) -> None:
    async with running(damaged) as client:
        await client.json("DELETE", "/api/microphones/attic", status=204)
        await client.json("GET", "/api/microphones/attic", status=404)
        await client.json("GET", "/api/microphones/hall")


@pytest.mark.parametrize("settings", ["no JSON", "[]", '{"name": 7}', '"text"', ""])
async def test_any_row_can_be_read(damaged: Path, settings: str) -> None:
    _damage(damaged, "attic", settings)
    store = Store(DataFolder(damaged), POLICY)
    await store.open()
    try:
        attic = store.microphones.get("attic")
        assert attic is not None
        assert attic.settings.name == "attic"
        assert store.microphones.unreadable("attic") is not None
        assert store.microphones.unreadable("hall") is None
    finally:
        await store.close()
