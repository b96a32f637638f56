"""What the system page says of the servers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from homeassistant.setup import async_setup_component

from custom_components.clap_sound import system_health
from custom_components.clap_sound.const import DOMAIN
from tests.integration.conftest import make_entry, microphone_data, until
from tests.integration.server import Peer, status

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry
    from pytest_homeassistant_custom_component.typing import WebSocketGenerator

pytestmark = pytest.mark.usefixtures("entry")
TRANSLATIONS = Path(system_health.__file__).parent / "translations"


@pytest.fixture
async def health(hass: HomeAssistant, hass_ws_client: WebSocketGenerator) -> Any:
    """Ask as the page does; returns what it shows, and the answer as it was sent."""
    assert await async_setup_component(hass, "system_health", {})
    await hass.async_block_till_done()
    socket = await hass_ws_client(hass)

    async def ask() -> tuple[dict[str, Any], str]:
        await socket.send_json_auto_id({"type": "system_health/info"})
        assert (await socket.receive_json())["success"]
        initial = (await socket.receive_json())["event"]
        shown = initial["data"][DOMAIN]["info"]
        sent = [initial]
        async with asyncio.timeout(15):
            while (event := (await socket.receive_json())["event"])["type"] != "finish":
                sent.append(event)
                if event["domain"] == DOMAIN:
                    shown[event["key"]] = event.get("data", event.get("error"))
        return shown, json.dumps([each for each in sent if each.get("domain", DOMAIN) == DOMAIN])

    return ask


async def test_server_that_works_is_described(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str, health: Any
) -> None:
    shown, _ = await health()
    assert shown == {
        "servers": "1/1",
        "can_reach_server": "ok",
        "version": "0.1.0",
        "model": "builtin (cpu)",
        "microphones": "1/1",
        "windows_per_second": 2.0,
    }
    await peer.set_status(kitchen, status("failed", "refused", "the camera refuses"))
    await until(hass, lambda: entry.runtime_data.data.microphones[kitchen].status.state == "failed")
    shown, _ = await health()
    assert (shown["microphones"], shown["windows_per_second"]) == ("0/1", 0)
    for language in ("en", "zh-Hans"):
        texts = json.loads((TRANSLATIONS / f"{language}.json").read_text(encoding="utf-8"))
        assert texts["system_health"]["info"].keys() == shown.keys()


async def test_server_that_spares_the_model_owes_no_more_windows_than_it_takes(
    hass: HomeAssistant, health: Any
) -> None:
    other = Peer()
    other.server_id = "00000000-0000-4000-8000-000000000002"
    other.model = other.model.model_copy(update={"least_hop_s": 1.0})
    await other.start()
    entry = make_entry(hass, other, microphone_data("Hall"), microphone_data("Attic", hop_s=2.0))
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    shown, _ = await health()
    assert (shown["microphones"], shown["windows_per_second"]) == ("3/3", 3.5)
    await other.stop()


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        ("gone", "unreachable"),
        ("token", "the token is not accepted"),
        ("stranger", "it does not answer as it should"),
    ],
)
async def test_trouble_is_told_without_saying_where_the_server_is(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, health: Any, trouble: str, error: str
) -> None:
    if trouble == "gone":
        await peer.stop()
        await until(hass, lambda: not entry.runtime_data.last_update_success)
    elif trouble == "token":
        peer.token = "another"
    else:
        peer.answer_everything_with = web.Response(text="welcome to 192.0.2.1")
    shown, sent = await health()
    assert shown["can_reach_server"] == {"type": "failed", "error": error}
    assert shown["servers"] == ("0/1" if trouble == "gone" else "1/1")
    for secret in ("127.0.0.1", "192.0.2.1", str(peer.port), entry.title):
        assert secret not in sent


async def test_several_servers_stand_in_one_row(hass: HomeAssistant, health: Any) -> None:
    other = Peer()
    other.server_id = "00000000-0000-4000-8000-000000000002"
    await other.start()
    second = make_entry(hass, other, microphone_data("Hall", hop_s=0.25))
    assert await hass.config_entries.async_setup(second.entry_id)
    await hass.async_block_till_done()
    shown, _ = await health()
    assert (shown["servers"], shown["version"]) == ("2/2", "0.1.0, 0.1.0")
    assert (shown["microphones"], shown["windows_per_second"]) == ("2/2", 6.0)
    assert await hass.config_entries.async_unload(second.entry_id)
    shown, _ = await health()
    assert shown["servers"] == "1/2"
    assert shown["can_reach_server"] == {"type": "failed", "error": "not set up"}
    await other.stop()
