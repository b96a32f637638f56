from __future__ import annotations

import asyncio
import os
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from av.error import InvalidDataError

from clap_server.api.bus import EventBus
from clap_server.api.metrics import Metrics
from clap_server.api.sink import EventSink
from clap_server.audio.decode import decode
from clap_server.errors import StoreError
from clap_server.listening.events import ClipWithheld
from clap_server.store.clips import write_atomically
from clap_server.store.retention import Retention, RetentionPolicy
from clap_server.store.store import Store
from tests.server.store.conftest import POLICY
from tests.support.sound_events import START, microphone, sound_event, tone
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from clap_server.listening.events import SoundEvent

DAY_S = 86400


async def _event_with_clip(store: Store, age_days: float = 0, **changes: Any) -> SoundEvent:
    event = sound_event(ended_at=START, has_clip=True, **changes)
    await store.clips.save(event, tone())
    moment = time.time() - age_days * DAY_S
    os.utime(store.clips.path(event), (moment, moment))
    await store.events.record("ended", event, "Kitchen")
    return event


async def _has_clip(store: Store, event: SoundEvent) -> bool:
    stored = await store.events.get(event.id)
    assert stored is not None
    assert stored.event.has_clip == store.clips.path(event).exists()
    return stored.event.has_clip


async def test_clip_holds_the_recording_without_loss(store: Store) -> None:
    event, recording = sound_event(), tone()
    await store.clips.save(event, recording)
    path = store.clips.path(event)
    assert path.relative_to(store.folder.clips).as_posix() == f"2026-03-04/{event.id}.flac"
    samples = decode(path, recording.sample_rate)
    np.testing.assert_allclose(samples, recording.samples, atol=1 / 32767)


async def test_mp3_is_made_on_demand_and_kept(store: Store) -> None:
    event = sound_event()
    assert await store.clips.mp3(event) is None
    await store.clips.save(event, tone(duration_s=2))
    first, second = await asyncio.gather(store.clips.mp3(event), store.clips.mp3(event))
    assert first is not None
    assert first == second
    assert len(decode(first, 16000)) / 16000 == pytest.approx(2, abs=0.1)
    made = first.stat().st_mtime_ns
    assert await store.clips.mp3(event) == first
    assert first.stat().st_mtime_ns == made


async def test_clip_that_cannot_be_written_is_explained_and_noticed_again_when_it_can(store: Store) -> None:
    event = sound_event()
    store.folder.clips.rmdir()
    store.folder.clips.write_text("in the way")
    assert not await store.clips.save(event, tone())
    assert store.trouble is not None
    assert store.trouble.code == "clips_failed"
    assert "cannot be written" in store.trouble.problem
    await store.watch.check(write=True)
    assert store.trouble is not None
    store.folder.clips.unlink()
    await store.watch.check(write=True)
    assert store.trouble is None
    assert await store.clips.save(event, tone())


@pytest.mark.parametrize("error", [InvalidDataError(1, "encoder"), MemoryError(), OSError(5, "broken")])
async def test_clip_that_fails_for_any_reason_is_told_and_not_raised(
    store: Store, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_arguments: object) -> bytes:
        raise error

    monkeypatch.setattr("clap_server.store.clips.encode", broken)
    event = sound_event()
    assert not await store.clips.save(event, tone())
    assert f"{event.id} is kept without its clip" in caplog.text


async def test_disk_that_does_not_answer_does_not_keep_an_event_from_ending(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()

    def slow(*_arguments: object) -> bytes:
        answer.wait()
        return b"late"

    monkeypatch.setattr("clap_server.store.clips.SAVE_TIMEOUT_S", 0.01)
    monkeypatch.setattr("clap_server.store.clips.encode", slow)
    try:
        assert not await store.clips.save(sound_event(), tone())
    finally:
        answer.set()
    assert store.trouble is not None
    assert "has not answered" in store.trouble.problem


def test_interrupted_write_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="is full; free some space"):
        write_atomically(tmp_path / "a" / "clip.flac", b"1234")
    assert list((tmp_path / "a").iterdir()) == []


def _retention(store: Store, **changes: float) -> Retention:
    policy = replace(RetentionPolicy(clip_days=30, clip_bytes=10**9, event_days=10_000), **changes)  # type: ignore[arg-type] # a test's shorthand
    return Retention(store.folder, store.events, store.clips, policy, store.microphones, store.rooms)


