"""The logbook tells of sounds in words, also of those that came late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.components.recorder.common import async_wait_recording_done

from clap_server.detection.patterns import AlarmPattern
from tests.integration.conftest import make_entry, microphone_data, until

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.typing import WebSocketGenerator

    from tests.integration.server import Peer


@pytest.mark.usefixtures("recorder_mock")
async def test_logbook_tells_when_a_sound_really_was(
    hass: HomeAssistant, peer: Peer, hass_ws_client: WebSocketGenerator
) -> None:
    assert await async_setup_component(hass, "logbook", {})
    entry = make_entry(hass, peer, microphone_data())
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    (kitchen,) = entry.subentries
    heard: list[Any] = []
    hass.bus.async_listen("clap_sound_event", heard.append)
    begin = datetime.now(UTC)
    live = await peer.start_event(kitchen)
    smoke = await peer.start_event(kitchen, "smoke_alarm", pattern=AlarmPattern.T3)
    await until(hass, lambda: len(heard) == 2)
    await peer.stop()
    late = await peer.start_event(kitchen, "alarm", age=timedelta(hours=3))
    await peer.start()
    await until(hass, lambda: len(heard) == 3)
    await async_wait_recording_done(hass)
    client = await hass_ws_client()
    await client.send_json_auto_id(
        {
            "type": "logbook/get_events",
            "start_time": begin.isoformat(),
            "entity_ids": ["event.kitchen_sound_detected"],
        }
    )
    answer = await client.receive_json()
    ours = [item for item in answer["result"] if item.get("domain") == "clap_sound"]
    live_time, smoke_time, late_time = (dt_util.as_local(event.started_at) for event in (live, smoke, late))
    assert [(item["name"], item["message"]) for item in ours] == [
        ("Kitchen", f"heard Glass breaking at {live_time:%H:%M:%S}, score 0.80"),
        ("Kitchen", f"heard smoke_alarm at {smoke_time:%H:%M:%S}, score 0.80, pattern T3"),
        ("Kitchen", f"heard Alarm at {late_time:%Y-%m-%d %H:%M:%S}, score 0.80; told late"),
    ]
