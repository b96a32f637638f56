"""Diagnostics tell what is going on, and no secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.components.diagnostics import get_diagnostics_for_config_entry

from tests.integration.conftest import state_of, until
from tests.integration.server import TOKEN, status

if TYPE_CHECKING:
    import pytest
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry
    from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

    from tests.integration.server import Peer


async def test_diagnostics_are_useful_and_hold_no_secret(
    hass: HomeAssistant,
    peer: Peer,
    entry: MockConfigEntry,
    hass_client: ClientSessionGenerator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (kitchen,) = entry.subentries
    await peer.set_status(
        kitchen, status(reason="cannot open rtsp://a:hunter2@192.0.2.1/x?authbasic=hunter2")
    )
    assert await async_setup_component(hass, "diagnostics", {})
    event = await peer.start_event(kitchen)
    await until(hass, lambda: state_of(hass, "binary_sensor.kitchen_glass_breaking") == "on")
    await peer.stop()
    await until(hass, lambda: not entry.runtime_data.last_update_success)
    diagnostics = await get_diagnostics_for_config_entry(hass, hass_client, entry)
    assert diagnostics["entry"]["token"] == "**REDACTED**"
    assert diagnostics["subentries"][0]["data"]["url"] == "**REDACTED**"
    assert diagnostics["connected"] is False
    assert diagnostics["received"] == {"epoch": peer.epoch, "sequence": 1, "event_id": event.id}
    assert diagnostics["bad_messages"] == 0
    assert diagnostics["active"] == [[kitchen, "glass_breaking"]]
    assert diagnostics["server"]["model"]["name"] == "builtin"
    for text in (str(diagnostics), caplog.text):
        assert TOKEN not in text
        assert "hunter2" not in text
        assert "192.0.2.1" not in text
