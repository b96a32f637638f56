"""Downloads that break off, find no room or bring something else, over a local hub."""

from __future__ import annotations

import errno
import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest
from huggingface_hub import snapshot_download

from clap_server.clap import downloading
from clap_server.clap.downloading import DamagedError, UnreachableError, download, weights_size
from clap_server.clap.loader import find_checkpoint, load_checkpoint, load_model
from clap_server.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.clap.hub import Hub

NAME = "someone/tiny-clap"


class EnoughError(Exception):
    pass


class Disk(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "_PAUSE_S", 0.0)


@pytest.fixture
def weights(hub: Hub, unfused_checkpoint: Path) -> bytes:
    hub.models[NAME] = unfused_checkpoint
    return (unfused_checkpoint / "model.safetensors").read_bytes()


def quiet(_: str) -> None:
    pass


def blobs(cache_dir: Path) -> list[str]:
    [folder] = cache_dir.glob("models--*/blobs")
    return sorted(path.name for path in folder.iterdir())


def test_a_connection_that_breaks_off_is_gone_on_with_at_once(
    hub: Hub, weights: bytes, tmp_path: Path
) -> None:
    hub.cut_off = [10_000, 20_000]
    folder = download(NAME, tmp_path, quiet)
    assert hub.weights == [0, 10_000, 30_000]
    assert (folder / "model.safetensors").read_bytes() == weights


def test_an_attempt_goes_on_where_the_one_before_broke_off(hub: Hub, weights: bytes, tmp_path: Path) -> None:
    hub.cut_off = [10_000, 0, 0, 0, 0]
    with pytest.raises(UnreachableError, match=r"broke off after 0 of . MB; it goes on from there"):
        download(NAME, tmp_path, quiet)
    assert not hub.cut_off
    told: list[str] = []
    folder = download(NAME, tmp_path, told.append)
    assert hub.weights[-1] == 10_000
    assert (folder / "model.safetensors").read_bytes() == weights
    assert "(0 %)" not in told[0]


def test_a_download_that_was_stopped_goes_on_later(hub: Hub, weights: bytes, tmp_path: Path) -> None:
    def stop(line: str) -> None:
        if "(0 %)" not in line:
            raise EnoughError

    with pytest.raises(EnoughError):
        download(NAME, tmp_path, stop)
    folder = download(NAME, tmp_path, quiet)
    assert hub.weights[0] == 0
    assert 0 < hub.weights[1] < len(weights)
    assert (folder / "model.safetensors").read_bytes() == weights


def test_a_hub_that_cannot_go_on_begins_anew(hub: Hub, weights: bytes, tmp_path: Path) -> None:
    hub.cut_off = [10_000]
    hub.whole = True
    folder = download(NAME, tmp_path, quiet)
    assert hub.weights == [0, 10_000]
    assert (folder / "model.safetensors").read_bytes() == weights


def test_what_comes_damaged_is_thrown_away_and_fetched_again(
    hub: Hub, weights: bytes, tmp_path: Path
) -> None:
    hub.damaged = True
    with pytest.raises(DamagedError, match=r"the checksum of model\.safetensors is wrong"):
        download(NAME, tmp_path, quiet)
    assert not [name for name in blobs(tmp_path) if name.endswith(".part")]
    hub.damaged = False
    folder = download(NAME, tmp_path, quiet)
    assert hub.weights == [0, 0]
    assert (folder / "model.safetensors").read_bytes() == weights


def test_the_library_alone_would_take_what_came_damaged(hub: Hub, weights: bytes, tmp_path: Path) -> None:
    hub.damaged = True
    folder = snapshot_download(NAME, cache_dir=tmp_path, allow_patterns=["*.safetensors"])
    found = (tmp_path / folder / "model.safetensors").read_bytes()
    assert len(found) == len(weights)
    assert found != weights


