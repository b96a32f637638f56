"""Recordings of events, for whoever may use Home Assistant; the server's token stays here."""

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

from aiohttp import web
from homeassistant.config_entries import ConfigEntryState
from homeassistant.helpers.http import KEY_HASS, HomeAssistantView

from .client import ClapSoundError, NotFoundError
from .const import DOMAIN

if TYPE_CHECKING:
    from .client import ClapSoundClient
    from .coordinator import ClapSoundConfigEntry

WAIT_S = 20
WAIT_STEP_S = 0.5

_CONTENT_TYPES = {"mp3": "audio/mpeg", "flac": "audio/flac"}


async def clip_when_ready(client: ClapSoundClient, event_id: str, extension: Literal["mp3", "flac"]) -> bytes:
    """Wait for a recording whose sound still goes on: notifications fetch it at once.

    Raises:
        ClapSoundError: there is none, even after waiting.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + WAIT_S
    while True:
        try:
            return await client.clip(event_id, extension)
        except NotFoundError as error:
            if error.code != "no_clip_yet" or loop.time() > give_up_at:
                raise
        await asyncio.sleep(WAIT_STEP_S)


class ClipView(HomeAssistantView):
    """Passes an event's recording on from the server."""

    url = f"/api/{DOMAIN}/{{entry_id}}/events/{{event_id:[A-Za-z0-9-]+}}/clip.{{extension:mp3|flac}}"
    name = f"api:{DOMAIN}:clip"

    async def get(
        self, request: web.Request, entry_id: str, event_id: str, extension: Literal["mp3", "flac"]
    ) -> web.Response:
        entry: ClapSoundConfigEntry | None = request.app[KEY_HASS].config_entries.async_get_entry(entry_id)
        if entry is None or entry.domain != DOMAIN:
            return self.json_message("There is no such CLAP Sound server", HTTPStatus.NOT_FOUND)
        if entry.state is not ConfigEntryState.LOADED:
            return self.json_message("The CLAP Sound server is not connected", HTTPStatus.SERVICE_UNAVAILABLE)
        try:
            clip = await clip_when_ready(entry.runtime_data.client, event_id, extension)
        except NotFoundError as error:
            return self.json_message(error.detail, HTTPStatus.NOT_FOUND)
        except ClapSoundError as error:
            return self.json_message(str(error), HTTPStatus.BAD_GATEWAY)
        return web.Response(
            body=clip,
            content_type=_CONTENT_TYPES[extension],
            headers={"Cache-Control": "private, max-age=3600"},
        )
