"""Where Home Assistant offers the recording of an event."""

from datetime import timedelta
from typing import TYPE_CHECKING

from homeassistant.components.http.auth import async_sign_path
from homeassistant.core import HomeAssistant, callback

from .const import DOMAIN

if TYPE_CHECKING:
    from .client.models import EventInfo

LINK_VALID = timedelta(hours=24)
"""A notification is looked at in the morning, too."""


def clip_path(entry_id: str, event_id: str) -> str:
    """Return its path, relative to Home Assistant's own address."""
    return f"/api/{DOMAIN}/{entry_id}/events/{event_id}/clip.mp3"


@callback
def signed_clip_path(hass: HomeAssistant, entry_id: str, event_id: str) -> str:
    """Return its path for whoever has no session, such as a phone; it ends with Home Assistant's next start.

    Whoever has it can hear this one recording: it belongs into no state and no log.
    """
    # Of no user, so that it outlives the session of whoever asked.
    return async_sign_path(hass, clip_path(entry_id, event_id), LINK_VALID, use_content_user=True)


def media_content_id(entry_id: str, event_id: str) -> str:
    """Return what it is called in the media browser."""
    return f"media-source://{DOMAIN}/{entry_id}/{event_id}"


def may_have_clip(event: EventInfo) -> bool:
    """Whether it has a recording, or will have one in a moment."""
    return event.has_clip or event.ended_at is None or event.clip_withheld == "coming"
