"""A switch mutes a microphone on the server; nothing is known of its sound then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import entity_registry as er

from clap_server.api import schemas
from tests.integration.conftest import state_of, until
from tests.integration.server import wire

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from tests.integration.server import Peer

SWITCH = "switch.kitchen_mute"


async def turn(hass: HomeAssistant, to: str) -> None:
    await hass.services.async_call("switch", f"turn_{to}", {"entity_id": SWITCH}, blocking=True)
    await hass.async_block_till_done()


async def test_muted_nothing_is_known_of_its_sound(hass: HomeAssistant, peer: Peer, kitchen: str) -> None:
    entity = er.async_get(hass).async_get(SWITCH)
    assert entity is not None
    assert entity.entity_category is None
    await peer.send(
        wire(
            schemas.ScoresMessage,
            microphone_id=kitchen,
            at="2026-03-04T05:06:07Z",
            level_dbfs=-20,
            scores={"glass_breaking": 0.6, "alarm": 0.1},
        )
    )
    await until(hass, lambda: state_of(hass, "sensor.kitchen_top_sound") == "glass_breaking")
    assert state_of(hass, SWITCH) == "off"
    assert state_of(hass, "binary_sensor.kitchen_alarm") == "off"
    await turn(hass, "on")
    assert peer.muted == {kitchen}
    assert state_of(hass, SWITCH) == "on"
    assert state_of(hass, "sensor.kitchen_status") == "muted"
    assert state_of(hass, "binary_sensor.kitchen_alarm") == "unknown"
    assert state_of(hass, "sensor.kitchen_top_sound") == "unknown"
    assert state_of(hass, "binary_sensor.kitchen_problem") == "off"
    await turn(hass, "off")
    assert peer.muted == set()
    assert state_of(hass, SWITCH) == "off"
    assert state_of(hass, "binary_sensor.kitchen_alarm") == "off"


async def test_level_is_unknown_while_muted(
    hass: HomeAssistant, peer: Peer, kitchen: str, entry: MockConfigEntry
) -> None:
    registry = er.async_get(hass)
    registry.async_update_entity("sensor.kitchen_level", disabled_by=None)
    assert await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done()
    await peer.subscribed(2)
    await peer.send(
        wire(
            schemas.LevelMessage,
            microphone_id=kitchen,
            at="2026-03-04T05:06:07Z",
            level_dbfs=-20,
            noise_floor_dbfs=-50,
            gated=False,
        )
    )
    await until(hass, lambda: state_of(hass, "sensor.kitchen_level") == "-20.0")
    await turn(hass, "on")
    assert state_of(hass, "sensor.kitchen_level") == "unknown"


async def test_a_mute_on_the_server_shows(hass: HomeAssistant, peer: Peer, kitchen: str) -> None:
    peer.muted.add(kitchen)
    await peer.tell_microphone(kitchen)
    await until(hass, lambda: state_of(hass, SWITCH) == "on")


@pytest.mark.usefixtures("kitchen")
async def test_what_the_server_refuses_is_told(hass: HomeAssistant, peer: Peer) -> None:
    peer.refuse_mute = "Not now."
    with pytest.raises(HomeAssistantError, match="Not now") as caught:
        await turn(hass, "on")
    assert caught.value.translation_key == "mute_refused"
    assert state_of(hass, SWITCH) == "off"


@pytest.mark.usefixtures("kitchen")
async def test_a_server_that_fails_is_told(hass: HomeAssistant, peer: Peer) -> None:
    peer.token = "another"
    with pytest.raises(HomeAssistantError) as caught:
        await turn(hass, "on")
    assert caught.value.translation_key == "cannot_connect"
