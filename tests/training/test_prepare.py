"""What ``prepare`` keeps: every copy with its source, the same however it is made."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server import synthesis
from clap_server.audio.encode import encode
from training import prepare as step
from training.concepts import load_concepts
from training.config import load_config
from training.data import COLUMNS
from training.prepare import MAKERS, Cache, prepare
from training.synthesis import maker

if TYPE_CHECKING:
    from pathlib import Path

    from training.config import Config

RATE = 48_000
# label, fine_label, source_repo
CLIPS = [
    ("glass_breaking", "glass_break", "one/glass"),
    ("negative", "speech", "one/speech"),
    ("negative", "music", "two/music"),
]


def settings(processes: int = 1, **synthetic: int) -> Config:
    return load_config(
        overrides={
            "prepare.processes": processes,
            "prepare.shard": 2,
            "prepare.rooms": 2,
            "prepare.rare_copies": 3,
            **{f"prepare.synthetic.{maker}": synthetic.get(maker, 0) for maker in MAKERS},
        }
    )


SMALL = {"coins": 8}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(1)
    with (folder / "MANIFEST.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(COLUMNS)
        for number, (label, fine, repo) in enumerate(CLIPS):
            name = f"clip{number}.flac"
            sound = synthesis.babble(rng, RATE, duration_s=1.0)
            (folder / name).write_bytes(encode(sound, RATE, "flac"))
            writer.writerow((name, label, fine, "words", 1.0, "CC0-1.0", "Ann", repo, f"a/{name}"))
    return folder


@pytest.fixture(scope="module")
def runs(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    prepare(settings(**SMALL), sounds, folder)
    return folder


def test_what_is_scarce_is_copied_most(runs: Path) -> None:
    cache = Cache(runs / "cache")
    copies = {
        name: [item.copy for item in cache.items if item.name == name]
        for name in ("clip0.flac", "clip1.flac")
    }
    assert [len(copies[name]) for name in copies] == [4, 2]
    for kinds in copies.values():
        assert kinds[0] == "dry"
        assert "dry" not in kinds[1:]
    # Copies differ from each other and stay aligned with the recording.
    first, *others = [cache.spectrogram(item) for item in cache.items if item.name == "clip0.flac"]
    assert all(other.shape == first.shape for other in others)
    assert len({other.tobytes() for other in others}) == len(others)


def test_every_spectrogram_knows_where_it_comes_from(runs: Path) -> None:
    cache = Cache(runs / "cache")
    recorded = {(item.source, item.licence, item.path) for item in cache.items if item.name == "clip2.flac"}
    assert recorded == {("two/music", "CC0-1.0", "a/clip2.flac")}
    made = [item for item in cache.items if item.label == "synthetic"]
    assert [item.path for item in made] == [f"coins/{index}" for index in range(8)]
    assert {(item.source, item.licence, item.concept) for item in made} == {
        ("synthetic", "Apache-2.0", "coins")
    }
    assert {item.copy == "dry" for item in made} == {True, False}
    assert len(cache.mels) == sum(item.frames for item in cache.items)


def test_two_processes_make_the_same_as_one(runs: Path, sounds: Path, tmp_path: Path) -> None:
    (tmp_path / "rooms.npz").write_bytes((runs / "rooms.npz").read_bytes())
    prepare(settings(processes=2, **SMALL), sounds, tmp_path)
    for name in ("items.json", "mels.f16"):
        assert (tmp_path / "cache" / name).read_bytes() == (runs / "cache" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["items.json", "mels.f16"]


def test_an_interrupted_run_goes_on_and_ends_like_one_in_a_piece(
    runs: Path, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rooms.npz").write_bytes((runs / "rooms.npz").read_bytes())
    original = step._make_shard
    made: list[str] = []

    def interrupted(config: Config, data: Path, folder: Path, part: list[step._Sound], path: Path) -> None:
        if len(made) == 2:
            raise KeyboardInterrupt
        original(config, data, folder, part, path)
        made.append(path.name)

    monkeypatch.setattr(step, "_make_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(settings(**SMALL), sounds, tmp_path)
    finished = list((tmp_path / "cache").glob("shards-*/*.npz"))
    assert len(finished) == 2
    with pytest.raises(SystemExit, match="training prepare"):
        Cache(tmp_path / "cache")
    stamps = {path.name: path.stat().st_mtime_ns for path in finished}
    again: dict[str, int] = {}

    def counting(config: Config, data: Path, folder: Path, part: list[step._Sound], path: Path) -> None:
        again.update({kept.name: kept.stat().st_mtime_ns for kept in path.parent.glob("*.npz")})
        original(config, data, folder, part, path)

    monkeypatch.setattr(step, "_make_shard", counting)
    prepare(settings(**SMALL), sounds, tmp_path)
    assert {name: again[name] for name in stamps} == stamps
    for name in ("items.json", "mels.f16"):
        assert (tmp_path / "cache" / name).read_bytes() == (runs / "cache" / name).read_bytes()


def test_a_recording_that_cannot_be_read_is_named_and_the_rest_is_kept(
    sounds: Path, runs: Path, tmp_path: Path
) -> None:
    data = tmp_path / "sounds"
    data.mkdir()
    for path in sounds.iterdir():
        (data / path.name).write_bytes(path.read_bytes())
    (data / "clip2.flac").write_bytes(b"no sound")
    (tmp_path / "rooms.npz").write_bytes((runs / "rooms.npz").read_bytes())
    with pytest.raises(SystemExit, match=r"clip2\.flac: .*remove its row from MANIFEST\.csv"):
        prepare(settings(processes=2), data, tmp_path)
    assert [path.name for path in (tmp_path / "cache").glob("shards-*/*.npz")] == ["00000.npz"]
    (data / "clip2.flac").unlink()
    with pytest.raises(SystemExit, match=r"clip2\.flac: Cannot open"):
        prepare(settings(), data, tmp_path)


def test_a_process_that_is_killed_is_explained(
    sounds: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rooms.npz").write_bytes((runs / "rooms.npz").read_bytes())
    # What each process calls first ends it as the kernel would.
    monkeypatch.setattr(step, "_make_shard", _end)
    with pytest.raises(SystemExit, match=r"ended from outside.*kept"):
        prepare(settings(2, **SMALL), sounds, tmp_path)


def _end(*_: object) -> None:
    os._exit(9)


def test_finished_work_is_not_done_again(
    runs: Path, sounds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (runs / "cache" / "items.json").stat().st_mtime_ns
    prepare(settings(**SMALL), sounds, runs)
    assert "is there already" in capsys.readouterr().out
    assert (runs / "cache" / "items.json").stat().st_mtime_ns == before


def test_a_cache_that_says_what_is_held_out_is_still_read(runs: Path, tmp_path: Path) -> None:
    items = Cache(runs / "cache").items
    (tmp_path / "items.json").write_text(json.dumps([{**asdict(item), "part": "train"} for item in items]))
    (tmp_path / "mels.f16").symlink_to(runs / "cache" / "mels.f16")
    assert Cache(tmp_path).items == items


def test_a_cache_of_an_older_version_is_refused(runs: Path, tmp_path: Path) -> None:
    entry = asdict(Cache(runs / "cache").items[0])
    del entry["source"]
    (tmp_path / "items.json").write_text(json.dumps([entry]))
    with pytest.raises(SystemExit, match="older version: remove it"):
        Cache(tmp_path)


def test_unknown_sounds_in_the_settings_are_named(sounds: Path, tmp_path: Path) -> None:
    config = load_config(overrides={"prepare.synthetic.vuvuzela": 3})
    with pytest.raises(SystemExit, match="vuvuzela"):
        prepare(config, sounds, tmp_path)


def test_every_maker_exists_and_belongs_to_a_concept() -> None:
    known = load_concepts().index
    for name, concept in MAKERS.items():
        assert callable(maker(name))
        assert concept in known
    assert set(load_config().prepare.synthetic) == set(MAKERS)
