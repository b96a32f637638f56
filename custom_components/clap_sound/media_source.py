"""Recordings in the media browser: each server's newest events, ready to be played."""

from typing import TYPE_CHECKING, override

from homeassistant.components.media_player.const import MediaClass, MediaType
from homeassistant.components.media_player.errors import BrowseError
from homeassistant.components.media_source import (
    BrowseMediaSource,
    MediaSource,
    MediaSourceItem,
    PlayMedia,
    Unresolvable,
)
from homeassistant.util import dt as dt_util

from .client import ClapSoundConnectionError, ClapSoundError
from .clip import clip_path
from .const import DOMAIN

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant

    from .client.models import EventInfo
    from .coordinator import ClapSoundConfigEntry

NEWEST = 200


async def async_get_media_source(hass: HomeAssistant) -> MediaSource:
    """Return the source of recordings."""
    return Recordings(hass)


class Recordings(MediaSource):
    """Servers, and in each its events with a recording, the newest first."""

    name = "CLAP Sound"

    def __init__(self, hass: HomeAssistant) -> None:
        super().__init__(DOMAIN)
        self._hass = hass

    @override
    async def async_resolve_media(self, item: MediaSourceItem) -> PlayMedia:
        """Return where the recording is; the media browser signs that address."""
        entry_id, _, event_id = item.identifier.partition("/")
        if not event_id:
            raise Unresolvable("This is no recording")
        return PlayMedia(clip_path(entry_id, event_id), "audio/mpeg")

    @override
    async def async_browse_media(self, item: MediaSourceItem) -> BrowseMediaSource:
        """List the servers; where there is one only, its recordings at once."""
        entries: list[ClapSoundConfigEntry] = self._hass.config_entries.async_loaded_entries(DOMAIN)
        if item.identifier:
            entries = [entry for entry in entries if entry.entry_id == item.identifier]
            if not entries:
                raise BrowseError("This CLAP Sound server is not connected")
        if len(entries) == 1:
            return _folder(item.identifier or None, entries[0].title, await _recordings(entries[0]))
        return _folder(None, self.name, [_folder(entry.entry_id, entry.title) for entry in entries])


async def _recordings(entry: ClapSoundConfigEntry) -> list[BrowseMediaSource]:
    try:
        events = await entry.runtime_data.client.events(NEWEST)
    except ClapSoundConnectionError as error:
        raise BrowseError(
            translation_domain=DOMAIN,
            translation_key="no_answer",
            translation_placeholders={"server": entry.title},
        ) from error
    except ClapSoundError as error:
        raise BrowseError(str(error)) from error
    return [_recording(entry, event) for event in reversed(events) if event.has_clip]


def _recording(entry: ClapSoundConfigEntry, event: EventInfo) -> BrowseMediaSource:
    when = dt_util.as_local(event.started_at)
    return BrowseMediaSource(
        domain=DOMAIN,
        identifier=f"{entry.entry_id}/{event.id}",
        media_class=MediaClass.MUSIC,
        media_content_type=MediaType.MUSIC,
        title=f"{event.label_name}, {event.microphone_name}, {when:%Y-%m-%d %H:%M:%S}",
        can_play=True,
        can_expand=False,
    )


def _folder(
    identifier: str | None, title: str, children: list[BrowseMediaSource] | None = None
) -> BrowseMediaSource:
    return BrowseMediaSource(
        domain=DOMAIN,
        identifier=identifier,
        media_class=MediaClass.DIRECTORY,
        media_content_type=MediaType.APP,
        title=title,
        can_play=False,
        can_expand=True,
        children=children,
        children_media_class=MediaClass.MUSIC,
    )