async def test_old_clips_go_and_their_events_stay(store: Store) -> None:
    old, young = await _event_with_clip(store, age_days=31), await _event_with_clip(store, age_days=29)
    cached = await store.clips.mp3(old)
    assert cached is not None
    assert await _retention(store).sweep() == 1
    assert not await _has_clip(store, old)
    assert await _has_clip(store, young)
    assert not cached.exists()


async def test_oldest_clips_go_when_all_take_too_much(store: Store) -> None:
    oldest, middle, newest = [await _event_with_clip(store, age_days=days) for days in (3, 2, 1)]
    size = store.clips.path(newest).stat().st_size
    assert await _retention(store, clip_bytes=2 * size).sweep() == 1
    assert [await _has_clip(store, event) for event in (oldest, middle, newest)] == [False, True, True]


async def test_the_newest_clips_stay_when_there_are_too_many(store: Store) -> None:
    events = [await _event_with_clip(store, age_days=days) for days in (3, 2, 1)]
    assert await _retention(store, max_clips=2).sweep() == 1
    assert [await _has_clip(store, event) for event in events] == [False, True, True]
    stored = await store.events.get(events[0].id)
    assert stored is not None
    assert stored.event.clip_withheld is ClipWithheld.REMOVED


@pytest.mark.parametrize(
    ("limits", "kitchen", "hall"),
    [
        ({"max_clips": 1}, [False, False, True], [True, True, True]),
        ({"clip_days": 25}, [False, True, True], [True, True, True]),
        ({"clip_days": 3}, [False, False, False], [True, True, True]),
        ({"max_mb": 0.02}, [False, False, True], [True, True, True]),
        ({"max_clips": 5, "clip_days": 60.0, "max_mb": 60.0}, [True, True, True], [True, True, True]),
    ],
)
async def test_a_microphone_has_limits_of_its_own(
    store: Store, limits: dict[str, float], kitchen: list[bool], hall: list[bool]
) -> None:
    await store.microphones.put(microphone("kitchen", recording=limits))
    await store.microphones.put(microphone("hall"))
    clips = {
        place: [await _event_with_clip(store, days, microphone_id=place) for days in (28, 20, 10)]
        for place in ("kitchen", "hall")
    }
    size = store.clips.path(clips["hall"][0]).stat().st_size
    assert 10_000 < size < 20_000, "what the limit in megabytes is made for"
    await _retention(store).sweep()
    assert [await _has_clip(store, event) for event in clips["kitchen"]] == kitchen
    assert [await _has_clip(store, event) for event in clips["hall"]] == hall


async def test_a_microphone_may_keep_clips_for_longer_than_the_server(store: Store) -> None:
    await store.microphones.put(microphone("kitchen", recording={"clip_days": 60}))
    old = await _event_with_clip(store, 40, microphone_id="kitchen")
    other = await _event_with_clip(store, 40, microphone_id="hall")
    await _retention(store).sweep()
    assert await _has_clip(store, old)
    assert not await _has_clip(store, other)


@pytest.mark.parametrize(
    ("limits", "policy"),
    [({"max_clips": 2}, {}), ({"max_mb": 0.03}, {}), ({}, {"max_clips": 2}), ({}, {"clip_bytes": 30_000})],
    ids=["its clips", "its megabytes", "all clips", "all megabytes"],
)
async def test_a_burst_of_events_is_held_to_the_limits_between_two_sweeps(
    store: Store, limits: dict[str, float], policy: dict[str, float]
) -> None:
    await store.microphones.put(microphone(recording=limits))
    others = [await _event_with_clip(store, age_days=days, microphone_id="hall") for days in (9, 8)]
    store.retention = retention = _retention(store, **policy)
    await retention.sweep()
    sink = EventSink(store, EventBus(), Metrics(), lambda _: None)
    retention.start()
    events = [sound_event(ended_at=START) for _ in range(6)]
    for event in events:
        await sink.event_started(event)
        await sink.event_ended(event, tone())
    late = sound_event(ended_at=START, clip_withheld=ClipWithheld.COMING)
    await sink.event_started(late)
    await sink.event_ended(late, None)
    await sink.clip_came(late, tone())
    await until(lambda: sum(store.clips.path(event).exists() for event in (*events, late)) == 2)
    await retention.stop()
    assert [await _has_clip(store, event) for event in events] == [*[False] * 5, True]
    assert await _has_clip(store, late), "the newest"
    assert [await _has_clip(store, event) for event in others] == [not policy] * 2


