"""Recordings that the user names, to be scored: of the media browser, or files of this machine."""

from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import aiohttp
from homeassistant.components.media_player.browse_media import async_process_play_media_url
from homeassistant.components.media_source import (
    PlayMedia,
    Unresolvable,
    async_resolve_media,
    is_media_source_id,
)
from homeassistant.components.media_source.error import UnknownMediaSource
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.helpers.service import async_get_config_entry

from .client import ClapSoundError
from .clip_view import clip_when_ready
from .const import DOMAIN
from .errors import invalid, of_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from homeassistant.core import HomeAssistant

MAX_FILE_BYTES = 200_000_000
"""The server's limit."""
MAX_MEDIA_BYTES = 64 * 2**20
"""Of what has to be in memory for a moment."""
FETCH_TIMEOUT = aiohttp.ClientTimeout(total=60)
_CHUNK_BYTES = 2**16
_OWN = f"media-source://{DOMAIN}/"


def own_recording(media_content_id: str) -> tuple[str, str] | None:
    """Return the ids of config entry and event, if it is a recording of CLAP Sound."""
    entry_id, _, event_id = media_content_id.removeprefix(_OWN).partition("/")
    return (entry_id, event_id) if media_content_id.startswith(_OWN) and event_id else None


@asynccontextmanager
async def media_recording(hass: HomeAssistant, media_content_id: str) -> AsyncIterator[IO[bytes] | bytes]:
    """Get an item of the media browser.

    Raises:
        HomeAssistantError: it cannot be had.
    """
    if not is_media_source_id(media_content_id):
        raise invalid("no_media_source", media=media_content_id)
    if (own := own_recording(media_content_id)) is not None:
        yield await _own(hass, *own)
        return
    found = await _resolved(hass, media_content_id)
    if found.path is None:
        yield await _fetched(hass, media_content_id, found.url)
        return
    async with _opened(hass, found.path) as opened:
        yield opened


@asynccontextmanager
async def file_recording(hass: HomeAssistant, path: str) -> AsyncIterator[IO[bytes]]:
    """Open a file that Home Assistant may show to others.

    Raises:
        ServiceValidationError: it may not be opened, or cannot be.
    """
    if not await hass.async_add_executor_job(hass.config.is_allowed_path, path):
        raise invalid("path_not_allowed", path=path)
    async with _opened(hass, Path(path)) as opened:
        yield opened


@asynccontextmanager
async def _opened(hass: HomeAssistant, path: Path) -> AsyncIterator[IO[bytes]]:
    def opened() -> tuple[IO[bytes], int]:
        return path.open("rb"), path.stat().st_size

    try:
        recording, size = await hass.async_add_executor_job(opened)
    except OSError as error:
        raise invalid("file_not_readable", path=str(path), detail=error.strerror or str(error)) from error
    try:
        if size > MAX_FILE_BYTES:
            raise invalid("too_large", limit=str(MAX_FILE_BYTES // 1_000_000))
        yield recording
    finally:
        await hass.async_add_executor_job(recording.close)


async def _resolved(hass: HomeAssistant, media_content_id: str) -> PlayMedia:
    try:
        return await async_resolve_media(hass, media_content_id, None)
    except (Unresolvable, UnknownMediaSource) as error:
        raise invalid("media_not_found", media=media_content_id, detail=str(error)) from error


async def _own(hass: HomeAssistant, entry_id: str, event_id: str) -> bytes:
    client = async_get_config_entry(hass, DOMAIN, entry_id).runtime_data.client
    try:
        return await clip_when_ready(client, event_id, "flac")
    except ClapSoundError as error:
        raise of_server(client, error) from error


async def _fetched(hass: HomeAssistant, media_content_id: str, url: str) -> bytes:
    body = bytearray()
    try:
        async with async_get_clientsession(hass).get(
            async_process_play_media_url(hass, url), timeout=FETCH_TIMEOUT, raise_for_status=True
        ) as response:
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                body += chunk
                if len(body) > MAX_MEDIA_BYTES:
                    raise invalid("too_large", limit=str(MAX_MEDIA_BYTES // 1_000_000))
    except aiohttp.ClientResponseError as error:
        raise invalid("media_not_found", media=media_content_id, detail=f"HTTP {error.status}") from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key="media_no_answer",
            translation_placeholders={"media": media_content_id},
        ) from error
    return bytes(body)
