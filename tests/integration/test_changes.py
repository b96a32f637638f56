"""Changing one microphone changes only that, and makes nothing unavailable."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from homeassistant.config_entries import ConfigSubentry
from homeassistant.core import callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er

from tests.integration.conftest import make_entry, microphone_data, state_of, until
from tests.integration.test_microphone_flow import FakeCamera, camera

if TYPE_CHECKING:
    from homeassistant.core import Event, EventStateChangedData, HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from tests.integration.server import Peer

__all__ = ["camera"]

GLASS = "binary_sensor.kitchen_glass_breaking"
ALARM = "binary_sensor.kitchen_alarm"
HEARD = "event.kitchen_sound_detected"
TOP = "sensor.kitchen_top_sound"


@pytest.fixture
async def house(hass: HomeAssistant, peer: Peer) -> MockConfigEntry:
    """A server with the microphones Kitchen, where glass breaks right now, and Hall."""
    entry = make_entry(hass, peer, microphone_data(), microphone_data("Hall"))
    assert await hass.config_entries.async_setup(entry.entry_id)
    kitchen, _ = entry.subentries
    await peer.start_event(kitchen)
    await peer.send_scores(kitchen, glass_breaking=0.9)
    await until(hass, lambda: state_of(hass, GLASS) == "on" and state_of(hass, TOP) == "glass_breaking")
    return entry


def history(hass: HomeAssistant) -> list[tuple[str, str | None]]:
    """Collect every change of the state of any entity; None for one that is removed."""
    states: list[tuple[str, str | None]] = []

    @callback
    def changed(event: Event[EventStateChangedData]) -> None:
        old, new = event.data["old_state"], event.data["new_state"]
        if (old and old.state) != (new and new.state):
            states.append((event.data["entity_id"], new.state if new else None))

    hass.bus.async_listen("state_changed", changed)
    return states


def _subentry(name: str, **data: Any) -> ConfigSubentry:
    values = microphone_data(name, **data)
    return ConfigSubentry(
        data=MappingProxyType(values["data"]), subentry_type="microphone", title=name, unique_id=None
    )


def change(hass: HomeAssistant, entry: MockConfigEntry, subentry_id: str, **data: Any) -> None:
    subentry = entry.subentries[subentry_id]
    hass.config_entries.async_update_subentry(entry, subentry, data={**subentry.data, **data})


async def test_thresholds_hop_and_negatives_change_no_state_at_all(
    hass: HomeAssistant, peer: Peer, house: MockConfigEntry
) -> None:
    kitchen, _ = house.subentries
    states = history(hass)
    labels = [{"label": "glass_breaking", "threshold": 0.9}, {"label": "alarm"}]
    change(hass, house, kitchen, labels=labels, hop_s=1.5, negatives=["dishes"])
    await until(hass, lambda: peer.settings[kitchen].hop_s == 1.5)
    await until(hass, lambda: hass.states.get(GLASS).attributes["threshold"] == 0.9)
    assert states == []
    assert len(peer.subscriptions) == 1


async def test_labels_come_and_go_while_the_sound_of_another_lasts(
    hass: HomeAssistant, peer: Peer, house: MockConfigEntry
) -> None:
    kitchen, _ = house.subentries
    states = history(hass)
    change(hass, house, kitchen, labels=[{"label": "glass_breaking"}, {"label": "玻璃碎了 siren"}])
    siren = "binary_sensor.kitchen_bo_li_sui_liao_siren"
    await until(hass, lambda: state_of(hass, siren) == "off" and hass.states.get(ALARM) is None)
    assert states == [(ALARM, None), (siren, "off")]
    assert er.async_get(hass).async_get(ALARM) is None
    (label_id,) = {label["id"] for label in peer.microphone(kitchen)["labels"]} - {"glass_breaking"}
    assert hass.states.get(HEARD).attributes["event_types"] == ["glass_breaking", label_id]
    assert hass.states.get(TOP).attributes["options"] == ["glass_breaking", label_id, "nothing"]
    await peer.start_event(kitchen, label_id)
    await until(hass, lambda: state_of(hass, siren) == "on")
    assert hass.states.get(HEARD).attributes["event_type"] == label_id
    change(hass, house, kitchen, labels=[{"label": "glass_breaking"}, {"label": "alarm"}])
    await until(hass, lambda: state_of(hass, ALARM) == "off" and hass.states.get(siren) is None)
    assert (GLASS, "on") not in states


async def test_label_that_top_sound_shows_is_taken_off(hass: HomeAssistant, house: MockConfigEntry) -> None:
    kitchen, _ = house.subentries
    states = history(hass)
    change(hass, house, kitchen, labels=[{"label": "alarm"}])
    await until(hass, lambda: hass.states.get(GLASS) is None)
    assert set(states) == {(TOP, "unknown"), (GLASS, None)}


async def test_new_microphone_appears_beside_the_others(
    hass: HomeAssistant, peer: Peer, house: MockConfigEntry
) -> None:
    states = history(hass)
    hass.config_entries.async_add_subentry(house, _subentry("Attic"))
    await until(hass, lambda: state_of(hass, "binary_sensor.attic_alarm") == "off")
    await until(hass, lambda: state_of(hass, "sensor.attic_status") == "listening")
    assert {entity_id.split(".")[1].split("_")[0] for entity_id, _ in states} == {"attic"}
    assert "unavailable" not in {state for _, state in states}
    attic = list(house.subentries)[-1]
    await peer.send_scores(attic, alarm=0.8)
    await until(hass, lambda: state_of(hass, "sensor.attic_top_sound") == "alarm")


async def test_first_microphone_gets_its_scores(hass: HomeAssistant, peer: Peer) -> None:
    entry = make_entry(hass, peer)
    assert await hass.config_entries.async_setup(entry.entry_id)
    assert peer.subscriptions[-1].topics == set()
    states = history(hass)
    hass.config_entries.async_add_subentry(entry, _subentry("Attic"))
    await peer.subscribed(2)
    await until(hass, lambda: state_of(hass, "sensor.attic_top_sound") == "unknown")
    await peer.send_scores(next(iter(entry.subentries)), alarm=0.8)
    await until(hass, lambda: state_of(hass, "sensor.attic_top_sound") == "alarm")
    assert "unavailable" not in {state for _, state in states}


async def test_removed_microphone_goes_and_the_others_stay(
    hass: HomeAssistant, peer: Peer, house: MockConfigEntry
) -> None:
    kitchen, hall = house.subentries
    states = history(hass)
    hass.config_entries.async_remove_subentry(house, hall)
    await until(hass, lambda: set(peer.settings) == {kitchen})
    assert {state for _, state in states} == {None}
    assert {entity_id.split(".")[1].split("_")[0] for entity_id, _ in states} == {"hall"}
    assert dr.async_get(hass).async_get_device_by_identifier(("clap_sound", hall), house.entry_id) is None
    assert ("POST", f"/api/microphones/{hall}/release") in peer.requests


async def test_renamed_microphone_renames_its_device_and_entities(
    hass: HomeAssistant, peer: Peer, house: MockConfigEntry
) -> None:
    kitchen, _ = house.subentries
    states = history(hass)
    hass.config_entries.async_update_subentry(house, house.subentries[kitchen], title="Pantry")
    await until(hass, lambda: peer.settings[kitchen].name == "Pantry")
    assert hass.states.get(GLASS).name == "Pantry Glass breaking"
    assert states == []


async def test_camera_of_a_microphone_that_is_added_later_is_watched(
    hass: HomeAssistant, peer: Peer, house: MockConfigEntry, camera: FakeCamera
) -> None:
    hass.config_entries.async_add_subentry(house, _subentry("Door", source="camera", camera="camera.door"))
    await until(hass, lambda: state_of(hass, "binary_sensor.door_alarm") == "off")
    door = list(house.subentries)[-1]
    for available in (False, True):
        camera.source = "rtsp://192.0.2.11/live"
        camera._attr_available = available
        camera.async_write_ha_state()
        await hass.async_block_till_done()
    await until(hass, lambda: peer.settings[door].source.url == camera.source)


async def test_microphone_changed_on_the_server_shows_at_once(
    hass: HomeAssistant, peer: Peer, house: MockConfigEntry
) -> None:
    kitchen, _ = house.subentries
    states = history(hass)
    settings = peer.settings[kitchen]
    changed = [choice.model_copy(update={"threshold": 0.33}) for choice in settings.labels]
    peer.settings[kitchen] = settings.model_copy(update={"labels": tuple(changed)})
    await peer.tell_microphone(kitchen)
    await until(hass, lambda: hass.states.get(GLASS).attributes["threshold"] == 0.33)
    assert states == []


async def test_change_while_the_server_is_gone_is_made_up_for(
    hass: HomeAssistant, peer: Peer, house: MockConfigEntry
) -> None:
    kitchen, hall = house.subentries
    await peer.stop()
    await until(hass, lambda: state_of(hass, GLASS) == "unavailable")
    change(hass, house, kitchen, labels=[{"label": "alarm"}])
    hass.config_entries.async_remove_subentry(house, hall)
    hass.config_entries.async_add_subentry(house, _subentry("Attic"))
    await hass.async_block_till_done()
    await peer.start()
    await until(hass, lambda: state_of(hass, "binary_sensor.attic_alarm") == "off")
    await until(hass, lambda: hass.states.get(GLASS) is None)
    assert hall not in peer.settings


async def test_other_address_sets_up_again(hass: HomeAssistant, house: MockConfigEntry) -> None:
    coordinator = house.runtime_data
    hass.config_entries.async_update_entry(house, data={**house.data, "verify_ssl": False})
    await until(hass, lambda: state_of(hass, GLASS) == "on")
    assert house.runtime_data is not coordinator


async def test_renamed_server_renames_its_device(hass: HomeAssistant, house: MockConfigEntry) -> None:
    coordinator = house.runtime_data
    hass.config_entries.async_update_entry(house, title="Listener")
    await hass.async_block_till_done()
    assert house.runtime_data is coordinator
    hub = dr.async_get(hass).async_get_device_by_identifier(("clap_sound", house.entry_id), house.entry_id)
    assert hub is not None
    assert hub.name == "Listener"
