"""Where Home Assistant offers the recording of an event."""

from .const import DOMAIN


def clip_path(entry_id: str, event_id: str) -> str:
    """Return its path, relative to Home Assistant's own address."""
    return f"/api/{DOMAIN}/{entry_id}/events/{event_id}/clip.mp3"
