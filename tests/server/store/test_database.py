from __future__ import annotations

import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest

from clap_server.errors import StoreError
from clap_server.store import database
from clap_server.store.database import Database
from clap_server.store.folder import DataFolder
from clap_server.store.migrations import MIGRATIONS
from clap_server.store.store import Store
from tests.server.store.conftest import POLICY
from tests.support.sound_events import microphone

if TYPE_CHECKING:
    from pathlib import Path


async def test_new_database_has_the_newest_schema(tmp_path: Path) -> None:
    opened = Database(tmp_path / "clap.db")
    await opened.open()
    await opened.open()
    [row] = await opened.rows("PRAGMA user_version")
    assert row[0] == len(MIGRATIONS)
    await opened.close()
    await opened.close()


async def test_old_database_is_brought_to_the_newest_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clap.db"
    old = Database(path)
    await old.open()
    await old.close()
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, ("ALTER TABLE events ADD COLUMN mood TEXT",)))
    new = Database(path)
    await new.open()
    assert await new.rows("SELECT mood FROM events") == []
    [row] = await new.rows("PRAGMA user_version")
    assert row[0] == len(MIGRATIONS) + 1
    await new.close()


async def test_failed_migration_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "clap.db"
    steps = ("CREATE TABLE extra (id TEXT)", "CREATE TABLE events (id TEXT)")
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, steps))
    with pytest.raises(StoreError, match="already exists"):
        await Database(path).open()
    monkeypatch.undo()
    good = Database(path)
    await good.open()
    assert await good.rows("SELECT name FROM sqlite_master WHERE name = 'extra'") == []
    await good.close()


async def test_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clap.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="newer clap-server"):
        await Database(path).open()


@pytest.mark.parametrize("damage", ["all", "part"])
async def test_damaged_database_is_explained(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "clap.db"
    whole = Database(path)
    await whole.open()
    await whole.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(0 if damage == "all" else 4096)
        file.write(b"\xa5" * (size if damage == "all" else size - 4096))
    with pytest.raises(StoreError, match=r"damaged.*move it away"):
        await Database(path).open()


async def test_second_server_on_the_same_folder_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 50)
    with pytest.raises(StoreError, match="another clap-server"):
        await Database(store.folder.database).open()


async def test_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    folder = DataFolder(tmp_path / "file" / "data")
    with pytest.raises(StoreError, match="--data"):
        folder.create()
    with pytest.raises(StoreError, match="--data"):
        folder.token()


async def test_database_path_that_is_a_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "clap.db").mkdir()
    with pytest.raises(StoreError, match=r"clap\.db"):
        await Database(tmp_path / "clap.db").open()


def test_token_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    token, new = folder.token()
    assert new
    assert len(token) >= 32
    assert folder.token() == (token, False)
    assert stat.S_IMODE((tmp_path / "data" / "token").stat().st_mode) == 0o600


async def test_database_is_readable_by_its_owner_alone(store: Store) -> None:
    assert stat.S_IMODE(store.folder.database.stat().st_mode) == 0o600


def test_token_of_the_settings_is_used_and_not_stored(tmp_path: Path) -> None:
    assert DataFolder(tmp_path).token("from-the-settings") == ("from-the-settings", False)
    assert not (tmp_path / "token").exists()


def test_server_id_never_changes(tmp_path: Path) -> None:
    assert DataFolder(tmp_path).server_id() == DataFolder(tmp_path).server_id()


def test_server_id_that_is_none_is_explained(tmp_path: Path) -> None:
    (tmp_path / "server_id").write_text("hello")
    with pytest.raises(StoreError, match="UUID"):
        DataFolder(tmp_path).server_id()


async def test_microphones_survive_a_restart(store: Store) -> None:
    hall, kitchen = microphone("hall"), microphone("kitchen", hop_s=1.0)
    for each in (kitchen, hall, microphone("attic")):
        await store.microphones.put(each)
    await store.microphones.put(microphone("hall", name="Corridor"))
    await store.microphones.delete("attic")
    await store.close()
    again = Store(DataFolder(store.folder.root), POLICY)
    await again.open()
    assert again.microphones.all() == [kitchen, microphone("hall", name="Corridor")]
    assert again.microphones.get("attic") is None
    assert again.server_id == store.server_id
    await again.close()
