"""Home Assistant owns its microphones on the server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import CoreState
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component

from clap_server.listening.config import MicrophoneSettings
from custom_components.clap_sound.telling import store
from tests.integration.conftest import make_entry, microphone_data, state_of, until
from tests.integration.test_microphone_flow import FakeCamera, camera

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from tests.integration.server import Peer

__all__ = ["camera"]


def declared(name: str, owner: str) -> MicrophoneSettings:
    return MicrophoneSettings.model_validate(
        {"name": name, "source": {"type": "push"}, "labels": [{"label": "alarm"}], "owner": owner}
    )


async def test_every_connect_declares_ours_removes_our_leftovers_and_spares_others(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    owner = f"home_assistant:{entry.entry_id}"
    peer.settings = {
        "leftover": declared("Leftover", owner),
        "theirs": declared("Theirs", "home_assistant:another"),
        "servers": declared("Server's", "server"),
    }
    await peer.disconnect_all()
    await until(hass, lambda: set(peer.settings) == {kitchen, "theirs", "servers"})
    assert peer.settings[kitchen].owner == owner
    await until(hass, lambda: state_of(hass, "binary_sensor.kitchen_alarm") == "off")


async def test_microphones_that_the_connection_has_delivered_are_not_asked_for_again(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    await peer.disconnect_all()
    await until(hass, lambda: peer.requests.count(("PUT", f"/api/microphones/{kitchen}")) == 2)
    hass.config_entries.async_update_subentry(entry, entry.subentries[kitchen], title="Pantry")
    await until(hass, lambda: peer.settings[kitchen].name == "Pantry")
    assert ("GET", "/api/microphones") not in peer.requests


async def test_microphone_deleted_on_the_server_is_declared_again(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    await peer.remove_microphone(kitchen)
    await until(hass, lambda: kitchen in peer.settings)
    await until(hass, lambda: state_of(hass, "binary_sensor.kitchen_alarm") == "off")
    assert entry.state is ConfigEntryState.LOADED


async def test_refused_microphone_is_a_repair_issue_and_does_not_hinder_the_others(
    hass: HomeAssistant, peer: Peer
) -> None:
    peer.refuse["Cellar"] = "The media folder has no such file."
    entry = make_entry(hass, peer, microphone_data("Cellar"), microphone_data("Attic"))
    assert await hass.config_entries.async_setup(entry.entry_id)
    cellar, _ = entry.subentries
    issues = ir.async_get(hass).issues
    issue = issues["clap_sound", f"microphone_{cellar}"]
    assert issue.translation_key == "microphone_refused"
    assert issue.translation_placeholders == {
        "microphone": "Cellar",
        "detail": "The media folder has no such file.",
    }
    assert state_of(hass, "binary_sensor.attic_alarm") == "off"
    assert state_of(hass, "sensor.cellar_status") is None
    peer.refuse.clear()
    await peer.disconnect_all()
    await until(hass, lambda: state_of(hass, "binary_sensor.cellar_alarm") == "off")
    assert ("clap_sound", f"microphone_{cellar}") not in issues


async def test_refused_microphone_keeps_its_entities(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    del peer.settings[kitchen]
    peer.refuse["Kitchen"] = "not now"
    await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done()
    assert state_of(hass, "binary_sensor.kitchen_alarm") == "unavailable"
    peer.refuse.clear()
    await peer.disconnect_all()
    await until(hass, lambda: state_of(hass, "binary_sensor.kitchen_alarm") == "off")


async def test_removed_subentry_takes_its_repair_issue_with_it(hass: HomeAssistant, peer: Peer) -> None:
    peer.refuse["Cellar"] = "no"
    entry = make_entry(hass, peer, microphone_data("Cellar"))
    assert await hass.config_entries.async_setup(entry.entry_id)
    (cellar,) = entry.subentries
    issues = ir.async_get(hass).issues
    assert ("clap_sound", f"microphone_{cellar}") in issues
    hass.config_entries.async_remove_subentry(entry, cellar)
    await until(hass, lambda: ("clap_sound", f"microphone_{cellar}") not in issues)


async def test_removed_entry_leaves_nothing_on_the_server(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry
) -> None:
    peer.settings["theirs"] = declared("Theirs", "server")
    await hass.config_entries.async_remove(entry.entry_id)
    assert set(peer.settings) == {"theirs"}


ADOPTED = microphone_data("Workshop", source="server", microphone="usb", server_source={"type": "push"})


async def test_removed_entry_gives_adopted_microphones_back(hass: HomeAssistant, peer: Peer) -> None:
    peer.settings["usb"] = declared("USB", "server")
    entry = make_entry(hass, peer, ADOPTED, microphone_data())
    assert await hass.config_entries.async_setup(entry.entry_id)
    assert peer.settings["usb"].owner == f"home_assistant:{entry.entry_id}"
    await hass.config_entries.async_remove(entry.entry_id)
    assert {name: settings.owner for name, settings in peer.settings.items()} == {"usb": "server"}


async def test_adopted_microphone_survives_a_crash_of_home_assistant(hass: HomeAssistant, peer: Peer) -> None:
    peer.settings["usb"] = declared("USB", "server")
    entry = make_entry(hass, peer, ADOPTED)
    assert await hass.config_entries.async_setup(entry.entry_id)
    await store(hass, entry.entry_id).async_remove()
    hass.config_entries.async_remove_subentry(entry, next(iter(entry.subentries)))
    await until(hass, lambda: peer.settings["usb"].owner == "server")


async def test_microphone_that_the_server_forgot_to_be_its_own_goes_back_to_it_all_the_same(
    hass: HomeAssistant, peer: Peer
) -> None:
    entry = make_entry(hass, peer, ADOPTED)
    # Adopted by an earlier version of the integration.
    peer.settings["usb"] = declared("USB", f"home_assistant:{entry.entry_id}")
    assert await hass.config_entries.async_setup(entry.entry_id)
    assert peer.settings["usb"].owner == f"home_assistant:{entry.entry_id}"
    await hass.config_entries.async_remove(entry.entry_id)
    assert peer.settings["usb"].owner == "server"


async def test_declaring_twice_at_once_deletes_no_adopted_microphone(hass: HomeAssistant, peer: Peer) -> None:
    entry = make_entry(hass, peer)
    assert await hass.config_entries.async_setup(entry.entry_id)
    peer.settings["usb"] = declared("USB", f"home_assistant:{entry.entry_id}")
    peer.adopted.add("usb")
    await peer.tell_microphone("usb")
    await until(hass, lambda: "usb" in entry.runtime_data.data.microphones)
    # A connect, and a camera that comes back.
    await asyncio.gather(entry.runtime_data.async_declare(), entry.runtime_data.async_declare())
    assert peer.settings["usb"].owner == "server"
    assert not [request for request in peer.requests if request[0] == "DELETE"]


async def test_entry_is_removed_although_the_server_is_gone(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, caplog: pytest.LogCaptureFixture
) -> None:
    await peer.stop()
    await hass.config_entries.async_remove(entry.entry_id)
    assert "remove its microphones there" in caplog.text


async def test_camera_that_comes_back_is_asked_for_its_address_again(
    hass: HomeAssistant,
    peer: Peer,
    camera: FakeCamera,
) -> None:
    entry = make_entry(hass, peer, microphone_data("Door", source="camera", camera="camera.door"))
    assert await hass.config_entries.async_setup(entry.entry_id)
    (door,) = entry.subentries
    assert peer.settings[door].source.url == "rtsp://door:secret@192.0.2.8/live"
    camera._attr_available = False
    camera.async_write_ha_state()
    await hass.async_block_till_done()
    camera.source = "rtsp://door:secret@192.0.2.9/live"
    camera._attr_available = True
    camera.async_write_ha_state()
    await until(hass, lambda: peer.settings[door].source.url == camera.source)


async def test_camera_without_address_is_a_repair_issue_until_it_has_one(
    hass: HomeAssistant,
    peer: Peer,
    camera: FakeCamera,
) -> None:
    camera.source = None
    entry = make_entry(hass, peer, microphone_data("Door", source="camera", camera="camera.door"))
    assert await hass.config_entries.async_setup(entry.entry_id)
    (door,) = entry.subentries
    issues = ir.async_get(hass).issues
    issue = issues["clap_sound", f"microphone_{door}"]
    assert issue.translation_key == "camera_no_stream"
    assert not peer.settings
    camera.source = "rtsp://192.0.2.9/live"
    await peer.disconnect_all()
    await until(hass, lambda: state_of(hass, "binary_sensor.door_alarm") == "off")
    assert ("clap_sound", f"microphone_{door}") not in issues


async def test_camera_that_starts_after_us_is_waited_for_without_complaint(
    hass: HomeAssistant, peer: Peer
) -> None:
    hass.set_state(CoreState.starting)
    entry = make_entry(hass, peer, microphone_data("Door", source="camera", camera="camera.door"))
    assert await hass.config_entries.async_setup(entry.entry_id)
    issues = ir.async_get(hass).issues
    assert not [issue for issue in issues if issue[0] == "clap_sound"]
    assert await async_setup_component(hass, "camera", {})
    await hass.data["entity_components"]["camera"].async_add_entities(
        [FakeCamera("Door", "rtsp://192.0.2.9/live")]
    )
    await until(hass, lambda: peer.settings)
    await until(hass, lambda: state_of(hass, "binary_sensor.door_alarm") == "off")


async def test_camera_still_missing_when_home_assistant_has_started_is_a_repair_issue(
    hass: HomeAssistant, peer: Peer
) -> None:
    hass.set_state(CoreState.not_running)
    entry = make_entry(hass, peer, microphone_data("Door", source="camera", camera="camera.door"))
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_start()
    (door,) = entry.subentries
    issues = ir.async_get(hass).issues
    await until(hass, lambda: ("clap_sound", f"microphone_{door}") in issues)
    assert issues["clap_sound", f"microphone_{door}"].translation_key == "camera_unavailable"


async def test_camera_that_changes_while_the_server_is_gone_is_declared_later(
    hass: HomeAssistant,
    peer: Peer,
    camera: FakeCamera,
) -> None:
    entry = make_entry(hass, peer, microphone_data("Door", source="camera", camera="camera.door"))
    assert await hass.config_entries.async_setup(entry.entry_id)
    (door,) = entry.subentries
    await peer.stop()
    for available in (False, True):
        camera._attr_available = available
        camera.async_write_ha_state()
        await hass.async_block_till_done(wait_background_tasks=False)
    camera.source = "rtsp://192.0.2.10/live"
    await peer.start()
    await until(hass, lambda: peer.settings[door].source.url == camera.source)


# aiohttp arms its heartbeat once more when the answer to our close arrives; it does nothing then.
@pytest.mark.parametrize("expected_lingering_timers", [True])
async def test_removed_entry_takes_its_repair_issues_with_it(hass: HomeAssistant, peer: Peer) -> None:
    peer.api_version = 2
    entry = make_entry(hass, peer, microphone_data())
    assert not await hass.config_entries.async_setup(entry.entry_id)
    issues = ir.async_get(hass).issues
    assert ("clap_sound", f"api_version_{entry.entry_id}") in issues
    await hass.config_entries.async_remove(entry.entry_id)
    assert not [issue for issue in issues if issue[0] == "clap_sound"]
