"""The blueprints, imported and run by Home Assistant, with a phone that fetches what it was sent."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, tzinfo
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from aiohttp import web
from homeassistant.components.automation.config import AUTOMATION_BLUEPRINT_SCHEMA
from homeassistant.components.blueprint import importer
from homeassistant.components.blueprint.models import Blueprint
from homeassistant.core import callback
from homeassistant.helpers import area_registry as ar
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import script
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
from homeassistant.util import yaml as yaml_util

from clap_server.detection.library import load_library
from clap_server.detection.patterns import AlarmPattern
from custom_components.clap_sound.const import DOMAIN
from tests.integration.conftest import WAIT_S, make_entry, microphone_data, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from homeassistant.core import Event, HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry
    from pytest_homeassistant_custom_component.test_util.aiohttp import AiohttpClientMocker
    from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

    from tests.integration.server import Peer

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "blueprints" / "automation" / "clap_sound"
BLUEPRINTS = sorted(FOLDER.glob("*.yaml"))
PHONE = "phone_notification.yaml"
KITCHEN = "event.kitchen_sound_detected"
AUTOMATION = "automation.tell_my_phone"


def load(path: Path) -> Blueprint:
    data = yaml_util.load_yaml_dict(path)
    return Blueprint(data, path=path.name, expected_domain="automation", schema=AUTOMATION_BLUEPRINT_SCHEMA)


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.name)
async def test_blueprint_is_imported_from_where_the_readme_points(
    hass: HomeAssistant, path: Path, aioclient_mock: AiohttpClientMocker
) -> None:
    source = load(path).metadata["source_url"]
    assert source.endswith(f"/blob/main/{path.relative_to(ROOT)}")
    text = await hass.async_add_executor_job(path.read_text)
    readme = await hass.async_add_executor_job((ROOT / "README.md").read_text)
    link = f"https://my.home-assistant.io/redirect/blueprint_import/?blueprint_url={quote(source, safe='')}"
    assert link in readme
    raw = source.replace("https://github.com/", "https://raw.githubusercontent.com/").replace("/blob/", "/")
    aioclient_mock.get(raw, text=text)
    imported = await importer.fetch_blueprint_from_url(hass, source)
    assert imported.blueprint.validate() is None
    assert imported.blueprint.domain == "automation"


def test_blueprint_offers_the_sounds_of_the_library() -> None:
    selector = load(FOLDER / PHONE).inputs["labels"]["selector"]["select"]
    assert [(option["value"], option["label"]) for option in selector["options"]] == [
        (label.id, label.names["en"]) for label in load_library().labels
    ]


# --- a phone ---


@dataclass
class Phone:
    """Where the pushes of one phone arrive.

    Attributes:
        device_id: of the registered phone.
        pushes: what arrived, the oldest first.
    """

    device_id: str
    pushes: list[dict[str, Any]] = field(default_factory=list)


class Receiver:
    """What delivers pushes to phones, on 127.0.0.1."""

    def __init__(self, hass: HomeAssistant, hass_client: ClientSessionGenerator) -> None:
        self._hass = hass
        self._hass_client = hass_client
        self._phones: dict[str, Phone] = {}
        self.refused: set[str] = set()
        self.address = ""

    async def push(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["push_token"] in self.refused:
            return web.json_response({"message": "out of order"}, status=HTTPStatus.INTERNAL_SERVER_ERROR)
        self._phones[body["push_token"]].pushes.append(body)
        return web.json_response({}, status=HTTPStatus.CREATED)

    async def register(self, name: str, manufacturer: str, *, takes_pushes: bool = True) -> Phone:
        """Register a phone as the app does."""
        client = await self._hass_client()
        answer = await client.post(
            "/api/mobile_app/registrations",
            json={
                "app_id": "io.robbie.HomeAssistant",
                "app_name": "Home Assistant",
                "app_version": "2026.10.0",
                "device_id": name,
                "device_name": name,
                "manufacturer": manufacturer,
                "model": "Phone",
                "os_name": "OS",
                "os_version": "20",
                "supports_encryption": False,
                "app_data": {"push_token": name, "push_url": self.address} if takes_pushes else {},
            },
        )
        assert answer.status == HTTPStatus.CREATED
        await self._hass.async_block_till_done()
        entry = self._hass.config_entries.async_entries("mobile_app")[-1]
        (device,) = dr.async_entries_for_config_entry(dr.async_get(self._hass), entry.entry_id)
        assert device.name == name
        self._phones[name] = Phone(device.id)
        return self._phones[name]


@pytest.fixture
async def receiver(hass: HomeAssistant, hass_client: ClientSessionGenerator) -> AsyncIterator[Receiver]:
    # Before the first client, after which no view can be added.
    assert await async_setup_component(hass, DOMAIN, {})
    assert await async_setup_component(hass, "notify", {})
    assert await async_setup_component(hass, "mobile_app", {})
    receiver = Receiver(hass, hass_client)
    app = web.Application()
    app.router.add_post("/push", receiver.push)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.address = f"http://127.0.0.1:{runner.addresses[0][1]}/push"
    yield receiver
    await runner.cleanup()


@pytest.fixture
async def android(receiver: Receiver) -> Phone:
    return await receiver.register("Pixel of Ann", "Google")


class Clock:
    """Home Assistant's, which a test puts ahead."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def utcnow(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def now(self, time_zone: tzinfo | None = None) -> datetime:
        return self.utcnow().astimezone(time_zone or dt_util.get_default_time_zone())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(dt_util, "utcnow", clock.utcnow)
    monkeypatch.setattr(dt_util, "now", clock.now)
    monkeypatch.setattr(script, "utcnow", clock.utcnow)
    return clock


