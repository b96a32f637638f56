"""The actions, called as automations and the user call them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import probatio
import pytest
import yaml
from aiohttp import web
from homeassistant.components.media_source.models import PlayMedia
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers import area_registry as ar
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.service import async_get_all_descriptions
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util

from clap_server.api import schemas
from clap_server.detection.library import load_library
from clap_server.detection.patterns import AlarmPattern
from clap_server.listening.events import ClipWithheld
from custom_components.clap_sound import recordings
from custom_components.clap_sound.client import client
from custom_components.clap_sound.const import DOMAIN, SECURITY_LABELS
from tests.integration.conftest import make_entry, microphone_data, until
from tests.integration.server import Peer
from tests.integration.test_self_test import result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry
    from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

pytestmark = pytest.mark.usefixtures("entry")
EVENT_ENTITY = "event.kitchen_sound_detected"
FOLDER = Path(recordings.__file__).parent


async def call(hass: HomeAssistant, service: str, **data: Any) -> dict[str, Any]:
    """Call an action and return its response."""
    response = await hass.services.async_call(DOMAIN, service, data, blocking=True, return_response=True)
    assert isinstance(response, dict)
    return dict(response)


async def events(hass: HomeAssistant, **data: Any) -> list[Any]:
    return list((await call(hass, "get_events", **data))["events"])


def key_of(caught: pytest.ExceptionInfo[HomeAssistantError]) -> str | None:
    return caught.value.translation_key


def device_id(hass: HomeAssistant, entry: MockConfigEntry, identifier: str) -> str:
    device = dr.async_get(hass).async_get_device_by_identifier((DOMAIN, identifier), entry.entry_id)
    assert device is not None
    return device.id


@pytest.fixture
async def other() -> AsyncIterator[Peer]:
    server = Peer()
    server.server_id = "00000000-0000-4000-8000-000000000002"
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def hall(hass: HomeAssistant, other: Peer) -> AsyncIterator[MockConfigEntry]:
    """A second server with the microphone "Hall"."""
    second = make_entry(hass, other, microphone_data("Hall"))
    assert await hass.config_entries.async_setup(second.entry_id)
    await hass.async_block_till_done()
    yield second
    await hass.config_entries.async_unload(second.entry_id)


# --- texts ---


async def test_every_action_and_field_is_described_and_has_an_icon(hass: HomeAssistant) -> None:
    described = (await async_get_all_descriptions(hass))[DOMAIN]
    written = yaml.safe_load((FOLDER / "services.yaml").read_text(encoding="utf-8"))
    texts = yaml.safe_load((FOLDER / "translations" / "en.json").read_text(encoding="utf-8"))["services"]
    icons = yaml.safe_load((FOLDER / "icons.json").read_text(encoding="utf-8"))["services"]
    assert described.keys() == written.keys() == texts.keys() == icons.keys()
    for name, service in written.items():
        fields = service.get("fields", {})
        assert texts[name].get("fields", {}).keys() == fields.keys()
        schema = hass.services.async_services()[DOMAIN][name].schema
        assert isinstance(schema, probatio.Schema)
        target = cv.TARGET_SERVICE_FIELDS if "target" in service else {}
        assert {*map(str, schema.schema)} == {*fields, *map(str, target)}


def test_security_labels_are_those_of_the_library() -> None:
    assert list(SECURITY_LABELS) == [label.id for label in load_library().labels if label.security]


# --- classify ---

FOUND = schemas.Classification(
    top_label="glass_breaking",
    top_score=0.91,
    labels=[
        schemas.LabelScore(label="glass_breaking", score=0.91, detected=True, meaning=""),
        schemas.LabelScore(label="alarm", score=0.12345, detected=False, meaning=""),
    ],
    threshold=0.5,
    duration_s=3.25,
    windows=[],
    patterns=[
        schemas.PatternFound(pattern=AlarmPattern.T3, label="smoke_alarm", onset_s=0.5, carrier_hz=3100)
    ],
)
RESPONSE = {
    "top_label": "glass_breaking",
    "top_score": 0.91,
    "scores": {"glass_breaking": 0.91, "alarm": 0.123},
    "threshold": 0.5,
    "detected": ["glass_breaking"],
    "patterns": [{"pattern": "T3", "label": "smoke_alarm", "onset_s": 0.5}],
    "too_quiet": False,
    "duration_s": 3.25,
}


def media(media_content_id: str) -> dict[str, str]:
    return {"media_content_id": media_content_id, "media_content_type": "audio/mpeg"}


async def test_file_in_an_allowed_folder_is_scored(hass: HomeAssistant, peer: Peer, tmp_path: Path) -> None:
    hass.config.allowlist_external_dirs = {str(tmp_path)}
    file = tmp_path / "bang.wav"
    file.write_bytes(b"sound" * 500_000)
    peer.classification = FOUND
    assert await call(hass, "classify", file=str(file)) == RESPONSE
    assert (
        await call(hass, "classify", file=str(file), labels=["a plate", "烟雾报警器"], threshold=0.7)
        == RESPONSE
    )
    assert [audio for audio, _ in peer.uploads] == [file.read_bytes()] * 2
    assert [fields for _, fields in peer.uploads] == [
        {"labels": ", ".join(SECURITY_LABELS)},
        {"labels": "a plate, 烟雾报警器", "threshold": "0.7"},
    ]


async def test_what_the_server_cannot_read_is_told_in_its_own_words(
    hass: HomeAssistant, peer: Peer, tmp_path: Path
) -> None:
    hass.config.allowlist_external_dirs = {str(tmp_path)}
    (tmp_path / "notes.txt").write_bytes(b"no sound")
    with pytest.raises(ServiceValidationError, match=r"^audio: this is no sound$"):
        await call(hass, "classify", file=str(tmp_path / "notes.txt"))
    await peer.stop()
    with pytest.raises(HomeAssistantError) as caught:
        await call(hass, "classify", file=str(tmp_path / "notes.txt"))
    assert key_of(caught) == "cannot_connect"


async def test_file_that_may_not_or_cannot_be_read_is_not_sent(
    hass: HomeAssistant, peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed, secret = tmp_path / "allowed", tmp_path / "secret.wav"
    allowed.mkdir()
    secret.write_bytes(b"secret")
    (allowed / "link.wav").symlink_to(secret)
    hass.config.allowlist_external_dirs = {str(allowed)}
    for path, key in (
        (secret, "path_not_allowed"),
        (allowed / ".." / "secret.wav", "path_not_allowed"),
        (allowed / "link.wav", "path_not_allowed"),
        (allowed / "missing.wav", "file_not_readable"),
        (allowed, "file_not_readable"),
    ):
        with pytest.raises(ServiceValidationError) as caught:
            await call(hass, "classify", file=str(path))
        assert key_of(caught) == key
    monkeypatch.setattr(recordings, "MAX_FILE_BYTES", 3)
    (allowed / "large.wav").write_bytes(b"large")
    with pytest.raises(ServiceValidationError) as caught:
        await call(hass, "classify", file=str(allowed / "large.wav"))
    assert key_of(caught) == "too_large"
    assert peer.uploads == []


@pytest.fixture
async def _media_source(hass: HomeAssistant) -> None:
    assert await async_setup_component(hass, "media_source", {})


@pytest.mark.usefixtures("_media_source")
async def test_recording_of_an_event_is_scored(hass: HomeAssistant, peer: Peer, kitchen: str) -> None:
    event = await peer.end_event(await peer.start_event(kitchen))
    peer.clips = {f"{event.id}/clip.flac": b"flac data"}
    peer.classification = FOUND
    (heard,) = await events(hass)
    assert await call(hass, "classify", media=media(heard["media_content_id"])) == RESPONSE
    assert peer.uploads[0][0] == b"flac data"
    peer.clips = {}
    with pytest.raises(ServiceValidationError, match=r"^This event has no recording\.$"):
        await call(hass, "classify", media=media(heard["media_content_id"]))


async def test_local_media_is_scored(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, tmp_path: Path
) -> None:
    (tmp_path / "bell.mp3").write_bytes(b"mp3 data")
    hass.config.media_dirs = {"local": str(tmp_path)}
    assert await async_setup_component(hass, "media_source", {})
    peer.classification = FOUND
    assert await call(hass, "classify", media=media("media-source://media_source/local/bell.mp3")) == RESPONSE
    assert peer.uploads[0][0] == b"mp3 data"
    for content_id, key in (
        ("media-source://media_source/local/../secret", "media_not_found"),
        ("media-source://nobody/a", "media_not_found"),
        (f"media-source://{DOMAIN}/{entry.entry_id}", "media_not_found"),
        ("http://192.0.2.1/a.mp3", "no_media_source"),
    ):
        with pytest.raises(ServiceValidationError) as caught:
            await call(hass, "classify", media=media(content_id))
        assert key_of(caught) == key


@pytest.mark.usefixtures("_media_source")
async def test_media_that_comes_by_http_is_scored(
    hass: HomeAssistant,
    peer: Peer,
    other: Peer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peer.classification = FOUND
    address = f"http://127.0.0.1:{other.port}/"

    async def resolve(_: HomeAssistant, _id: str, _player: None) -> PlayMedia:
        return PlayMedia(address, "audio/mpeg")

    monkeypatch.setattr(recordings, "async_resolve_media", resolve)
    radio = media("media-source://radio/one")
    other.answer_everything_with = web.Response(body=b"radio data")
    assert await call(hass, "classify", media=radio) == RESPONSE
    assert peer.uploads[0][0] == b"radio data"
    monkeypatch.setattr(recordings, "MAX_MEDIA_BYTES", 3)
    other.answer_everything_with = web.Response(body=b"radio data")
    with pytest.raises(ServiceValidationError) as caught:
        await call(hass, "classify", media=radio)
    assert key_of(caught) == "too_large"
    other.answer_everything_with = web.Response(status=HTTPStatus.GONE)
    with pytest.raises(ServiceValidationError, match="HTTP 410"):
        await call(hass, "classify", media=radio)
    await other.stop()
    with pytest.raises(HomeAssistantError) as caught:
        await call(hass, "classify", media=radio)
    assert key_of(caught) == "media_no_answer"


async def test_one_recording_and_one_server_are_needed(
    hass: HomeAssistant, peer: Peer, hall: MockConfigEntry, other: Peer, tmp_path: Path
) -> None:
    hass.config.allowlist_external_dirs = {str(tmp_path)}
    file = tmp_path / "a.wav"
    file.write_bytes(b"a")
    with pytest.raises(ServiceValidationError) as caught:
        await call(hass, "classify", config_entry_id=hall.entry_id)
    assert key_of(caught) == "no_recording"
    with pytest.raises(probatio.Invalid):
        await call(hass, "classify", file=str(file), media=media("media-source://a/b"))
    with pytest.raises(ServiceValidationError) as caught:
        await call(hass, "classify", file=str(file))
    assert key_of(caught) == "service_found_multiple_config_entry_for_domain"
    other.classification = FOUND
    assert await call(hass, "classify", file=str(file), config_entry_id=hall.entry_id) == RESPONSE
    assert (len(peer.uploads), len(other.uploads)) == (0, 1)


async def test_recording_of_an_event_is_scored_by_its_own_server_unless_another_is_named(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, hall: MockConfigEntry, other: Peer
) -> None:
    event = await other.end_event(await other.start_event(next(iter(hall.subentries))))
    other.clips = {f"{event.id}/clip.flac": b"flac data"}
    peer.classification = other.classification = FOUND
    (heard,) = await events(hass)
    recording = media(heard["media_content_id"])
    assert await call(hass, "classify", media=recording) == RESPONSE
    assert await call(hass, "classify", media=recording, config_entry_id=entry.entry_id) == RESPONSE
    assert [audio for audio, _ in other.uploads + peer.uploads] == [b"flac data"] * 2
    assert len(other.uploads) == len(peer.uploads) == 1


# --- get_events ---


async def test_event_is_told_with_time_room_and_recording(
    hass: HomeAssistant,
    peer: Peer,
    entry: MockConfigEntry,
    kitchen: str,
    hass_client_no_auth: ClientSessionGenerator,
) -> None:
    hass.config.language = "zh-Hans"
    await hass.config.async_update(time_zone="Asia/Shanghai")
    device = device_id(hass, entry, kitchen)
    assert await events(hass) == []
    dr.async_get(hass).async_update_device(device, area_id=ar.async_get(hass).async_create("厨房").id)
    event = await peer.end_event(await peer.start_event(kitchen, "alarm", pattern=AlarmPattern.T3))
    peer.clips = {f"{event.id}/clip.mp3": b"mp3 data"}
    (heard,) = await events(hass)
    assert event.ended_at is not None
    path = heard.pop("clip_path")
    assert heard == {
        "event_id": event.id,
        "time": dt_util.as_local(event.started_at).isoformat(),
        "ended": dt_util.as_local(event.ended_at).isoformat(),
        "microphone": "Kitchen",
        "device_id": device,
        "room": "厨房",
        "label": "alarm",
        "label_name": "警报",
        "score": 0.8,
        "peak_score": 0.9,
        "peak_level_dbfs": -12.5,
        "pattern": "T3",
        "media_content_id": f"media-source://clap_sound/{entry.entry_id}/{event.id}",
    }
    assert heard["time"].endswith("+08:00")
    client = await hass_client_no_auth()
    response = await client.get(path)
    assert (response.status, await response.read()) == (HTTPStatus.OK, b"mp3 data")
    for other in (path.partition("?")[0], path.replace(event.id, "another")):
        assert (await client.get(other)).status == HTTPStatus.UNAUTHORIZED


async def test_recording_is_told_when_there_is_one_or_will_be_one(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    going_on = await peer.start_event(kitchen)
    over = await peer.end_event(await peer.start_event(kitchen, "alarm"))
    for withheld in (ClipWithheld.COMING, ClipWithheld.SPEECH):
        news = {"has_clip": False, "clip_withheld": withheld}
        peer.changes.append(peer.changes[-1].model_copy(update={"event": over.model_copy(update=news)}))
        clips = {heard["event_id"]: heard["media_content_id"] for heard in await events(hass)}
        assert clips[going_on.id] is not None
        assert (clips[over.id] is not None) is (withheld is ClipWithheld.COMING)


async def test_events_are_found_by_microphone_label_time_and_score(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str, hall: MockConfigEntry, other: Peer
) -> None:
    hour = timedelta(hours=1)
    (hall_microphone,) = hall.subentries
    yesterday = await peer.start_event(kitchen, "glass_breaking", age=30 * hour)
    early = await peer.start_event(kitchen, "alarm", age=5 * hour)
    in_hall = await other.start_event(hall_microphone, "glass_breaking", age=4 * hour)
    faint = await peer.start_event(kitchen, "glass_breaking", age=3 * hour, score=0.55)
    late = await peer.start_event(kitchen, "glass_breaking", age=hour)

    async def ids(**data: Any) -> list[str]:
        return [heard["event_id"] for heard in await events(hass, **data)]

    now = dt_util.now()
    assert await ids() == [late.id, faint.id, in_hall.id, early.id]
    assert await ids(since=now - 40 * hour) == [late.id, faint.id, in_hall.id, early.id, yesterday.id]
    # Without an offset it is the time of the clock on the wall.
    assert await ids(since=f"{now - 2 * hour:%Y-%m-%d %H:%M:%S}") == [late.id]
    assert await ids(until=now - 2 * hour, limit=2) == [faint.id, in_hall.id]
    assert await ids(min_score=0.6) == [late.id, in_hall.id, early.id]
    assert await ids(labels=["Glasbruch", "glass_breaking"]) == [late.id, faint.id, in_hall.id]
    assert await ids(labels=["Alarm", "nothing of the kind"]) == [early.id]
    assert await ids(entity_id=EVENT_ENTITY, limit=1) == [late.id]
    assert await ids(device_id=device_id(hass, hall, hall_microphone)) == [in_hall.id]
    assert await ids(device_id=device_id(hass, hall, hall.entry_id)) == [in_hall.id]
    area = ar.async_get(hass).async_create("Upstairs")
    dr.async_get(hass).async_update_device(device_id(hass, entry, kitchen), area_id=area.id)
    assert await ids(area_id=area.id, labels=["alarm"]) == [early.id]


async def test_all_pages_are_looked_through_whatever_the_order_of_the_ends(
    hass: HomeAssistant, peer: Peer, kitchen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "EVENT_PAGE", 3)
    now = datetime.now(UTC)
    ages = (50, 40, 30, 20, 10, 9, 8)
    started = [await peer.start_event(kitchen, age=timedelta(minutes=age)) for age in ages]
    # The first goes on the longest; the second lost its end in a crash, and it was closed with an old time.
    for event, minutes in ((started[2], 29), (started[4], 9), (started[0], 1), (started[1], 39)):
        await peer.end_event(event, ended_at=now - timedelta(minutes=minutes))
    newest_first = [event.id for event in reversed(started)]
    for limit in range(1, 8):
        found = await events(hass, limit=limit)
        assert [heard["event_id"] for heard in found] == newest_first[:limit]
    for count, age in enumerate(reversed(ages), start=1):
        found = await events(hass, since=now - timedelta(minutes=age + 0.5))
        assert [heard["event_id"] for heard in found] == newest_first[:count]


async def test_events_of_own_words_and_of_the_servers_own_microphones_are_found(
    hass: HomeAssistant, other: Peer
) -> None:
    entry = make_entry(hass, other, microphone_data("Bath", [{"label": "a tap, dripping"}]))
    assert await hass.config_entries.async_setup(entry.entry_id)
    (bath,) = entry.subentries
    (label,) = other.microphone(bath)["labels"]
    event = await other.start_event(bath, label["id"])
    (heard,) = await events(hass, labels=["A Tap, dripping"])
    assert (heard["event_id"], heard["label_name"]) == (event.id, "a tap, dripping")
    other.settings["usb"] = other.settings[bath].model_copy(update={"name": "USB", "owner": "server"})
    await other.start_event("usb", label["id"])
    told = [(heard["microphone"], heard["room"], heard["device_id"]) for heard in await events(hass)]
    assert told == [("USB", None, None), ("Bath", None, device_id(hass, entry, bath))]
    await hass.config_entries.async_unload(entry.entry_id)


async def test_question_that_cannot_be_answered_is_refused(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str, hall: MockConfigEntry
) -> None:
    now = dt_util.now()
    for data, key in (
        ({"since": now, "until": now - timedelta(hours=1)}, "since_after_until"),
        ({"since": now + timedelta(hours=1)}, "since_after_until"),
        ({"entity_id": "light.kitchen"}, "no_microphone"),
        ({"device_id": "nobody"}, "no_microphone"),
    ):
        with pytest.raises(ServiceValidationError) as caught:
            await events(hass, **data)
        assert key_of(caught) == key
    await peer.stop()
    with pytest.raises(HomeAssistantError) as caught:
        await events(hass)
    assert key_of(caught) == "cannot_connect"
    await hass.config_entries.async_unload(entry.entry_id)
    assert await events(hass) == []
    with pytest.raises(ServiceValidationError) as caught:
        await events(hass, device_id=device_id(hass, entry, kitchen))
    assert key_of(caught) == "service_config_entry_not_loaded"
    await hass.config_entries.async_unload(hall.entry_id)
    with pytest.raises(ServiceValidationError) as caught:
        await events(hass)
    assert key_of(caught) == "no_server"


# --- feedback ---


async def test_verdict_reaches_the_server_that_has_the_event(
    hass: HomeAssistant, peer: Peer, hall: MockConfigEntry, other: Peer
) -> None:
    event = await other.start_event(next(iter(hall.subentries)))
    assert await call(hass, "feedback", event_id=event.id, verdict="false_alarm") == {
        "event_id": event.id,
        "verdict": "false_alarm",
        "learnt": True,
        "words": "it counts",
        "score_now": 0.25,
    }
    assert (peer.verdicts, other.verdicts) == ([], [(event.id, "false_alarm")])


async def test_newest_sound_of_an_event_entity_is_judged(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    with pytest.raises(ServiceValidationError) as caught:
        await call(hass, "feedback", entity_id=EVENT_ENTITY, verdict="correct")
    assert key_of(caught) == "nothing_heard"
    event = await peer.start_event(kitchen)
    await until(hass, lambda: hass.states.get(EVENT_ENTITY).attributes.get("event_id") == event.id)  # type: ignore[union-attr]
    data = {"entity_id": EVENT_ENTITY, "verdict": "correct"}
    await hass.services.async_call(DOMAIN, "feedback", data, blocking=True)
    assert peer.verdicts == [(event.id, "correct")]


@pytest.mark.usefixtures("hall")
async def test_verdict_that_cannot_be_given_is_refused(hass: HomeAssistant, peer: Peer, other: Peer) -> None:
    for data, key in (
        ({}, "no_event"),
        ({"entity_id": "binary_sensor.kitchen_glass_breaking"}, "no_event_entity"),
        ({"entity_id": "event.nobody"}, "no_event_entity"),
        ({"event_id": "unknown"}, "refused"),
    ):
        with pytest.raises(ServiceValidationError) as caught:
            await call(hass, "feedback", verdict="correct", **data)
        assert key_of(caught) == key
    assert str(caught.value).startswith("There is no event of this id")
    for data in ({"event_id": "../microphones"}, {"event_id": "a", "entity_id": EVENT_ENTITY}):
        with pytest.raises(probatio.Invalid):
            await call(hass, "feedback", verdict="correct", **data)
    # It may be an event of the server that does not answer.
    await other.stop()
    with pytest.raises(HomeAssistantError) as caught_other:
        await call(hass, "feedback", event_id="unknown", verdict="correct")
    assert key_of(caught_other) == "cannot_connect"
    assert peer.verdicts == []


# --- self_test ---


@pytest.mark.usefixtures("hall")
async def test_microphones_are_tested_and_the_results_returned(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str, other: Peer
) -> None:
    peer.self_test = result()
    other.self_test = result("not_found", delay_s=None, score=0.6)
    microphones = [EVENT_ENTITY, "event.hall_sound_detected"]
    missed, found = (await call(hass, "self_test", entity_id=microphones))["results"]
    assert found == {
        "microphone": "Kitchen",
        "device_id": device_id(hass, entry, kitchen),
        "outcome": "found",
        "words": peer.self_test.words,
        "sound": "Glass breaking",
        "score": 0.98,
        "threshold": 0.7,
        "delay_s": 0.24,
        "level_dbfs": -28.2,
        "noise_floor_dbfs": -58.2,
    }
    assert (missed["microphone"], missed["outcome"], missed["delay_s"]) == ("Hall", "not_found", None)
    other.self_test = "The microphone is not listening: stalled"
    results = (await call(hass, "self_test", entity_id=microphones))["results"]
    assert [test["outcome"] for test in results] == ["impossible", "found"]
    assert results[0]["words"] == "The microphone is not listening: stalled"


async def test_failed_test_is_an_error_where_nobody_asks_for_the_result(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    target = {"device_id": device_id(hass, entry, kitchen)}

    async def run() -> None:
        await hass.services.async_call(DOMAIN, "self_test", target, blocking=True)

    peer.self_test = result()
    await run()
    peer.self_test = result("not_found", delay_s=None)
    with pytest.raises(HomeAssistantError, match=r"Kitchen.* under its threshold") as caught:
        await run()
    assert key_of(caught) == "self_test_failed"
    peer.self_test = "The microphone is not listening: stalled"
    with pytest.raises(HomeAssistantError, match="stalled") as caught:
        await run()
    assert key_of(caught) == "self_test_impossible"
    await peer.stop()
    with pytest.raises(HomeAssistantError) as caught:
        await run()
    assert key_of(caught) == "cannot_connect"
    with pytest.raises(ServiceValidationError) as nobody:
        await hass.services.async_call(DOMAIN, "self_test", {}, blocking=True)
    assert key_of(nobody) == "no_microphone"
