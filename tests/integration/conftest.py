"""A real Home Assistant core, and a peer that speaks the server's wire on 127.0.0.1."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from homeassistant.config_entries import ConfigSubentryData
from homeassistant.const import CONF_HOST, CONF_PORT, CONF_SSL, CONF_TOKEN, CONF_VERIFY_SSL
from pytest_homeassistant_custom_component.common import MockConfigEntry

# Imported here, so that the test package's own custom_components does not win.
from custom_components.clap_sound import binary_sensor
from custom_components.clap_sound.client import backoff, keeper
from custom_components.clap_sound.const import DOMAIN
from tests.integration.server import TOKEN, Peer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from homeassistant.core import HomeAssistant

WAIT_S = 15


@pytest.fixture(autouse=True)
def _our_integration(recorder_db_url: str, enable_custom_integrations: None, socket_enabled: None) -> None:
    """Let Home Assistant find the integration, and sockets be real."""


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_S", 0.02)
    monkeypatch.setattr(backoff, "MAX_S", 0.1)
    monkeypatch.setattr(keeper, "STABLE_AFTER_S", 0.05)
    # Every break is a long one, except where a test says otherwise.
    monkeypatch.setattr(binary_sensor, "KEPT_OFF_S", 0)
    monkeypatch.setattr(binary_sensor, "KEPT_ON_S", 0)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    server = Peer()
    await server.start()
    yield server
    await server.stop()


def entry_data(peer: Peer, **changes: Any) -> dict[str, Any]:
    return {
        CONF_HOST: "127.0.0.1",
        CONF_PORT: peer.port,
        CONF_TOKEN: TOKEN,
        CONF_SSL: False,
        CONF_VERIFY_SSL: True,
        **changes,
    }


def microphone_data(
    name: str = "Kitchen", labels: list[dict[str, Any]] | None = None, **changes: Any
) -> ConfigSubentryData:
    data = {
        "source": "url",
        "url": "rtsp://camera:hunter2@192.0.2.1/audio",
        "labels": labels or [{"label": "glass_breaking", "threshold": 0.7}, {"label": "alarm"}],
        "negatives": [],
        "hop_s": 0.5,
        **changes,
    }
    return ConfigSubentryData(data=data, subentry_type="microphone", title=name, unique_id=None)


def make_entry(hass: HomeAssistant, peer: Peer, *microphones: ConfigSubentryData) -> MockConfigEntry:
    entry = MockConfigEntry(
        domain=DOMAIN,
        title="CLAP Sound (127.0.0.1)",
        unique_id=peer.server_id,
        data=entry_data(peer),
        subentries_data=list(microphones),
    )
    entry.add_to_hass(hass)
    return entry


@pytest.fixture
async def entry(hass: HomeAssistant, peer: Peer) -> MockConfigEntry:
    """One server with the microphone "Kitchen", set up."""
    config_entry = make_entry(hass, peer, microphone_data())
    assert await hass.config_entries.async_setup(config_entry.entry_id)
    await hass.async_block_till_done()
    return config_entry


@pytest.fixture
def kitchen(entry: MockConfigEntry) -> str:
    """The microphone's id on the server."""
    return next(iter(entry.subentries))


async def until(hass: HomeAssistant, condition: Callable[[], object]) -> None:
    """Wait until ``condition`` holds: it follows from messages over real sockets."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)
    await hass.async_block_till_done()


def state_of(hass: HomeAssistant, entity_id: str) -> str | None:
    state = hass.states.get(entity_id)
    return state.state if state else None