async def use(hass: HomeAssistant, tmp_path: Path, phones: list[Phone], **inputs: Any) -> None:
    """Set the automation for phones up."""
    phone_ids = [phone.device_id for phone in phones]
    await use_blueprint(hass, tmp_path, PHONE, {"microphones": [KITCHEN], "phones": phone_ids, **inputs})


async def use_blueprint(hass: HomeAssistant, tmp_path: Path, name: str, inputs: dict[str, Any]) -> None:
    """Set an automation up from a blueprint that is in Home Assistant's folder."""
    folder = tmp_path / "blueprints" / "automation" / "clap_sound"
    shutil.copytree(FOLDER, folder)
    hass.config.config_dir = str(tmp_path)
    automation = {
        "alias": "Tell my phone",
        "use_blueprint": {"path": f"clap_sound/{name}", "input": inputs},
    }
    assert await async_setup_component(hass, "automation", {"automation": [automation]})
    await hass.async_block_till_done()
    state = hass.states.get(AUTOMATION)
    assert state is not None
    assert state.state == "on"


async def runs(hass: HomeAssistant) -> None:
    """Wait until all that was set off is done."""
    await until(hass, lambda: hass.states.get(AUTOMATION).attributes["current"] == 0)  # type: ignore[union-attr]


async def heard(hass: HomeAssistant, peer: Peer, microphone: str, label: str, **more: Any) -> Any:
    """Let a sound be heard, and all that it sets off be done."""
    event = await peer.start_event(microphone, label, **more)
    await until(hass, lambda: hass.states.get(KITCHEN).attributes.get("event_id") == event.id)  # type: ignore[union-attr]
    await runs(hass)
    return event


async def test_push_arrives_and_its_recording_plays_without_a_session(
    hass: HomeAssistant,
    peer: Peer,
    entry: MockConfigEntry,
    kitchen: str,
    receiver: Receiver,
    android: Phone,
    tmp_path: Path,
    hass_client_no_auth: ClientSessionGenerator,
) -> None:
    await hass.config.async_update(time_zone="Asia/Shanghai")
    apple = await receiver.register("iPhone", "Apple")
    device = dr.async_get(hass).async_get_device_by_identifier((DOMAIN, kitchen), entry.entry_id)
    assert device is not None
    room = ar.async_get(hass).async_create("Ground floor")
    dr.async_get(hass).async_update_device(device.id, area_id=room.id)
    await use(hass, tmp_path, [android, apple], camera="camera.hall", number="+49 30 123")
    event = await heard(hass, peer, kitchen, "alarm", pattern=AlarmPattern.T3)
    (push,), (other) = android.pushes, apple.pushes[0]
    assert push["title"] == other["title"] == "Alarm"
    at = dt_util.as_local(event.started_at)
    assert push["message"] == other["message"] == f"Kitchen (Ground floor), {at:%H:%M:%S}, score 0.80, T3"
    data = push["data"]
    recording = data.pop("audio")
    assert data == {
        "tag": f"clap_sound_{event.id}",
        "group": "clap_sound",
        "actions": [
            {"action": f"CLAP_SOUND_FALSE_ALARM|{AUTOMATION}|{event.id}", "title": "False alarm"},
            {"action": "URI", "title": "Play", "uri": recording},
            {"action": "URI", "title": "Call", "uri": "deep-link://tel:+4930123"},
        ],
        "image": "/api/camera_proxy/camera.hall",
        "channel": "CLAP Sound",
        "importance": "high",
        "ttl": 0,
        "priority": "high",
    }
    assert other["data"]["actions"][2]["uri"] == "tel:+4930123"
    assert other["data"]["push"] == {"interruption-level": "time-sensitive", "sound": "default"}
    # The phone asks at once, while the sound still goes on, and again in the evening.
    peer.coming_clips = {f"{event.id}/clip.mp3": b"mp3 data"}
    peer.clip_comes_at_request = 1
    stranger = await hass_client_no_auth()
    for address in (recording, other["data"]["audio"], recording):
        response = await stranger.get(address)
        assert (response.status, response.content_type) == (HTTPStatus.OK, "audio/mpeg")
        assert await response.read() == b"mp3 data"
    assert (await stranger.get(recording.partition("?")[0])).status == HTTPStatus.UNAUTHORIZED


