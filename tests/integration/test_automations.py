"""The automations that the README and the demo propose miss no sound, early or late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from homeassistant.components.persistent_notification import DOMAIN as NOTIFICATIONS
from homeassistant.helpers import area_registry as ar
from homeassistant.helpers import device_registry as dr
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import (
    async_fire_time_changed,
    async_mock_service,
)

from custom_components.clap_sound.const import DOMAIN
from scripts.demo.home import AUTOMATION
from tests.integration.conftest import make_entry, microphone_data, state_of, until
from tests.integration.server import status

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant, ServiceCall
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from tests.integration.server import Peer

README = Path(__file__).parents[2] / "README.md"
LONG_AGO = timedelta(hours=2)


def of_readme_blocks() -> list[dict[str, Any]]:
    blocks = README.read_text(encoding="utf-8").split("```yaml\n")[1:]
    return [yaml.safe_load(block.partition("```")[0]) for block in blocks]


def of_readme(alias: str) -> dict[str, Any]:
    """The automation of that name, as a user copies it."""
    (found,) = (block for block in of_readme_blocks() if block.get("alias") == alias)
    return dict(found)


@pytest.fixture
async def told(hass: HomeAssistant) -> dict[str, list[ServiceCall]]:
    """What reaches the user: on the phone, and in Home Assistant."""
    return {
        "phone": async_mock_service(hass, "notify", "mobile_app_my_phone"),
        "page": async_mock_service(hass, NOTIFICATIONS, "create"),
    }


async def hear_while_away(hass: HomeAssistant, entry: MockConfigEntry, peer: Peer) -> None:
    """Let a break of two hours ago, an alarm of then, and a break of this moment wait for a reload."""
    (microphone,) = entry.subentries
    assert await hass.config_entries.async_unload(entry.entry_id)
    await peer.end_event(await peer.start_event(microphone, "glass_breaking", age=LONG_AGO))
    await peer.end_event(await peer.start_event(microphone, "alarm", age=LONG_AGO))
    await peer.start_event(microphone, "glass_breaking")
    assert await hass.config_entries.async_setup(entry.entry_id)


async def test_readme_automations_tell_of_every_sound_that_fell_in_a_restart(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, told: dict[str, list[ServiceCall]]
) -> None:
    automations = [of_readme("Tell me when glass breaks"), of_readme("Tell me what I missed")]
    assert await async_setup_component(hass, "automation", {"automation": automations})
    await hear_while_away(hass, entry, peer)
    await until(hass, lambda: len(told["phone"]) >= 2 and len(told["page"]) >= 2)
    messages = [call.data["message"] for call in told["phone"]]
    assert [message.startswith("Kitchen at ") for message in messages] == [True, True]
    assert [message.endswith(", told late") for message in messages] == [True, False]
    assert [call.data["message"].partition("\n")[0].split(" at ")[0] for call in told["page"]] == [
        "Kitchen: Glass breaking",
        "Kitchen: Alarm",
    ]


async def test_demo_automation_tells_of_a_break_with_its_real_time(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, told: dict[str, list[ServiceCall]]
) -> None:
    await hass.config.async_update(time_zone="UTC")
    assert await async_setup_component(hass, "automation", {"automation": [AUTOMATION]})
    before = datetime.now(UTC) - LONG_AGO
    await hear_while_away(hass, entry, peer)
    await until(hass, lambda: len(told["page"]) >= 2)
    late, live = (call.data["message"] for call in told["page"])
    after = datetime.now(UTC) - LONG_AGO
    assert f"{before:%X}" <= late.split()[5].rstrip(",") <= f"{after:%X}"
    assert late.startswith("Heard in the kitchen at ")
    assert late.endswith("(told late).")
    assert "late" not in live


@pytest.mark.parametrize("trouble", ["microphone", "server"])
async def test_readme_automation_tells_that_a_microphone_is_not_heard_for_five_minutes(
    hass: HomeAssistant, peer: Peer, told: dict[str, list[ServiceCall]], trouble: str
) -> None:
    entry = make_entry(hass, peer, microphone_data("Living room"))
    assert await hass.config_entries.async_setup(entry.entry_id)
    problem, (microphone,) = "binary_sensor.living_room_problem", entry.subentries
    await until(hass, lambda: state_of(hass, problem) == "off")
    automation = of_readme("Tell me when the living room is not heard")
    assert await async_setup_component(hass, "automation", {"automation": [automation]})
    if trouble == "microphone":
        await peer.set_status(microphone, status("failed", "unauthorized", "401 from camera"))
        await until(hass, lambda: state_of(hass, problem) == "on")
    else:
        await peer.stop()
        await until(hass, lambda: state_of(hass, problem) == "unavailable")
    assert told["phone"] == []
    async_fire_time_changed(hass, datetime.now(UTC) + timedelta(minutes=5, seconds=1))
    await until(hass, lambda: told["phone"])
    (call,) = told["phone"]
    expected = {"microphone": "401 from camera", "server": "The server does not answer"}
    assert call.data["message"] == expected[trouble]
    automation_entity = {"entity_id": "automation.tell_me_when_the_living_room_is_not_heard"}
    await hass.services.async_call("automation", "turn_off", automation_entity, blocking=True)
    await hass.config_entries.async_unload(entry.entry_id)


async def test_readme_script_tells_what_was_heard_in_a_room(
    hass: HomeAssistant, peer: Peer, told: dict[str, list[ServiceCall]]
) -> None:
    entry = make_entry(hass, peer, microphone_data("Bed", [{"label": "baby_cry"}]))
    assert await hass.config_entries.async_setup(entry.entry_id)
    (microphone,) = entry.subentries
    area = ar.async_get(hass).async_create("Bedroom")
    devices = dr.async_get(hass)
    device = devices.async_get_device_by_identifier((DOMAIN, microphone), entry.entry_id)
    assert device is not None
    devices.async_update_device(device.id, area_id=area.id)
    (script,) = (block for block in of_readme_blocks() if "sequence" in block)
    assert await async_setup_component(hass, "script", {"script": {"ask": script}})
    await hass.services.async_call("script", "ask", blocking=True)
    event = await peer.start_event(microphone, "baby_cry")
    await hass.services.async_call("script", "ask", blocking=True)
    time = dt_util.as_local(event.started_at).isoformat()
    assert [call.data["message"] for call in told["page"]] == ["0 times", f"1 times, last at {time}"]
    await hass.config_entries.async_unload(entry.entry_id)
