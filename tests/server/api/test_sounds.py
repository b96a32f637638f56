"""Sounds are taught by clips or events, listed, listened for, and forgotten."""

from __future__ import annotations

import asyncio
import io
import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np
import pytest

from clap_server.api.taught import MOST_SOUNDS
from clap_server.audio.decode import decode
from clap_server.audio.encode import encode
from clap_server.errors import StoreError
from clap_server.listening.events import ClipWithheld
from clap_server.listening.sink import Recording
from clap_server.listening.traces import Trace
from tests.server.detection.test_teaching import bell, buzz
from tests.server.listening.spectral import RATE, SpectralModel, room
from tests.support.banks import spectral_bank
from tests.support.running_server import Client, ReadyHolder, running
from tests.support.sound_events import START, sound_event
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from numpy.typing import NDArray


def model_of(weights: int) -> SpectralModel:
    made = SpectralModel()
    made.everyday = spectral_bank(made.dimension, made_for=f"spectral {weights}")
    return made


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with running(tmp_path, holder=ReadyHolder(tmp_path, model_of(1))) as client:
        yield client


def form(
    *sounds: NDArray[np.float32] | bytes, name: str | None = "my bell", **fields: str
) -> aiohttp.FormData:
    made = aiohttp.FormData(default_to_multipart=True)
    for key, value in {**({} if name is None else {"name": name}), **fields}.items():
        made.add_field(key, value)
    for number, sound in enumerate(sounds):
        data = sound if isinstance(sound, bytes) else encode(sound, RATE, "flac")
        made.add_field("clips", io.BytesIO(data), filename=f"{number + 1}.flac")
    return made


async def teach(client: Client, data: aiohttp.FormData | None = None, status: int = 201) -> Any:
    data = data or form(*(bell(seed) for seed in range(4)))
    return await client.json("POST", "/api/sounds", status=status, data=data)


async def watch(client: Client, label: str) -> Any:
    settings = {"name": "Kitchen", "source": {"type": "push"}, "labels": [{"label": label}]}
    return await client.json("PUT", "/api/microphones/kitchen", status=201, json=settings)


async def test_a_taught_sound_is_a_label_that_a_microphone_can_listen_for(client: Client) -> None:
    sound = await teach(client)
    assert (sound["id"], sound["name"], sound["clips"], sound["clips_kept"]) == (
        "my_bell",
        "my bell",
        4,
        True,
    )
    assert sound["problem"] is None
    assert sound["separation"]["verdict"] == "good"
    assert "4 of 4 clips" in sound["separation"]["words"]
    listed = (await client.json("GET", "/api/sounds"))["sounds"]
    assert listed == [sound] == [await client.json("GET", "/api/sounds/my_bell")]
    labels = (await client.json("GET", "/api/labels"))["labels"]
    assert [(label["id"], label["library"]) for label in labels if label["taught"]] == [("my_bell", False)]
    shown = await watch(client, "My bell")
    assert [(label["id"], label["threshold"]) for label in shown["labels"]] == [("my_bell", 0.7)]
    data = aiohttp.FormData()
    data.add_field("audio", encode(bell(33), RATE, "flac"), filename="again.flac")
    data.add_field("labels", "my bell, glass breaking")
    found = await client.json("POST", "/api/classify", data=data)
    assert found["top_label"] == "my bell"
    assert found["top_score"] >= 0.7


async def test_clips_of_no_one_kind_are_refused_and_nothing_is_kept(client: Client) -> None:
    def hum(pitch_hz: float) -> NDArray[np.float32]:
        time_s = np.arange(2 * RATE) / RATE
        return (room(2, seed=round(pitch_hz)) + 0.1 * np.sin(2 * np.pi * pitch_hz * time_s)).astype(
            np.float32
        )

    problem = await teach(client, form(*(hum(pitch_hz) for pitch_hz in (90, 300, 800, 1500))), status=422)
    assert problem["type"] == "/problems/clips_of_no_one_kind"
    assert (await client.json("GET", "/api/sounds"))["sounds"] == []


