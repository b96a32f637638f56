"""Recordings of events through Home Assistant."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from custom_components.clap_sound import clip_view
from tests.integration.conftest import until

if TYPE_CHECKING:
    import pytest
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry
    from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

    from tests.integration.server import Peer

EVENT = "0b0d9a1e-2f6b-4d55-9d7e-0a2c6f8b1c3d"


def path(entry_id: str, file: str = "clip.mp3", event: str = EVENT) -> str:
    return f"/api/clap_sound/{entry_id}/events/{event}/{file}"


async def test_recording_is_passed_on_in_both_formats(
    peer: Peer, entry: MockConfigEntry, hass_client: ClientSessionGenerator
) -> None:
    peer.clips = {f"{EVENT}/clip.mp3": b"mp3 data", f"{EVENT}/clip.flac": b"flac data"}
    client = await hass_client()
    for file, content_type in (("clip.mp3", "audio/mpeg"), ("clip.flac", "audio/flac")):
        response = await client.get(path(entry.entry_id, file))
        assert response.status == HTTPStatus.OK
        assert response.content_type == content_type
        assert await response.read() == peer.clips[f"{EVENT}/{file}"]


async def test_recording_needs_a_sign_in(
    entry: MockConfigEntry, hass_client_no_auth: ClientSessionGenerator
) -> None:
    client = await hass_client_no_auth()
    response = await client.get(path(entry.entry_id))
    assert response.status == HTTPStatus.UNAUTHORIZED


async def test_recording_of_a_sound_that_still_goes_on_is_waited_for(
    peer: Peer, entry: MockConfigEntry, hass_client: ClientSessionGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_view, "WAIT_STEP_S", 0.01)
    peer.coming_clips = {f"{EVENT}/clip.mp3": b"mp3 data"}
    peer.clip_comes_at_request = 3
    client = await hass_client()
    response = await client.get(path(entry.entry_id))
    assert await response.read() == b"mp3 data"
    monkeypatch.setattr(clip_view, "WAIT_S", 0)
    peer.clips.clear()
    peer.clip_comes_at_request = 1000
    response = await client.get(path(entry.entry_id))
    assert response.status == HTTPStatus.NOT_FOUND
    assert (await response.json())["message"] == "The sound still goes on."


async def test_what_is_not_there_is_said(entry: MockConfigEntry, hass_client: ClientSessionGenerator) -> None:
    client = await hass_client()
    response = await client.get(path(entry.entry_id))
    assert response.status == HTTPStatus.NOT_FOUND
    assert (await response.json())["message"] == "This event has no recording."
    assert (await client.get(path("another"))).status == HTTPStatus.NOT_FOUND
    assert (await client.get(path(entry.entry_id, "clip.wav"))).status == HTTPStatus.NOT_FOUND
    assert (await client.get(path(entry.entry_id, event="a.b"))).status == HTTPStatus.NOT_FOUND


async def test_server_that_is_gone_is_said(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, hass_client: ClientSessionGenerator
) -> None:
    client = await hass_client()
    await peer.stop()
    await until(hass, lambda: not entry.runtime_data.last_update_success)
    assert (await client.get(path(entry.entry_id))).status == HTTPStatus.BAD_GATEWAY
    await hass.config_entries.async_unload(entry.entry_id)
    assert (await client.get(path(entry.entry_id))).status == HTTPStatus.SERVICE_UNAVAILABLE