async def test_address_of_a_recording_is_in_no_state_and_no_event_of_a_sound(
    hass: HomeAssistant, peer: Peer, kitchen: str, android: Phone, tmp_path: Path
) -> None:
    told: list[Any] = []
    hass.bus.async_listen("clap_sound_event", callback(lambda event: told.append(event.data)))
    await use(hass, tmp_path, [android])
    await heard(hass, peer, kitchen, "glass_breaking")
    signature = android.pushes[0]["data"]["audio"].partition("authSig=")[2]
    assert len(signature) > 40
    assert signature not in str([state.as_dict() for state in hass.states.async_all()])
    assert len(told) == 1
    assert signature not in str(told)


async def test_false_alarm_is_reported_by_its_button_alone(
    hass: HomeAssistant, peer: Peer, kitchen: str, android: Phone, tmp_path: Path
) -> None:
    await use(hass, tmp_path, [android])
    first = await heard(hass, peer, kitchen, "glass_breaking")
    await heard(hass, peer, kitchen, "alarm")
    assert len(android.pushes) == 2
    (button, *_) = android.pushes[0]["data"]["actions"]
    for action in ("OPEN", button["action"].replace(AUTOMATION, "automation.another"), button["action"]):
        hass.bus.async_fire("mobile_app_notification_action", {"action": action, "tag": "any"})
        await runs(hass)
    hass.bus.async_fire("mobile_app_notification_action", {})
    await runs(hass)
    assert peer.verdicts == [(first.id, "false_alarm")]
    assert len(android.pushes) == 2


async def test_only_chosen_sounds_with_a_high_enough_score_are_told(
    hass: HomeAssistant, peer: Peer, android: Phone, tmp_path: Path
) -> None:
    words = "a tap, dripping"
    labels = [{"label": label} for label in ("glass_breaking", "alarm", words)]
    entry = make_entry(hass, peer, microphone_data(labels=labels), microphone_data("Hall", labels))
    assert await hass.config_entries.async_setup(entry.entry_id)
    kitchen, hall = entry.subentries
    own = peer.microphone(kitchen)["labels"][2]["id"]
    await use(hass, tmp_path, [android], labels=["glass_breaking", words.upper()], min_score=0.75)
    await heard(hass, peer, kitchen, "alarm")
    await heard(hass, peer, kitchen, "glass_breaking", score=0.7)
    await peer.start_event(hall, "glass_breaking")
    # One that is told does not come too late for one that was not.
    await heard(hass, peer, kitchen, "glass_breaking", score=0.75)
    await heard(hass, peer, kitchen, own)
    assert [push["title"] for push in android.pushes] == ["Glass breaking", words]
    await hass.config_entries.async_unload(entry.entry_id)


async def test_same_sound_is_told_again_after_the_pause_and_another_at_once(
    hass: HomeAssistant, peer: Peer, kitchen: str, android: Phone, tmp_path: Path, clock: Clock
) -> None:
    await use(hass, tmp_path, [android], cooldown=60)

    async def after(seconds: float, label: str) -> int:
        clock.ahead += timedelta(seconds=seconds)
        await heard(hass, peer, kitchen, label)
        return len(android.pushes)

    assert await after(0, "alarm") == 1
    assert await after(30, "alarm") == 1
    assert await after(1, "glass_breaking") == 2
    assert await after(1, "alarm") == 3
    # What goes on and on is told once in each pause.
    assert await after(40, "alarm") == 3
    assert await after(40, "alarm") == 4
    assert await after(100, "alarm") == 5


