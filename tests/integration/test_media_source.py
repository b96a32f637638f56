"""Recordings in the media browser."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
from homeassistant.components.media_player.errors import BrowseError
from homeassistant.components.media_source import async_browse_media, async_resolve_media
from homeassistant.components.media_source.error import Unresolvable
from homeassistant.setup import async_setup_component

from tests.integration.conftest import make_entry, microphone_data, until
from tests.integration.server import Peer

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry
    from pytest_homeassistant_custom_component.typing import ClientSessionGenerator, WebSocketGenerator

ROOT = "media-source://clap_sound"


@pytest.fixture(autouse=True)
async def _media_source(hass: HomeAssistant) -> None:
    assert await async_setup_component(hass, "media_source", {})


async def titles(hass: HomeAssistant, media_content_id: str = ROOT) -> list[str]:
    children = (await async_browse_media(hass, media_content_id)).children
    return [child.title for child in children or []]


async def test_recordings_are_listed_newest_first_and_only_those_that_are_there(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    await hass.config.async_update(time_zone="Europe/Berlin")
    assert await titles(hass) == []
    await peer.end_event(await peer.start_event(kitchen, "glass_breaking"))
    await peer.end_event(await peer.start_event(kitchen, "alarm"))
    await peer.start_event(kitchen, "glass_breaking")
    found = await titles(hass)
    assert [title.rpartition(", ")[0] for title in found] == ["Alarm, Kitchen", "Glass breaking, Kitchen"]
    assert entry.title == (await async_browse_media(hass, ROOT)).title


async def test_recording_plays_at_a_signed_address_without_a_token(
    hass: HomeAssistant,
    peer: Peer,
    kitchen: str,
    hass_ws_client: WebSocketGenerator,
    hass_client_no_auth: ClientSessionGenerator,
) -> None:
    event = await peer.end_event(await peer.start_event(kitchen))
    peer.clips = {f"{event.id}/clip.mp3": b"mp3 data"}
    (recording,) = (await async_browse_media(hass, ROOT)).children or []
    socket = await hass_ws_client()
    command: dict[str, Any] = {"id": 1, "type": "media_source/resolve_media"}
    await socket.send_json({**command, "media_content_id": recording.media_content_id})
    answer = (await socket.receive_json())["result"]
    assert answer["mime_type"] == "audio/mpeg"
    response = await (await hass_client_no_auth()).get(answer["url"])
    assert response.status == HTTPStatus.OK
    assert await response.read() == b"mp3 data"


async def test_of_several_servers_each_lists_its_own(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    other = Peer()
    other.server_id = "00000000-0000-4000-8000-000000000002"
    await other.start()
    try:
        second = make_entry(hass, other, microphone_data("Hall"))
        assert await hass.config_entries.async_setup(second.entry_id)
        await peer.end_event(await peer.start_event(kitchen))
        await other.end_event(await other.start_event(next(iter(second.subentries))))
        assert len(await titles(hass)) == 2
        for found, name in ((entry, "Kitchen"), (second, "Hall")):
            (title,) = await titles(hass, f"{ROOT}/{found.entry_id}")
            assert title.startswith(f"Glass breaking, {name}, ")
        assert await hass.config_entries.async_unload(second.entry_id)
    finally:
        await other.stop()


async def test_what_cannot_be_listed_or_played_is_said(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry
) -> None:
    with pytest.raises(BrowseError, match="not connected"):
        await async_browse_media(hass, f"{ROOT}/another")
    with pytest.raises(Unresolvable, match="no recording"):
        await async_resolve_media(hass, f"{ROOT}/{entry.entry_id}", None)
    await peer.stop()
    await until(hass, lambda: not entry.runtime_data.last_update_success)
    with pytest.raises(BrowseError, match=r"^No answer from CLAP Sound \(127\.0\.0\.1\): does it run\?$"):
        await async_browse_media(hass, ROOT)
    await hass.config_entries.async_unload(entry.entry_id)
