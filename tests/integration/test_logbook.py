"""Each sound stands in the logbook."""

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
async def test_each_sound_stands_in_the_logbook_once_and_a_late_one_with_its_real_time(
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
    await until(hass, lambda: len(heard) == 1)
    await peer.stop()
    late = await peer.start_event(kitchen, "alarm", age=timedelta(hours=3), pattern=AlarmPattern.T3)
    await peer.start()
    await until(hass, lambda: len(heard) == 2)
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
    state = hass.states.get("event.kitchen_sound_detected")
    assert state is not None
    assert state.attributes["event_id"] == live.id
    late_time = dt_util.as_local(late.started_at)
    assert [(item.get("state"), item.get("message")) for item in answer["result"]] == [
        (state.state, None),
        (None, f"heard Alarm at {late_time:%Y-%m-%d %H:%M:%S}, score 0.80, pattern T3; told late"),
    ]
    assert answer["result"][1]["name"] == "Kitchen"
    assert answer["result"][1]["domain"] == "clap_sound"
