"""What is in the data folder is for the server's user alone."""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

import pytest

from clap_server.store.folder import DataFolder
from clap_server.store.store import Store
from clap_server.store.trouble import explain
from tests.server.store.conftest import POLICY
from tests.support.sound_events import sound_event, tone

if TYPE_CHECKING:
    from pathlib import Path


def _open_to_others(root: Path) -> list[str]:
    paths = [root, *root.rglob("*")]
    return [
        str(path) for path in paths if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]


async def test_everything_that_is_kept_is_for_the_servers_user_alone(store: Store) -> None:
    event = sound_event()
    assert await store.clips.save(event, tone())
    assert await store.clips.mp3(event) is not None
    await store.events.record("ended", event, "Kitchen")
    store.folder.token()
    assert _open_to_others(store.folder.root) == []


async def test_what_an_earlier_version_let_others_read_is_mended(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for folder in (root, root / "clips", root / "clips" / "2026-03-04", root / "models" / "m", elsewhere):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
    for name in ("server_id", "clap.db", "clips/2026-03-04/a.flac", "models/m/weights", "../elsewhere/file"):
        (root / name).touch()
        (root / name).chmod(0o644)
    (root / "models" / "link").symlink_to(elsewhere / "file")
    (root / "clips" / "link").symlink_to(elsewhere)
    store = Store(DataFolder(root), POLICY)
    await store.open()
    await store.close()
    assert _open_to_others(root) == []
    assert _open_to_others(elsewhere) == [str(elsewhere), str(elsewhere / "file")], "not the server's own"


async def test_folder_that_holds_other_things_stays_as_it_is(tmp_path: Path) -> None:
    root = tmp_path / "home"
    root.mkdir(mode=0o755)
    (root / "letter").touch()
    # Whatever the umask of the tests before.
    (root / "letter").chmod(0o644)
    root.chmod(0o755)
    store = Store(DataFolder(root), POLICY)
    await store.open()
    await store.close()
    assert _open_to_others(root) == [str(root), str(root / "letter")]


@pytest.mark.parametrize(
    ("number", "code", "advice"),
    [
        (errno.ENOSPC, "disk_full", "free some space"),
        (errno.EDQUOT, "disk_full", "quota"),
        (errno.EROFS, "read_only", "mount it writable"),
        (errno.EACCES, "permission_denied", "give the user that runs clap-server the right"),
        (errno.EPERM, "permission_denied", "give the user that runs clap-server the right"),
        (errno.EIO, "clips_failed", "check or replace it"),
        (errno.ENOTDIR, "clips_failed", "check the data folder"),
    ],
)
def test_each_trouble_has_its_own_advice(tmp_path: Path, number: int, code: str, advice: str) -> None:
    explained = explain(OSError(number, "words"), tmp_path, "clips_failed")
    assert explained.code == code
    assert advice in str(explained)
    assert ("free some space" in str(explained)) == (code == "disk_full")