async def test_why_a_taught_sound_has_a_lower_default_is_told_in_words(client: Client) -> None:
    sound = await teach(client, form(*(buzz(seed) for seed in range(6)), name="my fan"))
    promise = "about one false alarm an hour; lowered to 0.5 because at 0.7, one false alarm a day,"
    assert (sound["threshold"], sound["separation"]["found_at_one_a_day"]) == (0.5, 0)
    assert sound["meaning"] == f"{promise} none of its 6 clips would be found"
    [label] = [
        label for label in (await client.json("GET", "/api/labels"))["labels"] if label["id"] == "my_fan"
    ]
    [watched] = (await watch(client, "my fan"))["labels"]
    assert label["meaning"] == watched["meaning"] == sound["meaning"]
    chosen = {
        "name": "Kitchen",
        "source": {"type": "push"},
        "labels": [{"label": "my fan", "threshold": 0.6}],
    }
    changed = await client.json("PUT", "/api/microphones/kitchen", json=chosen)
    assert "lowered" not in changed["labels"][0]["meaning"]
    good = await teach(client)
    assert (good["threshold"], good["meaning"]) == (0.7, "about one false alarm a day")


async def test_a_microphone_that_watched_the_words_hears_the_taught_sound_at_once(client: Client) -> None:
    await watch(client, "my bell")
    await teach(client)
    [watched] = client.server.context.supervisor.snapshot("kitchen").labels
    assert watched.label.taught is not None


async def test_a_sound_in_use_is_not_deleted(client: Client) -> None:
    await teach(client)
    await watch(client, "my_bell")
    problem = await client.json("DELETE", "/api/sounds/my_bell", status=409)
    assert problem["type"] == "/problems/in_use"
    assert "Kitchen" in problem["detail"]
    await client.json("DELETE", "/api/microphones/kitchen", status=204)
    await client.json("DELETE", "/api/sounds/my_bell", status=204)
    assert (await client.json("GET", "/api/sounds"))["sounds"] == []
    await client.json("GET", "/api/sounds/my_bell", status=404)
    await client.json("DELETE", "/api/sounds/my_bell", status=404)
    rows = await client.server.context.store.sounds._database.rows("SELECT * FROM sound_clips")
    assert rows == []


async def test_events_teach_too(client: Client) -> None:
    sink = client.server.context.supervisor._sink
    ids = []
    for seed in range(3):
        event = sound_event()
        await sink.event_started(event)
        samples = np.concatenate([room(3, dbfs=-50, seed=seed), bell(seed)])
        await sink.event_ended(
            replace(event, ended_at=START + timedelta(seconds=2)),
            Recording(samples, RATE, START - timedelta(seconds=3)),
        )
        ids.append(event.id)
    sound = await teach(client, form(bell(9), events=",".join(ids), kind="impulsive"))
    assert (sound["clips"], sound["kind"]) == (4, "impulsive")
    bare = sound_event()
    await sink.event_started(bare)
    for name, event_id, code in (("a", "gone", "no_such_event"), ("b", bare.id, "no_clip")):
        problem = await teach(client, form(name=name, events=event_id), status=422)
        assert problem["type"] == f"/problems/{code}"


@pytest.mark.parametrize("left", [b"", b"no sound at all"])
async def test_an_event_whose_recording_is_damaged_is_named(client: Client, left: bytes) -> None:
    whole, damaged = [await _heard(client, 1.5, pre_roll_s=3, seed=seed) for seed in range(2)]
    stored = await client.server.context.store.events.get(damaged)
    assert stored is not None
    client.server.context.store.clips.path(stored.event).write_bytes(left)
    problem = await teach(client, form(bell(7), bell(8), events=f"{whole},{damaged}"), status=422)
    assert problem["type"] == "/problems/unreadable_audio"
    [error] = problem["errors"]
    assert error["field"] == "events"
    assert damaged in error["message"]


