"""Sounds of the time that Home Assistant was away: once, in order, with their real time."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from homeassistant.core import CoreState, callback
from homeassistant.helpers import device_registry as dr
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import async_fire_time_changed

from custom_components.clap_sound import binary_sensor, telling
from custom_components.clap_sound.client import client
from custom_components.clap_sound.const import EVENT_SOUND, KEPT_OFF_S, KEPT_ON_S, NEWS_AGE
from tests.integration.conftest import make_entry, microphone_data, state_of, until
from tests.integration.test_entities import record

if TYPE_CHECKING:
    from homeassistant.core import Event, HomeAssistant, ServiceCall
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from tests.integration.server import Peer

GLASS = "binary_sensor.kitchen_glass_breaking"
ALARM = "binary_sensor.kitchen_alarm"
HEARD = "event.kitchen_sound_detected"
STATUS = "sensor.kitchen_status"


async def automate(hass: HomeAssistant) -> list[tuple[str, str | None]]:
    """Set up automations with plain triggers; returns what they will have reacted to."""
    reactions: list[tuple[str, str | None]] = []

    @callback
    def react(call: ServiceCall) -> None:
        reactions.append((call.data["trigger"], call.data["event_id"]))

    hass.services.async_register("test", "react", react)
    triggers = {
        "state": {"trigger": "state", "entity_id": HEARD},
        "on": {"trigger": "state", "entity_id": GLASS, "to": "on"},
        "received": {
            "trigger": "event.received",
            "target": {"entity_id": HEARD},
            "options": {"event_type": ["glass_breaking"]},
        },
        "bus": {"trigger": "event", "event_type": EVENT_SOUND},
    }
    event_id = (
        "{{ trigger.event.data.event_id if trigger.platform == 'event'"
        " else state_attr(trigger.entity_id, 'event_id') }}"
    )
    config = [
        {
            "alias": name,
            "mode": "queued",
            "max": 100,
            "triggers": [trigger],
            "actions": [{"action": "test.react", "data": {"trigger": name, "event_id": event_id}}],
        }
        for name, trigger in triggers.items()
    ]
    assert await async_setup_component(hass, "automation", {"automation": config})
    await hass.async_block_till_done()
    return reactions


def fired(hass: HomeAssistant) -> list[dict[str, Any]]:
    """Collect the data of the events on the bus."""
    events: list[dict[str, Any]] = []

    @callback
    def heard(event: Event) -> None:
        events.append(dict(event.data))

    hass.bus.async_listen(EVENT_SOUND, heard)
    return events


async def test_sound_that_is_news_is_told_by_state_and_event(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    events, reactions = fired(hass), await automate(hass)
    event = await peer.start_event(kitchen)
    await until(hass, lambda: len(reactions) == 4)
    assert set(reactions) == {(name, event.id) for name in ("state", "on", "received", "bus")}
    device = dr.async_get(hass).async_get_device_by_identifier(("clap_sound", kitchen), entry.entry_id)
    assert device is not None
    assert events == [
        {
            "entity_id": HEARD,
            "device_id": device.id,
            "microphone": "Kitchen",
            "event_type": "glass_breaking",
            "label": "Glass breaking",
            "score": 0.8,
            "pattern": None,
            "peak_level_dbfs": -12.5,
            "event_id": event.id,
            "started_at": event.started_at.isoformat(),
            "detected_at": event.detected_at.isoformat(),
            "late": False,
            "clip": f"/api/clap_sound/{entry.entry_id}/events/{event.id}/clip.mp3",
            "close": [],
            "group_id": None,
            "nearest_microphone": None,
            "nearest_margin_db": None,
            "nearest_unsure": None,
        }
    ]
    for entity_id in (HEARD, GLASS):
        state = hass.states.get(entity_id)
        assert state is not None
        assert state.attributes["started_at"] == event.started_at.isoformat()
        assert state.attributes["detected_at"] == event.detected_at.isoformat()
        assert state.attributes["late"] is False


async def test_old_sounds_come_late_in_order_with_their_time_and_set_nothing_off(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    known = await peer.start_event(kitchen)
    await peer.end_event(known)
    await until(hass, lambda: state_of(hass, HEARD) not in ("unknown", None))
    events, reactions = fired(hass), await automate(hass)
    await peer.stop()
    missed = []
    for age_s in range(129, 30, -12):
        event = await peer.start_event(kitchen, age=timedelta(seconds=age_s))
        await peer.end_event(event)
        missed.append(event)
    assert len(missed) == 9
    await peer.start()
    await until(hass, lambda: len(events) == 9 and state_of(hass, GLASS) == "off")
    assert [event["event_id"] for event in events] == [event.id for event in missed]
    assert [event["started_at"] for event in events] == [event.started_at.isoformat() for event in missed]
    assert all(event["late"] for event in events)
    assert reactions == [("bus", event.id) for event in missed]
    state, newest = hass.states.get(HEARD), hass.states.get(GLASS)
    assert state is not None
    assert newest is not None
    assert state.attributes["event_id"] == known.id
    assert newest.attributes["event_id"] == missed[-1].id
    assert newest.attributes["started_at"] == missed[-1].started_at.isoformat()
    assert newest.attributes["late"] is True


async def test_sound_of_a_short_break_is_news(hass: HomeAssistant, peer: Peer, kitchen: str) -> None:
    events, reactions = fired(hass), await automate(hass)
    await peer.stop()
    event = await peer.start_event(kitchen, age=timedelta(seconds=20))
    await peer.end_event(event)
    await peer.start()
    await until(hass, lambda: len(reactions) == 3)
    assert {name for name, _ in reactions} == {"state", "received", "bus"}
    assert not events[0]["late"]


async def test_clock_of_the_server_makes_no_live_sound_late(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    events, reactions = fired(hass), await automate(hass)
    await peer.start_event(kitchen, age=timedelta(hours=5))
    await until(hass, lambda: len(reactions) == 4)
    assert not events[0]["late"]


async def test_what_still_sounds_after_a_break_is_on_with_its_real_time(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    reactions = await automate(hass)
    await peer.stop()
    await until(hass, lambda: state_of(hass, GLASS) == "unavailable")
    event = await peer.start_event(kitchen, age=timedelta(minutes=2))
    await peer.start()
    await until(hass, lambda: state_of(hass, GLASS) == "on" and len(reactions) == 2)
    state = hass.states.get(GLASS)
    assert state is not None
    assert state.attributes["started_at"] == event.started_at.isoformat()
    assert state.attributes["late"] is True
    # It sounds now, which a plain "on" is told; nothing says that it only began.
    assert set(reactions) == {("bus", event.id), ("on", event.id)}


@pytest.fixture
def break_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary_sensor, "KEPT_OFF_S", 30)
    monkeypatch.setattr(binary_sensor, "KEPT_ON_S", 30)


def test_kept_states_show_a_break_in_time_and_keep_no_old_sound() -> None:
    noticed_s = client.HEARTBEAT_S * 1.5
    assert noticed_s + KEPT_OFF_S <= 10, "the contract: unavailable within 10 s"
    assert noticed_s + KEPT_ON_S <= NEWS_AGE.total_seconds()


@pytest.mark.usefixtures("break_is_short")
async def test_alarm_that_goes_on_over_a_short_break_is_not_told_anew(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    reactions = await automate(hass)
    event = await peer.start_event(kitchen)
    await until(hass, lambda: len(reactions) == 4)
    reactions.clear()
    states = record(hass, GLASS)
    await peer.stop()
    await until(hass, lambda: state_of(hass, STATUS) == "unavailable")
    assert state_of(hass, GLASS) == "on"
    await peer.start()
    await until(hass, lambda: state_of(hass, STATUS) == "listening")
    await peer.end_event(event)
    await until(hass, lambda: state_of(hass, GLASS) == "off")
    assert states == ["off"]
    assert reactions == []


@pytest.mark.usefixtures("break_is_short")
async def test_sound_that_begins_in_a_short_break_turns_its_sensor_on_from_off(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    reactions = await automate(hass)
    states = record(hass, GLASS)
    await peer.stop()
    await until(hass, lambda: state_of(hass, STATUS) == "unavailable")
    event = await peer.start_event(kitchen, age=timedelta(seconds=5))
    await peer.start()
    await until(hass, lambda: len(reactions) == 4)
    assert set(reactions) == {(name, event.id) for name in ("state", "on", "received", "bus")}
    assert "unavailable" not in states


@pytest.mark.usefixtures("break_is_short")
async def test_break_that_is_not_over_in_time_shows(
    hass: HomeAssistant, peer: Peer, kitchen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binary_sensor, "KEPT_OFF_S", 0.01)
    await peer.start_event(kitchen)
    await until(hass, lambda: state_of(hass, GLASS) == "on")
    await peer.stop()
    await until(hass, lambda: state_of(hass, ALARM) == "unavailable")
    assert state_of(hass, GLASS) == "on"
    async_fire_time_changed(hass, datetime.now(UTC) + timedelta(seconds=31))
    await until(hass, lambda: state_of(hass, GLASS) == "unavailable")


@pytest.mark.parametrize("began", ["before the greeting", "after it"])
async def test_event_that_the_server_lost_the_end_of_turns_no_sensor_on(
    hass: HomeAssistant, peer: Peer, kitchen: str, began: str
) -> None:
    events = fired(hass)
    await peer.stop()
    if began == "after it":
        peer.greeting = json.dumps(peer.info())
    await peer.start_event(kitchen, age=timedelta(minutes=2))
    peer.forgotten.update(message.event.id for message in peer.changes)
    await peer.start()
    await until(hass, lambda: len(events) == 1 and state_of(hass, GLASS) == "off")


async def test_old_sounds_of_a_restart_are_told_once_when_automations_listen(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    await peer.end_event(await peer.start_event(kitchen))
    await until(hass, lambda: state_of(hass, HEARD) not in ("unknown", None))
    await hass.config_entries.async_unload(entry.entry_id)
    missed = []
    for age in (timedelta(hours=2), timedelta(minutes=5), timedelta(seconds=1)):
        event = await peer.start_event(kitchen, age=age)
        await peer.end_event(event)
        missed.append(event)
    hass.set_state(CoreState.not_running)
    events, reactions = fired(hass), await automate(hass)
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    assert not events
    await hass.async_start()
    await hass.async_block_till_done()
    assert not events
    async_fire_time_changed(hass, datetime.now(UTC) + timedelta(seconds=telling.AUTOMATIONS_START_S + 1))
    await until(hass, lambda: len(events) == 3)
    assert [event["event_id"] for event in events] == [event.id for event in missed]
    assert [event["late"] for event in events] == [True, True, False]
    await until(hass, lambda: len(reactions) == 5)
    assert {name: event_id for name, event_id in reactions if name != "bus"} == {
        "state": missed[-1].id,
        "received": missed[-1].id,
    }
    await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done()
    assert len(events) == 3
    assert peer.subscriptions[-1].after == peer.last_sequence


async def test_setting_up_again_is_no_sound_for_those_that_wait_for_one(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    await peer.end_event(await peer.start_event(kitchen))
    await until(hass, lambda: state_of(hass, HEARD) not in ("unknown", None))
    events, reactions = fired(hass), await automate(hass)
    await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done()
    assert not events
    # Home Assistant takes the entity through "unavailable", which a trigger on any change of state is told.
    assert {name for name, _ in reactions} == {"state"}


async def test_sound_that_waited_for_the_start_of_home_assistant_is_late(
    hass: HomeAssistant, peer: Peer
) -> None:
    hass.set_state(CoreState.not_running)
    events = fired(hass)
    entry = make_entry(hass, peer, microphone_data())
    assert await hass.config_entries.async_setup(entry.entry_id)
    (kitchen,) = entry.subentries
    await peer.start_event(kitchen, age=timedelta(seconds=40))
    await until(hass, lambda: state_of(hass, GLASS) == "on")
    await hass.async_start()
    async_fire_time_changed(hass, datetime.now(UTC) + timedelta(seconds=telling.AUTOMATIONS_START_S + 1))
    await until(hass, lambda: len(events) == 1)
    assert events[0]["late"]
    assert state_of(hass, HEARD) == "unknown"


async def test_sound_while_home_assistant_stops_is_told_by_the_next_run(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    events = fired(hass)
    hass.set_state(CoreState.stopping)
    event = await peer.start_event(kitchen)
    await until(hass, lambda: state_of(hass, GLASS) == "on")
    assert not events
    await entry.runtime_data.teller.save()
    hass.set_state(CoreState.running)
    await hass.config_entries.async_reload(entry.entry_id)
    await until(hass, lambda: len(events) == 1)
    assert events[0]["event_id"] == event.id


async def test_sensor_goes_off_with_a_sound_whose_start_was_not_told(
    hass: HomeAssistant, peer: Peer, kitchen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(_: object) -> None:
        pass

    await peer.end_event(await peer.start_event(kitchen))
    await until(hass, lambda: state_of(hass, HEARD) not in ("unknown", None))
    with monkeypatch.context() as losing:
        losing.setattr(peer, "send", lose)
        event = await peer.start_event(kitchen)
    await peer.tell_microphone(kitchen)
    await until(hass, lambda: state_of(hass, GLASS) == "on")
    await peer.end_event(event)
    await until(hass, lambda: state_of(hass, GLASS) == "off")


async def test_sounds_after_a_backup_of_the_server_was_put_back_are_told(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    for _ in range(2):
        await peer.end_event(await peer.start_event(kitchen))
    backup = peer.changes[:2]
    await until(
        hass, lambda: state_of(hass, GLASS) == "off" and state_of(hass, HEARD) not in ("unknown", None)
    )
    for count in (1, 2):
        # Once with fewer numbers than were seen, once with as many.
        events = fired(hass)
        await peer.stop()
        peer.changes[:] = backup
        for _ in range(count):
            event = await peer.start_event(kitchen)
            await peer.end_event(event)
        await peer.start()
        await until(hass, lambda event=event, events=events: events and events[-1]["event_id"] == event.id)


async def test_the_event_of_the_place_is_kept_over_a_restart(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    event = await peer.start_event(kitchen)
    await peer.end_event(event)
    await until(hass, lambda: state_of(hass, HEARD) not in ("unknown", None))
    for _ in range(2):
        await hass.config_entries.async_reload(entry.entry_id)
        await hass.async_block_till_done()
        newest = peer.subscriptions[-1]
        assert (newest.after, newest.event_id) == (peer.last_sequence, event.id)


async def test_sound_of_another_s_microphone_is_not_told(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    events = fired(hass)
    peer.settings["another"] = peer.settings[kitchen].model_copy(update={"owner": "server"})
    await peer.start_event("another")
    event = await peer.start_event(kitchen)
    await until(hass, lambda: len(events) == 1)
    assert events[0]["event_id"] == event.id


async def test_place_that_an_earlier_version_saved_is_taken_over(
    hass: HomeAssistant, peer: Peer, hass_storage: dict[str, Any]
) -> None:
    entry = make_entry(hass, peer, microphone_data())
    key = f"clap_sound.{entry.entry_id}"
    hass_storage[key] = {"version": 1, "key": key, "data": {"last_sequence": 7, "adopted": []}}
    peer.first_sequence = 9
    assert await hass.config_entries.async_setup(entry.entry_id)
    assert (peer.subscriptions[-1].after, peer.subscriptions[-1].epoch) == (7, None)