def test_where_there_is_no_room_nothing_is_fetched(
    hub: Hub, weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = downloading.RESERVE_BYTES + len(weights) - 1
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: Disk(2 * free, free, free))
        with pytest.raises(ModelError, match=r"finds no room: of it . MB are still to come.*Make room there"):
            download(NAME, tmp_path, quiet)
        assert hub.weights == []
        # What came of it before needs no room any more.
        hub.cut_off = [10_000, 0, 0, 0, 0]
        patch.setattr(shutil, "disk_usage", lambda _: Disk(2 * free, free, free + 1))
        with pytest.raises(UnreachableError):
            download(NAME, tmp_path, quiet)
        patch.setattr(shutil, "disk_usage", lambda _: Disk(2 * free, free, free + 1 - 10_000))
        assert (download(NAME, tmp_path, quiet) / "model.safetensors").read_bytes() == weights


def test_a_disk_that_fills_up_meanwhile_is_given_back_what_came(
    hub: Hub, weights: bytes, tmp_path: Path
) -> None:
    def full(line: str) -> None:
        if "(0 %)" not in line:
            raise OSError(errno.ENOSPC, "No space left on device")

    assert weights
    with pytest.raises(ModelError, match=r"cannot be stored \(No space left on device\): make room"):
        download(NAME, tmp_path, full)
    assert len(hub.weights) == 1
    assert not [name for name in blobs(tmp_path) if name.endswith(".part")]


def test_what_nobody_would_go_on_with_is_removed(hub: Hub, weights: bytes, tmp_path: Path) -> None:
    assert hub.models
    assert weights
    folder = tmp_path / "models--someone--tiny-clap" / "blobs"
    folder.mkdir(parents=True)
    (folder / f"{'a' * 64}.part").write_bytes(b"half")
    (folder / f"{'b' * 64}.12345678.incomplete").write_bytes(b"half")
    download(NAME, tmp_path, quiet)
    assert not [name for name in blobs(tmp_path) if "." in name]


def test_of_another_kind_of_model_no_weights_are_fetched(hub: Hub, weights: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "whisper"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "whisper"}')
    (folder / "model.safetensors").write_bytes(weights)
    hub.models[NAME] = folder
    with pytest.raises(ModelError, match="not a CLAP model"):
        load_model(NAME, device="cpu", cache_dir=tmp_path / "cache")
    assert hub.weights == []


def test_what_is_not_admitted_is_not_fetched(hub: Hub, weights: bytes, tmp_path: Path) -> None:
    def refuse(size: int) -> None:
        assert size == len(weights)
        raise ModelError("too large")

    with pytest.raises(ModelError, match="too large"):
        download(NAME, tmp_path, quiet, admit=refuse)
    assert hub.weights == []


def test_what_is_there_is_taken_without_asking_the_hub(hub: Hub, weights: bytes, tmp_path: Path) -> None:
    first = download(NAME, tmp_path, quiet, newest=False)
    asked = len(hub.requests)
    assert download(NAME, tmp_path, quiet, newest=False) == first
    assert len(hub.requests) == asked
    assert weights_size(first) == len(weights)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_it_is_found_too_where_the_hub_is_not_asked(
    hub: Hub, weights: bytes, tmp_path: Path, file: str
) -> None:
    assert weights

    def load() -> None:
        found = find_checkpoint(NAME, tmp_path, quiet, newest=False)
        load_checkpoint(found, device="cpu", cache_dir=tmp_path, progress=quiet)

    load()
    [path] = tmp_path.glob(f"hub/models--*/snapshots/*/{file}")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    hub.requests.clear()
    with pytest.raises(DamagedError, match=f"damaged on the disk \\({file}\\)"):
        load()
    assert hub.requests == []
    load()
    assert path.read_bytes() == content


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_what_was_damaged_on_the_disk_is_found_and_fetched_again(
    hub: Hub, weights: bytes, tmp_path: Path, file: str
) -> None:
    assert weights
    load_model(NAME, device="cpu", cache_dir=tmp_path)
    [path] = tmp_path.glob(f"hub/models--*/snapshots/*/{file}")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    hub.requests.clear()
    with pytest.raises(
        DamagedError, match=f"damaged on the disk \\({file}\\): it has to be downloaded again"
    ):
        load_model(NAME, device="cpu", cache_dir=tmp_path)
    assert load_model(NAME, device="cpu", cache_dir=tmp_path).name == NAME
    assert path.read_bytes() == content