async def test_a_sound_is_in_use_where_a_microphone_cannot_listen_now(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    (media / "bell.flac").write_bytes(encode(bell(1), RATE, "flac"))
    data = tmp_path / "data"
    async with running(data, holder=ReadyHolder(tmp_path, model_of(1)), media=media) as client:
        await teach(client)
        settings = {
            "name": "Hall",
            "source": {"type": "file", "path": "bell.flac"},
            "labels": [{"label": "My Bell"}],
        }
        await client.json("PUT", "/api/microphones/hall", status=201, json=settings)
    async with running(data, holder=ReadyHolder(tmp_path, model_of(1))) as client:
        hall = await client.json("GET", "/api/microphones/hall")
        assert (hall["status"]["code"], hall["labels"]) == ("bad_settings", [])
        problem = await client.json("DELETE", "/api/sounds/my_bell", status=409)
        assert "Hall still listens for my bell" in problem["detail"]


async def test_a_sound_that_comes_into_use_while_it_waits_to_be_deleted_stays(client: Client) -> None:
    await teach(client)
    async with client.server.context.taught._changing:
        deleting = asyncio.create_task(client.json("DELETE", "/api/sounds/my_bell", status=409))
        await watch(client, "my bell")
    assert "Kitchen" in (await deleting)["detail"]


async def test_what_was_said_of_a_sound_is_forgotten_with_it(tmp_path: Path) -> None:
    """Old false alarms kept a sound from being heard that was taught anew under the same name."""

    async def learnt(client: Client) -> set[str]:
        found = await client.json("GET", "/api/microphones/kitchen/feedback")
        return {lesson["label_id"] for lesson in found["lessons"]}

    async with running(tmp_path, holder=ReadyHolder(tmp_path, model_of(1))) as client:
        await teach(client)
        await watch(client, "alarm")
        sink = client.server.context.supervisor._sink
        for label_id in ("my_bell", "alarm"):
            event = sound_event(label_id=label_id)
            await sink.event_started(event)
            trace = Trace("spectral 1", 0.5, False)
            trace.add(model_of(1).embed_audio([bell(1)])[0])
            await sink.event_traced(event, trace)
            await sink.event_ended(replace(event, ended_at=START + timedelta(seconds=2)), None)
            path = f"/api/events/{event.id}/feedback"
            assert (await client.json("POST", path, json={"verdict": "false_alarm"}))["learnt"]
        assert await learnt(client) == {"my_bell", "alarm"}
        await client.json("DELETE", "/api/sounds/my_bell", status=204)
        assert await learnt(client) == {"alarm"}
        [counted] = await client.server.context.store.rooms._database.rows("SELECT name FROM room_pieces")
        assert counted["name"] == f"false {event.id}", "nothing else counts as everyday sound any more"
        await teach(client)
        assert await learnt(client) == {"alarm"}
    async with running(tmp_path, holder=ReadyHolder(tmp_path, model_of(1))) as client:
        assert await learnt(client) == {"alarm"}


async def test_what_was_said_of_a_sound_stays_when_another_model_learns_it(tmp_path: Path) -> None:
    holder = ReadyHolder(tmp_path, model_of(1))
    async with running(tmp_path, holder=holder) as client:
        await teach(client)
        await watch(client, "my bell")
        sink = client.server.context.supervisor._sink
        event = sound_event(label_id="my_bell")
        await sink.event_started(event)
        trace = Trace("spectral 1")
        trace.add(model_of(1).embed_audio([bell(1)])[0])
        await sink.event_traced(event, trace)
        await client.json("POST", f"/api/events/{event.id}/feedback", json={"verdict": "correct"})
        holder.change(model_of(2))
        async with asyncio.timeout(60):
            while (await client.json("GET", "/api/sounds/my_bell"))["problem"] is not None:
                await asyncio.sleep(0.05)
        await client.server.context.store.lessons.load()
        assert client.server.context.store.lessons.get(event.id) is not None


class Gate:
    """Holds what is called until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, *, after: bool) -> None:
        self.reached, self._open = asyncio.Event(), asyncio.Event()
        method = getattr(owner, name)

        async def held(*args: Any, **options: Any) -> Any:
            found = await method(*args, **options) if after else None
            self.reached.set()
            await self._open.wait()
            return found if after else await method(*args, **options)

        monkeypatch.setattr(owner, name, held)

    def open(self) -> None:
        self._open.set()


async def test_a_sound_that_is_deleted_while_a_microphone_gets_ready_for_it_is_told(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await teach(client)
    preparing = Gate(monkeypatch, client.server.context.supervisor, "prepare", after=True)
    settings = {"name": "Kitchen", "source": {"type": "push"}, "labels": [{"label": "my bell"}]}
    adding = asyncio.create_task(client.json("PUT", "/api/microphones/kitchen", status=409, json=settings))
    await preparing.reached.wait()
    await client.json("DELETE", "/api/sounds/my_bell", status=204)
    preparing.open()
    problem = await adding
    assert problem["type"] == "/problems/sound_deleted"
    assert "my bell was deleted" in problem["detail"]
    assert (await client.json("GET", "/api/microphones"))["microphones"] == []
    # Who sends them again means the words.
    await watch(client, "my bell")
    [watched] = client.server.context.supervisor.snapshot("kitchen").labels
    assert watched.label.taught is None


async def test_no_microphone_comes_to_use_a_sound_that_is_being_deleted(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await teach(client)
    shared = client.server.context
    preparing = Gate(monkeypatch, shared.supervisor, "prepare", after=True)
    deleting = Gate(monkeypatch, shared.store.sounds, "delete", after=False)
    settings = {"name": "Kitchen", "source": {"type": "push"}, "labels": [{"label": "my bell"}]}
    adding = asyncio.create_task(client.json("PUT", "/api/microphones/kitchen", status=409, json=settings))
    await preparing.reached.wait()
    removing = asyncio.create_task(client.json("DELETE", "/api/sounds/my_bell", status=204))
    await deleting.reached.wait()
    preparing.open()
    assert (await adding)["type"] == "/problems/sound_deleted"
    deleting.open()
    await removing


async def test_a_sound_stays_while_the_settings_that_name_it_are_stored(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await teach(client)
    storing = Gate(monkeypatch, client.server.context.store.microphones, "put", after=False)
    adding = asyncio.create_task(watch(client, "my bell"))
    await storing.reached.wait()
    problem = await client.json("DELETE", "/api/sounds/my_bell", status=409)
    assert "Kitchen still listens for my bell" in problem["detail"]
    storing.open()
    await adding


async def test_a_sound_that_cannot_be_deleted_stays_a_label(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await teach(client)

    async def fail(sound_id: str) -> None:
        raise StoreError(f"{sound_id} stays")

    monkeypatch.setattr(client.server.context.store.sounds, "delete", fail)
    await client.json("DELETE", "/api/sounds/my_bell", status=503)
    assert [label.id for label in client.server.context.library.taught] == ["my_bell"]


async def _heard(
    client: Client, sound_s: float, *, pre_roll_s: float, seed: int, noted: bool = True, late: bool = False
) -> str:
    """An event as it is told: until the last window that holds some of the sound, then a post-roll."""
    sink = client.server.context.supervisor._sink
    event = sound_event()
    ended = replace(event, ended_at=START + timedelta(seconds=sound_s + model_of(1).window_s))
    await sink.event_started(event)
    samples = np.concatenate(
        [
            room(pre_roll_s, dbfs=-50, seed=seed),
            bell(seed, duration_s=sound_s),
            room(4, dbfs=-50, seed=seed + 100),
        ]
    )
    recording = Recording(samples, RATE, START - timedelta(seconds=pre_roll_s))
    if late:
        await sink.event_ended(replace(ended, clip_withheld=ClipWithheld.COMING), None)
        await sink.clip_came(ended, recording)
    else:
        await sink.event_ended(ended, recording)
    if not noted:
        async with client.server.context.store.events._database.transaction() as connection:
            await connection.execute("UPDATE events SET clip_starts_at = NULL")
    return event.id


@pytest.mark.parametrize(("sound_s", "kind"), [(1.5, "impulsive"), (6.0, "sustained")])
async def test_the_events_without_their_rolls_say_how_the_sound_behaves(
    client: Client, sound_s: float, kind: str
) -> None:
    ids = [await _heard(client, sound_s, pre_roll_s=3, seed=seed) for seed in range(3)]
    assert (await teach(client, form(events=",".join(ids))))["kind"] == kind


@pytest.mark.parametrize("late", [False, True], ids=["with its end", "after its end"])
@pytest.mark.parametrize("recorded_s", [0.0, 2.0, 10.0])
async def test_an_event_is_cut_by_the_pre_roll_that_it_was_recorded_with(
    client: Client, recorded_s: float, late: bool
) -> None:
    ids = [await _heard(client, 1.5, pre_roll_s=recorded_s, seed=seed, late=late) for seed in range(3)]
    settings = {"name": "Kitchen", "source": {"type": "push"}, "labels": [{"label": "glass breaking"}]}
    changed = {**settings, "recording": {"pre_roll_s": 6.0}}
    await client.json("PUT", "/api/microphones/kitchen", status=201, json=changed)
    await teach(client, form(events=",".join(ids)))
    for flac in await client.server.context.store.sounds.recordings("my_bell"):
        assert flac is not None
        kept = decode(io.BytesIO(flac), RATE)
        sounding = np.flatnonzero(np.abs(kept) > 0.05) / RATE
        assert sounding[0] == pytest.approx(min(recorded_s, 0.5), abs=0.02)
        assert len(kept) / RATE == pytest.approx(min(recorded_s, 0.5) + 1.5 + model_of(1).window_s, abs=0.02)


async def test_an_event_of_an_older_version_is_cut_by_the_present_pre_roll(client: Client) -> None:
    ids = [await _heard(client, 1.5, pre_roll_s=3, seed=seed, noted=False) for seed in range(3)]
    await teach(client, form(events=",".join(ids)))
    [flac, *_] = await client.server.context.store.sounds.recordings("my_bell")
    assert flac is not None
    sounding = np.flatnonzero(np.abs(decode(io.BytesIO(flac), RATE)) > 0.05) / RATE
    assert sounding[0] == pytest.approx(0.5, abs=0.02)


async def test_sounds_survive_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, holder=ReadyHolder(tmp_path, model_of(1))) as client:
        before = await teach(client)
        await watch(client, "my_bell")
    async with running(tmp_path, holder=ReadyHolder(tmp_path, model_of(1))) as client:
        assert await client.json("GET", "/api/sounds/my_bell") == before
        [watched] = client.server.context.supervisor.snapshot("kitchen").labels
        assert watched.label.taught is not None


async def test_another_model_learns_from_the_clips_that_are_kept(tmp_path: Path) -> None:
    holder = ReadyHolder(tmp_path, model_of(1))
    async with running(tmp_path, holder=holder) as client:
        await teach(client)
        await teach(client, form(*(bell(seed) for seed in range(3)), name="secret", keep_clips="false"))
        holder.change(model_of(2))
        secret = await client.json("GET", "/api/sounds/secret")
        assert not secret["clips_kept"]
        assert "teach it again" in secret["problem"]
        async with asyncio.timeout(60):
            while (await client.json("GET", "/api/sounds/my_bell"))["problem"] is not None:
                await asyncio.sleep(0.05)
        taught = {label.id: label.taught for label in client.server.context.library.taught}
        assert taught["my_bell"] is not None
        assert taught["my_bell"].made_for == "spectral 2"
        assert taught["secret"] is not None
        assert taught["secret"].made_for == "spectral 1"
        holder.change(model_of(1))
        assert (await client.json("GET", "/api/sounds/secret"))["problem"] is None


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (lambda: form(bell(1), bell(2)), 422, "too_few_clips"),
        (lambda: form(*[bell(1)] * 21), 422, "too_many_clips"),
        (lambda: form(bell(1), bell(1), bell(1)), 422, "clips_alike"),
        (lambda: form(bell(1), bell(2), np.zeros(RATE, np.float32)), 422, "silent_clip"),
        (lambda: form(bell(1), bell(2), bell(3)[:1000]), 422, "clip_too_short"),
        (lambda: form(bell(1), bell(2), b"no sound at all"), 422, "unreadable_audio"),
        (lambda: form(bell(1), bell(2), room(17)), 422, "unreadable_audio"),
        (lambda: form(bell(1), bell(2), bell(3), name=None), 422, "invalid_request"),
        (lambda: form(bell(1), bell(2), bell(3), name="  "), 422, "invalid_request"),
        (lambda: form(bell(1), bell(2), bell(3), name="doorbell"), 422, "invalid_name"),
        (lambda: form(bell(1), bell(2), bell(3), name="!?"), 422, "invalid_name"),
        (lambda: form(bell(1), bell(2), bell(3), kind="loud"), 422, "invalid_request"),
        (lambda: form(bell(1), bell(2), bell(3), keep_clips="perhaps"), 422, "invalid_request"),
        (lambda: form(bell(1), bell(2), bell(3), colour="red"), 422, "invalid_request"),
        (lambda: form(events=",".join(map(str, range(21)))), 422, "too_many_clips"),
        (lambda: form(bytes(10_000_001)), 413, "upload_too_large"),
    ],
)
async def test_what_teaches_nothing_is_refused_in_words(
    client: Client, data: Any, status: int, code: str
) -> None:
    problem = await teach(client, data(), status=status)
    assert problem["type"] == f"/problems/{code}"
    assert (await client.json("GET", "/api/sounds"))["sounds"] == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bell, front door", "has a comma"),
        ("جرس، الباب", "has a comma"),
        ("bell\nfront door", "has a line break"),
        ("bell\u2028front door", "has a line break"),
        ("bell\tfront door", "U+0009"),
        ("bell\u202e", "U+202E"),
        ("\u200b \u2800", "is required"),
        ("bell " * 41, "at most 200"),
    ],
)
async def test_a_name_that_no_list_of_labels_can_hold_is_refused(
    client: Client, name: str, words: str
) -> None:
    problem = await teach(client, form(*(bell(seed) for seed in range(3)), name=name), status=422)
    [error] = problem["errors"]
    assert error["field"] == "name"
    assert words in error["message"]
    assert (await client.json("GET", "/api/sounds"))["sounds"] == []


async def test_a_name_is_taught_once_and_no_more_than_some_sounds_are_kept(client: Client) -> None:
    await teach(client)
    problem = await teach(client, form(*(bell(seed) for seed in range(3)), name="My bell"), status=409)
    assert problem["type"] == "/problems/name_taken"
    sounds = client.server.context.store.sounds
    [sound] = sounds.all()
    sounds._sounds = {str(number): sound for number in range(MOST_SOUNDS)}
    problem = await teach(client, form(name="one more"), status=409)
    assert problem["type"] == "/problems/too_many_sounds"


async def test_no_more_sounds_are_kept_though_they_are_taught_at_once(client: Client) -> None:
    await teach(client)
    sounds = client.server.context.store.sounds
    [sound] = sounds.all()
    sounds._sounds = {str(number): sound for number in range(MOST_SOUNDS - 1)}

    async def teach_at_once(name: str) -> int:
        data = form(*(bell(seed) for seed in range(3)), name=name)
        async with client.request("POST", "/api/sounds", data=data) as response:
            return int(response.status)

    assert sorted(await asyncio.gather(*map(teach_at_once, ("one more", "and another")))) == [201, 409]
    assert len(sounds.all()) == MOST_SOUNDS


async def test_what_a_client_does_not_wait_for_is_not_taught(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = client.server.context
    held, began = threading.Event(), threading.Event()
    embed = shared.holder.model.embed_audio

    def slow(batch: Any) -> Any:
        began.set()
        assert held.wait(30)
        return embed(batch)

    monkeypatch.setattr(shared.holder.model, "embed_audio", slow)
    asking = asyncio.create_task(teach(client))
    await asyncio.to_thread(began.wait, 30)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: not shared.taught._changing.locked())
    held.set()
    await shared.supervisor.batcher.run(lambda: None)
    assert shared.store.sounds.all() == []
    monkeypatch.undo()
    assert (await teach(client))["id"] == "my_bell"


async def test_only_a_form_teaches(client: Client) -> None:
    problem = await client.json("POST", "/api/sounds", status=415, json={"name": "my bell"})
    assert problem["type"] == "/problems/not_multipart"
    twice = form(bell(1))
    twice.add_field("name", "again")
    assert "twice" in (await teach(client, twice, status=422))["detail"]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE sound_clips SET embeddings = x'00' WHERE number = 1",
        # Each fits together, and says that it is of the model.
        "UPDATE sound_clips SET windows = 2 * windows WHERE number = 1",
        "UPDATE sound_clips SET windows = 2 * windows",
        """UPDATE sounds SET findings = '{"clips":-5,"found_at_one_a_day":99,"found_at_one_an_hour":-1}'""",
        """UPDATE sounds SET findings = '{"clips":4,"found_at_one_a_day":4,"found_at_one_an_hour":3}'""",
    ],
)
async def test_a_taught_sound_that_makes_no_sense_is_left_out(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, holder=ReadyHolder(tmp_path, model_of(1))) as client:
        await teach(client)
        async with client.server.context.store.sounds._database.transaction() as connection:
            await connection.execute(damage)
    async with running(tmp_path, holder=ReadyHolder(tmp_path, model_of(1))) as client:
        assert (await client.json("GET", "/api/sounds"))["sounds"] == []
        assert client.server.context.library.taught == ()
        # It is taught again as the log says.
        assert (await teach(client))["problem"] is None
    assert "my_bell is unreadable; teach it again" in caplog.text


async def test_a_sound_that_cannot_be_of_the_model_that_comes_is_left_out_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, holder=ReadyHolder(tmp_path, model_of(1))) as client:
        await teach(client, form(*(bell(seed) for seed in range(4)), keep_clips="false"))
        async with client.server.context.store.sounds._database.transaction() as connection:
            await connection.execute("UPDATE sound_clips SET windows = 2 * windows")
    holder = ReadyHolder(tmp_path, model_of(2))
    async with running(tmp_path, holder=holder) as client:
        assert len((await client.json("GET", "/api/sounds"))["sounds"]) == 1
        holder.change(model_of(1))
        assert (await client.json("GET", "/api/sounds"))["sounds"] == []
        await until(lambda: not client.server.context.library.taught)
    assert "my_bell is unreadable" in caplog.text