@pytest.mark.parametrize(
    ("now", "quiet"),
    [("21:30:00", False), ("22:00:00", True), ("03:00:00", True), ("07:00:00", False), ("12:00:00", False)],
)
async def test_push_is_loud_but_not_in_quiet_hours(
    hass: HomeAssistant,
    peer: Peer,
    kitchen: str,
    receiver: Receiver,
    tmp_path: Path,
    clock: Clock,
    now: str,
    quiet: bool,
) -> None:
    await hass.config.async_update(time_zone="UTC")
    android, apple = await receiver.register("Pixel", "Google"), await receiver.register("iPhone", "Apple")
    hours = {"quiet_from": "22:00:00", "quiet_until": "07:00:00"}
    await use(hass, tmp_path, [android, apple], critical=True, **hours)
    today = datetime.now(UTC)
    clock.ahead = datetime.combine(today.date(), time.fromisoformat(now), UTC) - today
    await heard(hass, peer, kitchen, "alarm")
    assert android.pushes[0]["data"]["channel"] == ("CLAP Sound quiet" if quiet else "alarm_stream")
    level = apple.pushes[0]["data"]["push"]["interruption-level"]
    assert level == ("passive" if quiet else "critical")


async def test_push_comes_without_server_and_whatever_is_with_other_phones(
    hass: HomeAssistant, peer: Peer, kitchen: str, receiver: Receiver, tmp_path: Path
) -> None:
    deaf = await receiver.register("Deaf", "Google", takes_pushes=False)
    broken = await receiver.register("Broken", "Google")
    here = await receiver.register("Here", "Google")
    receiver.refused.add("Broken")
    await use(hass, tmp_path, [Phone("removed"), deaf, broken, here])
    await heard(hass, peer, kitchen, "alarm")
    assert len(here.pushes) == 1
    peer.answer_everything_with = web.Response(status=HTTPStatus.INTERNAL_SERVER_ERROR)
    await heard(hass, peer, kitchen, "glass_breaking")
    assert [push["title"] for push in here.pushes] == ["Alarm", "Glass breaking"]
    assert "audio" not in here.pushes[1]["data"]
    assert [action["title"] for action in here.pushes[1]["data"]["actions"]] == ["False alarm"]


@pytest.mark.parametrize("told", [True, False])
async def test_what_was_heard_meanwhile_is_told_once_and_what_is_known_is_not(
    hass: HomeAssistant,
    peer: Peer,
    entry: MockConfigEntry,
    kitchen: str,
    android: Phone,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    told: bool,
) -> None:
    await use(hass, tmp_path, [android], late=told, critical=True)
    await heard(hass, peer, kitchen, "alarm")
    assert await hass.config_entries.async_unload(entry.entry_id)
    missed = await peer.end_event(await peer.start_event(kitchen, "alarm", age=timedelta(hours=2)))
    assert await hass.config_entries.async_setup(entry.entry_id)
    # The next live sound comes after all that was missed.
    await heard(hass, peer, kitchen, "glass_breaking")
    assert [
        record.message
        for record in caplog.records
        if record.levelname in ("WARNING", "ERROR") and "automation" in record.name
    ] == []
    channels = [push["data"]["channel"] for push in android.pushes]
    if not told:
        assert channels == ["alarm_stream"] * 2
        return
    assert channels == ["alarm_stream", "CLAP Sound quiet", "alarm_stream"]
    at = dt_util.as_local(missed.started_at)
    assert android.pushes[1]["message"] == f"Kitchen, {at:%Y-%m-%d %H:%M:%S}, score 0.80"
    assert android.pushes[1]["data"]["audio"].startswith(
        f"/api/clap_sound/{entry.entry_id}/events/{missed.id}/clip.mp3?authSig="
    )


# --- smoke alarms ---

SMOKE, CARBON_MONOXIDE = "binary_sensor.kitchen_smoke_alarm", "binary_sensor.hall_carbon_monoxide_alarm"


@dataclass
class House:
    """Two microphones that listen for alarms; ``steps``: what was done, in order."""

    entry: MockConfigEntry
    kitchen: str
    hall: str
    steps: list[str]


