"""What the server pushes shows in Home Assistant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from homeassistant.core import callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er

from clap_server.api import schemas
from clap_server.detection.patterns import AlarmPattern
from tests.integration.conftest import make_entry, microphone_data, state_of, until
from tests.integration.server import status

if TYPE_CHECKING:
    from homeassistant.core import Event, EventStateChangedData, HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from tests.integration.server import Peer

GLASS = "binary_sensor.kitchen_glass_breaking"
HEARD = "event.kitchen_sound_detected"
TOP = "sensor.kitchen_top_sound"


def record(hass: HomeAssistant, entity_id: str) -> list[str]:
    """Collect the states of an entity."""
    states: list[str] = []

    @callback
    def changed(event: Event[EventStateChangedData]) -> None:
        if event.data["entity_id"] == entity_id and (new := event.data["new_state"]):
            states.append(new.state)

    hass.bus.async_listen("state_changed", changed)
    return states


async def test_each_microphone_is_a_device_behind_the_server(
    hass: HomeAssistant, entry: MockConfigEntry, kitchen: str
) -> None:
    devices = dr.async_get(hass)
    hub = devices.async_get_device_by_identifier(("clap_sound", entry.entry_id), entry.entry_id)
    microphone = devices.async_get_device_by_identifier(("clap_sound", kitchen), entry.entry_id)
    assert hub is not None
    assert microphone is not None
    assert microphone.name == "Kitchen"
    assert microphone.via_device_id == hub.id
    assert hub.model == "Built-in model"


async def test_sound_sensor_is_on_from_start_to_end_of_the_event(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    assert state_of(hass, GLASS) == "off"
    event = await peer.start_event(kitchen)
    await until(hass, lambda: state_of(hass, GLASS) == "on")
    state = hass.states.get(GLASS)
    assert state is not None
    assert state.attributes["device_class"] == "sound"
    assert state.attributes["event_id"] == event.id
    assert state.attributes["started_at"] == event.started_at.isoformat()
    assert state.attributes["score"] == 0.8
    assert state.attributes["threshold"] == 0.7
    assert state.attributes["false_alarms_per_day"] == 1
    assert state_of(hass, "binary_sensor.kitchen_alarm") == "off"
    await peer.end_event(event)
    await until(hass, lambda: state_of(hass, GLASS) == "off")


async def test_sound_sensor_says_what_its_threshold_found_in_tests(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    def found() -> object:
        state = hass.states.get(GLASS)
        assert state is not None
        return state.attributes["found_in_tests"]

    assert found() is None
    peer.found = {"glass_breaking": [0.5, 0.6, 0.7, 0.8]}
    await peer.tell_microphone(kitchen)
    await until(hass, lambda: found() == 0.5)


async def test_end_of_an_older_event_does_not_end_the_newer(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    older = await peer.start_event(kitchen)
    newer = await peer.start_event(kitchen)
    await peer.end_event(older)
    await peer.start_event(kitchen, "alarm")
    await until(hass, lambda: state_of(hass, "binary_sensor.kitchen_alarm") == "on")
    assert state_of(hass, GLASS) == "on"
    await peer.end_event(newer)
    await until(hass, lambda: state_of(hass, GLASS) == "off")


async def test_event_entity_fires_once_for_each_event_with_what_notifications_need(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    fired = record(hass, HEARD)
    first = await peer.start_event(kitchen)
    second = await peer.start_event(kitchen, "alarm")
    await peer.end_event(first)
    await peer.end_event(second)
    await until(hass, lambda: state_of(hass, GLASS) == "off" and len(fired) == 2)
    assert len(set(fired)) == 2
    state = hass.states.get(HEARD)
    assert state is not None
    assert state.attributes["event_type"] == "alarm"
    assert state.attributes["event_types"] == ["glass_breaking", "alarm"]
    assert state.attributes["label"] == "Alarm"
    assert state.attributes["score"] == 0.8
    assert state.attributes["peak_level_dbfs"] == -12.5
    assert state.attributes["event_id"] == second.id
    assert datetime.fromisoformat(state.attributes["started_at"]) == second.started_at
    assert state.attributes["clip"] == f"/api/clap_sound/{entry.entry_id}/events/{second.id}/clip.mp3"


async def test_event_of_a_label_that_is_no_longer_watched_is_ignored(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    await peer.start_event(kitchen, "dog_bark")
    await peer.start_event(kitchen)
    await until(hass, lambda: state_of(hass, GLASS) == "on")
    state = hass.states.get(HEARD)
    assert state is not None
    assert state.attributes["event_type"] == "glass_breaking"


async def test_own_words_name_sensor_event_and_top_sound(hass: HomeAssistant, peer: Peer) -> None:
    entry = make_entry(
        hass, peer, microphone_data("Hall", [{"label": "Hammer on an anvil", "threshold": 0.4}])
    )
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    (microphone,) = entry.subentries
    state = hass.states.get("binary_sensor.hall_hammer_on_an_anvil")
    assert state is not None
    assert state.name == "Hall Hammer on an anvil"
    assert state.attributes["threshold"] == 0.4
    assert state.attributes["icon"] == "mdi:ear-hearing"
    await peer.send_scores(microphone, hammer_on_an_anvil=0.9)
    await peer.start_event(microphone, "hammer_on_an_anvil")
    top, heard = "sensor.hall_top_sound", "event.hall_sound_detected"
    await until(hass, lambda: hass.states.get(heard).attributes["event_type"] is not None)
    assert state_of(hass, top) == hass.states.get(heard).attributes["event_type"] == "hammer_on_an_anvil"
    for entity_id in (top, heard, state.entity_id):
        assert hass.states.get(entity_id).attributes["label"] == "Hammer on an anvil"


async def test_names_are_in_the_language_of_home_assistant_and_entity_ids_are_not(
    hass: HomeAssistant, peer: Peer
) -> None:
    hass.config.language = "zh-Hans"
    entry = make_entry(hass, peer, microphone_data())
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    state = hass.states.get(GLASS)
    assert state is not None
    assert state.name == "Kitchen 玻璃破碎"


async def test_top_sound_follows_the_highest_score_and_spares_the_recorder(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    written = record(hass, TOP)
    await peer.send_scores(kitchen, glass_breaking=0.1, alarm=0.6)
    await peer.send_scores(kitchen, glass_breaking=0.1, alarm=0.61)
    await peer.send_scores(kitchen, glass_breaking=0.9, alarm=0.6)
    await peer.send_scores(kitchen, glass_breaking=0.05, alarm=0.06)
    await until(hass, lambda: state_of(hass, TOP) == "nothing")
    assert written == ["alarm", "glass_breaking", "nothing"]
    await peer.send_scores(kitchen, alarm=0.7)
    # Too quiet for the server to look: no scores.
    await peer.send_scores(kitchen)
    await until(hass, lambda: written == ["alarm", "glass_breaking", "nothing", "alarm", "nothing"])
    state = hass.states.get(TOP)
    assert state is not None
    assert state.attributes["score"] == 0
    assert state.attributes["options"] == ["glass_breaking", "alarm", "nothing"]
    assert state.attributes["label"] is None


async def test_only_what_enabled_entities_need_is_subscribed(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    assert peer.subscriptions[-1].topics == {"scores"}
    registry = er.async_get(hass)
    level = registry.async_get("sensor.kitchen_level")
    assert level is not None
    assert level.disabled
    registry.async_update_entity("sensor.kitchen_level", disabled_by=None)
    registry.async_update_entity(TOP, disabled_by=er.RegistryEntryDisabler.USER)
    await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done()
    assert peer.subscriptions[-1].topics == {"levels"}
    now = datetime.now(UTC)
    for at, level_dbfs in (
        (now, -40),
        (now + timedelta(seconds=0.5), -30),
        (now + timedelta(seconds=2), -20.06),
    ):
        await peer.send_level(kitchen, level_dbfs, at=at)
    await until(hass, lambda: state_of(hass, "sensor.kitchen_level") == "-20.1")
    state = hass.states.get("sensor.kitchen_level")
    assert state is not None
    assert state.attributes["unit_of_measurement"] == "dBFS"
    assert state.attributes["noise_floor_dbfs"] == -60


async def test_problem_says_why_and_lasts_until_sound_arrives(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    problem, shown = "binary_sensor.kitchen_problem", "sensor.kitchen_status"
    assert state_of(hass, problem) == "off"
    assert state_of(hass, shown) == "listening"
    await peer.set_status(kitchen, status("failed", "unauthorized", "401 from camera"))
    await until(hass, lambda: state_of(hass, problem) == "on")
    state = hass.states.get(shown)
    assert state is not None
    assert state.state == "failed"
    assert state.attributes["reason"] == "401 from camera"
    assert state.attributes["code"] == "unauthorized"
    await peer.set_status(kitchen, status("connecting", "connecting", "trying again"))
    await until(hass, lambda: state_of(hass, shown) == "connecting")
    assert state_of(hass, problem) == "on"
    await peer.set_status(kitchen, status())
    await until(hass, lambda: state_of(hass, problem) == "off")


@pytest.mark.parametrize("state", ["failed", "stalled", "disabled"])
async def test_sensor_of_a_microphone_that_hears_nothing_is_unknown_and_not_off(
    hass: HomeAssistant, peer: Peer, kitchen: str, state: str
) -> None:
    states = record(hass, GLASS)
    await peer.set_status(kitchen, status(state, "refused", "no answer"))
    await until(hass, lambda: state_of(hass, GLASS) == "unknown")
    # It tries again and again.
    await peer.set_status(kitchen, status("connecting", "connecting", "trying again"))
    await until(hass, lambda: state_of(hass, "sensor.kitchen_status") == "connecting")
    assert state_of(hass, GLASS) == "unknown"
    await peer.set_status(kitchen, status())
    await until(hass, lambda: state_of(hass, GLASS) == "off")
    assert set(states) == {"unknown", "off"}


async def test_sound_that_goes_on_is_on_though_the_microphone_fails(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    event = await peer.start_event(kitchen)
    await until(hass, lambda: state_of(hass, GLASS) == "on")
    await peer.set_status(kitchen, status("failed", "refused", "no answer"))
    await until(hass, lambda: state_of(hass, "binary_sensor.kitchen_alarm") == "unknown")
    assert state_of(hass, GLASS) == "on"
    await peer.end_event(event)
    await until(hass, lambda: state_of(hass, GLASS) == "unknown")


async def test_short_reconnect_leaves_the_sensor_off(hass: HomeAssistant, peer: Peer, kitchen: str) -> None:
    states = record(hass, GLASS)
    await peer.set_status(kitchen, status("connecting", "connecting", "trying again"))
    await until(hass, lambda: state_of(hass, "sensor.kitchen_status") == "connecting")
    assert state_of(hass, GLASS) == "off"
    assert "unknown" not in states


@pytest.mark.parametrize("code", ["wrong_rate", "choppy", "only_noise"])
async def test_sound_that_cannot_be_judged_is_a_problem_until_it_is_over(
    hass: HomeAssistant, peer: Peer, kitchen: str, code: str
) -> None:
    problem = "binary_sensor.kitchen_problem"
    await peer.set_status(kitchen, status("listening", code, "in words"))
    await until(hass, lambda: state_of(hass, problem) == "on")
    assert state_of(hass, "sensor.kitchen_status") == "listening"
    await peer.set_status(kitchen, status())
    await until(hass, lambda: state_of(hass, problem) == "off")


async def test_messages_of_other_microphones_and_unknown_kinds_are_harmless(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    await peer.send('{"type": "something_new", "value": 1}')
    await peer.send_scores("another", glass_breaking=1)
    await peer.set_status("another", status())
    await peer.start_event(kitchen)
    await until(hass, lambda: state_of(hass, GLASS) == "on")
    assert len(peer.subscriptions) == 1


async def test_smoke_and_carbon_monoxide_have_home_assistants_own_classes_and_the_pattern(
    hass: HomeAssistant, peer: Peer
) -> None:
    ids = ("smoke_alarm", "carbon_monoxide_alarm", "smoke_alarm_low_battery")
    entry = make_entry(hass, peer, microphone_data(labels=[{"label": label} for label in ids]))
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    (kitchen,) = entry.subentries
    heard: list[Event] = []
    hass.bus.async_listen("clap_sound_event", heard.append)
    classes = {
        "smoke_alarm": "smoke",
        "carbon_monoxide_alarm": "carbon_monoxide",
        "smoke_alarm_with_low_battery": "sound",
    }
    for name, device_class in classes.items():
        state = hass.states.get(f"binary_sensor.kitchen_{name}")
        assert state is not None
        assert state.attributes["device_class"] == device_class
        assert state.attributes["pattern"] is None
    await peer.start_event(kitchen, "carbon_monoxide_alarm", pattern=AlarmPattern.T4)
    await until(hass, lambda: len(heard) == 1)
    assert heard[0].data["pattern"] == "T4"
    state = hass.states.get("binary_sensor.kitchen_carbon_monoxide_alarm")
    assert state is not None
    assert (state.state, state.attributes["pattern"]) == ("on", "T4")
    state = hass.states.get(HEARD)
    assert state is not None
    assert state.attributes["pattern"] == "T4"


async def test_a_pattern_that_confirms_an_event_shows_and_tells_no_second_sound(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    alarm = "binary_sensor.kitchen_alarm"
    heard: list[Event] = []
    hass.bus.async_listen("clap_sound_event", heard.append)

    def shown() -> str | None:
        state = hass.states.get(alarm)
        assert state is not None
        pattern: str | None = state.attributes["pattern"]
        return pattern

    event = await peer.start_event(kitchen, "alarm")
    await until(hass, lambda: state_of(hass, alarm) == "on")
    assert shown() is None
    event = await peer.confirm_event(event, AlarmPattern.T3)
    await until(hass, lambda: shown() == "T3")
    assert state_of(hass, alarm) == "on"
    await peer.end_event(event)
    await until(hass, lambda: state_of(hass, alarm) == "off")
    await peer.confirm_event(event.model_copy(update={"id": "another"}), AlarmPattern.T4)
    await peer.start_event(kitchen)
    await until(hass, lambda: state_of(hass, GLASS) == "on")
    assert shown() == "T3"
    assert [told.data["label"] for told in heard] == ["Alarm", "Glass breaking"]


def sound_at(*microphones: tuple[str, float]) -> schemas.EventGroupInfo:
    margin_db = microphones[0][1] - microphones[1][1] if len(microphones) > 1 else None
    return schemas.EventGroupInfo(
        id="first",
        nearest=microphones[0][0],
        margin_db=margin_db,
        unsure=margin_db is not None and margin_db < 3,
        microphones=[
            schemas.HeardAtMicrophone(id=id_, level_above_l90_db=level) for id_, level in microphones
        ],
    )


async def test_what_else_a_sound_might_be_and_where_it_was_loudest_is_told(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    heard: list[Event] = []
    hass.bus.async_listen("clap_sound_event", heard.append)
    close = [schemas.CloseLabel(label="metal_impact", score=0.7512)]
    event = await peer.start_event(kitchen, close=close, group=sound_at((kitchen, 30.0)))
    await until(hass, lambda: len(heard) == 1)
    wanted = {
        "close": [{"label": "metal_impact", "score": 0.751}],
        "group_id": "first",
        "nearest_microphone": "Kitchen",
        "nearest_margin_db": None,
        "nearest_unsure": False,
    }
    assert heard[0].data.items() >= wanted.items()
    for entity_id in (HEARD, GLASS):
        state = hass.states.get(entity_id)
        assert state is not None
        assert state.attributes.items() >= wanted.items()

    def shown() -> tuple[str, float, bool]:
        state = hass.states.get(GLASS)
        assert state is not None
        facts = state.attributes
        return facts["nearest_microphone"], facts["nearest_margin_db"], facts["nearest_unsure"]

    # Another microphone hears it too, of which only the server knows.
    event = await peer.tell_more(event, group=sound_at(("hall", 32.0), (kitchen, 30.0)))
    await until(hass, lambda: shown() == ("hall", 2.0, True))
    ended = await peer.end_event(event.model_copy(update={"replaced_by": "explosion_gunshot"}))
    await until(hass, lambda: state_of(hass, GLASS) == "off")
    state = hass.states.get(GLASS)
    assert state is not None
    assert state.attributes["replaced_by"] == "explosion_gunshot"
    # It may change even after the end, and turns nothing on.
    await peer.tell_more(ended, group=sound_at((kitchen, 36.0), ("hall", 32.0)))
    await until(hass, lambda: shown() == ("Kitchen", 4.0, False))
    assert state_of(hass, GLASS) == "off"
    assert len(heard) == 1


async def test_a_server_that_knows_no_patterns_is_understood(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    told = (await peer.start_event(kitchen)).model_dump(mode="json")
    await until(hass, lambda: state_of(hass, GLASS) == "on")
    for field in ("pattern", "close", "replaced_by", "group"):
        del told[field]
    ended = {**told, "sequence": told["sequence"] + 1, "ended_at": told["started_at"]}
    await peer.send({"type": "event", "sequence": ended["sequence"], "change": "ended", "event": ended})
    await until(hass, lambda: state_of(hass, GLASS) == "off")