async def test_what_was_made_from_a_clip_goes_with_it_between_two_sweeps(store: Store) -> None:
    old = await _event_with_clip(store, age_days=1)
    retention = _retention(store, max_clips=1)
    await retention.sweep()
    assert await store.clips.mp3(old) is not None
    retention.clip_written(await _event_with_clip(store))
    assert await retention.hold_limits() == 1
    assert not await _has_clip(store, old)
    assert not store.clips.cached(old.id, "mp3").exists()


async def test_what_is_made_from_clips_counts_and_goes_first(store: Store) -> None:
    old, new = [await _event_with_clip(store, age_days=days) for days in (2, 1)]
    for event in (old, new):
        assert await store.clips.mp3(event) is not None
    size = sum(store.clips.path(event).stat().st_size for event in (old, new))
    assert await _retention(store, clip_bytes=size).sweep() == 0
    assert not any(store.clips.cached(event.id, "mp3").exists() for event in (old, new))
    assert all([await _has_clip(store, event) for event in (old, new)])


async def test_what_has_lost_its_clip_goes(store: Store) -> None:
    event = await _event_with_clip(store)
    assert await store.clips.mp3(event) is not None
    store.clips.path(event).unlink()
    await _retention(store).sweep()
    assert not store.clips.cached(event.id, "mp3").exists()


async def test_upload_that_a_crash_left_is_removed(store: Store) -> None:
    fresh, stale = store.folder.uploads / "upload-a", store.folder.uploads / "upload-b"
    for path in (fresh, stale):
        path.write_bytes(b"x")
    past = time.time() - DAY_S
    os.utime(stale, (past, past))
    await _retention(store).sweep()
    assert [path.name for path in store.folder.uploads.iterdir()] == [fresh.name]
    await store.close()
    again = Store(store.folder, POLICY)
    await again.open()
    await again.close()
    assert not any(store.folder.uploads.iterdir()), "none can be in use at the start"


async def test_leftovers_of_a_crash_are_found(store: Store) -> None:
    day = store.folder.clips / "2026-03-04"
    day.mkdir()
    fresh, stale = day / "a.flac.1.part", day / "b.flac.2.part"
    orphan = day / "no-such-event.flac"
    for path in (fresh, stale, orphan):
        path.write_bytes(b"x")
    past = time.time() - 40 * DAY_S
    os.utime(stale, (past, past))
    os.utime(orphan, (past, past))
    await _retention(store).sweep()
    assert [path.name for path in day.iterdir()] == [fresh.name]
    fresh.unlink()
    await _retention(store).sweep()
    assert not day.exists()


async def test_file_that_vanishes_during_a_sweep_stops_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip is written under another name first: what the listing named may be gone when it is looked at."""
    old = await _event_with_clip(store, age_days=31)
    written = store.clips.path(old).with_name("a.flac.1.part")
    listing = type(written).glob

    def names_it_still(folder: Path, pattern: str) -> list[Path]:
        return [*([written] if folder == store.folder.clips else []), *listing(folder, pattern)]

    monkeypatch.setattr(type(written), "glob", names_it_still)
    assert await _retention(store).sweep() == 1
    assert not await _has_clip(store, old)


async def test_events_that_are_long_over_are_forgotten(store: Store) -> None:
    over = await _event_with_clip(store)
    lasting = sound_event()
    await store.events.record("started", lasting, "Kitchen")
    await _retention(store, event_days=1).sweep()
    assert await store.events.get(over.id) is None
    assert await store.events.get(lasting.id) is not None


async def test_sweep_of_a_broken_folder_is_explained(store: Store) -> None:
    store.folder.clips.rmdir()
    store.folder.clips.write_text("in the way")
    with pytest.raises(StoreError, match="cannot be tidied"):
        await _retention(store).sweep()


async def test_retention_works_by_itself_and_tells_of_trouble_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("clap_server.store.retention.INTERVAL_S", 0.01)
    old = await _event_with_clip(store, age_days=31)
    retention = _retention(store)
    retention.start()
    await until(lambda: not store.clips.path(old).exists())
    store.folder.clips.rename(store.folder.root / "elsewhere")
    store.folder.clips.write_text("in the way")
    await until(lambda: "cannot be tidied" in caplog.text)
    await asyncio.sleep(0.1)
    await retention.stop()
    assert caplog.text.count("cannot be tidied") == 1


async def test_death_of_the_retention_is_noticed(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_retention: Retention) -> int:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Retention, "sweep", broken)
    retention = _retention(store)
    retention.start()
    await until(lambda: "please report" in caplog.text)
    await retention.stop()