@pytest.fixture
async def house(hass: HomeAssistant, peer: Peer) -> AsyncIterator[House]:
    entry = make_entry(
        hass,
        peer,
        microphone_data(labels=[{"label": "smoke_alarm"}]),
        microphone_data("Hall", [{"label": "carbon_monoxide_alarm"}]),
    )
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    house = House(entry, *entry.subentries, [])

    @callback
    def done(event: Event) -> None:
        house.steps.append(event.data["is"])

    hass.bus.async_listen("step", done)
    yield house
    await hass.config_entries.async_unload(entry.entry_id)


def step(name: str) -> list[dict[str, Any]]:
    return [{"event": "step", "event_data": {"is": name}}]


async def reached(condition: Callable[[], object]) -> None:
    """Wait for what follows while the automation itself waits."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


async def use_steps(hass: HomeAssistant, tmp_path: Path, minutes: float) -> None:
    inputs = {
        "alarms": [SMOKE, CARBON_MONOXIDE],
        "minutes": minutes,
        "heard_actions": step("heard"),
        "confirmed_actions": step("confirmed in {{ rooms | join }}"),
        "still_actions": step("goes on"),
    }
    await use_blueprint(hass, tmp_path, "smoke_alarm.yaml", inputs)


async def test_alarm_that_its_rhythm_confirms_later_escalates(
    hass: HomeAssistant, peer: Peer, house: House, tmp_path: Path
) -> None:
    device = dr.async_get(hass).async_get_device_by_identifier((DOMAIN, house.kitchen), house.entry.entry_id)
    assert device is not None
    area = ar.async_get(hass).async_create("Kitchen")
    dr.async_get(hass).async_update_device(device.id, area_id=area.id)
    await use_steps(hass, tmp_path, minutes=0)
    event = await peer.start_event(house.kitchen, "smoke_alarm")
    await reached(lambda: house.steps == ["heard"])
    # The other microphone hears it, too, which begins nothing anew.
    other = await peer.start_event(house.hall, "carbon_monoxide_alarm")
    await reached(lambda: hass.states.is_state(CARBON_MONOXIDE, "on"))
    await peer.end_event(other)
    await reached(lambda: hass.states.is_state(CARBON_MONOXIDE, "off"))
    await peer.confirm_event(event, AlarmPattern.T3)
    await reached(lambda: hass.states.get(AUTOMATION).attributes["current"] == 0)  # type: ignore[union-attr]
    assert house.steps == ["heard", "confirmed in Kitchen", "goes on"]


async def test_alarm_that_is_known_by_its_rhythm_at_once_and_ends_is_not_told_twice(
    hass: HomeAssistant, peer: Peer, house: House, tmp_path: Path
) -> None:
    await use_steps(hass, tmp_path, minutes=10)
    event = await peer.start_event(house.hall, "carbon_monoxide_alarm", pattern=AlarmPattern.T4)
    await reached(lambda: house.steps == ["confirmed in"])
    await peer.end_event(event)
    await reached(lambda: hass.states.get(AUTOMATION).attributes["current"] == 0)  # type: ignore[union-attr]
    assert house.steps == ["confirmed in"]
    # The next is not taken for confirmed because the last one was.
    event = await peer.start_event(house.hall, "carbon_monoxide_alarm")
    await reached(lambda: house.steps == ["confirmed in", "heard"])
    await peer.end_event(event)
    await reached(lambda: hass.states.get(AUTOMATION).attributes["current"] == 0)  # type: ignore[union-attr]
    assert house.steps == ["confirmed in", "heard"]


async def test_alarm_still_escalates_after_the_server_was_gone(
    hass: HomeAssistant, peer: Peer, house: House, tmp_path: Path
) -> None:
    await use_steps(hass, tmp_path, minutes=0)
    event = await peer.start_event(house.kitchen, "smoke_alarm")
    await reached(lambda: house.steps == ["heard"])
    await peer.stop()
    await reached(lambda: hass.states.is_state(SMOKE, "unavailable"))
    await peer.start()
    await reached(lambda: hass.states.is_state(SMOKE, "on"))
    assert house.steps == ["heard"]
    await peer.confirm_event(event, AlarmPattern.T3)
    await reached(lambda: hass.states.get(AUTOMATION).attributes["current"] == 0)  # type: ignore[union-attr]
    assert house.steps == ["heard", "confirmed in", "goes on"]
