"""Sounds in the logbook, with the time at which they really began."""

from typing import TYPE_CHECKING

from homeassistant.components.logbook.const import (
    LOGBOOK_ENTRY_ENTITY_ID,
    LOGBOOK_ENTRY_ICON,
    LOGBOOK_ENTRY_MESSAGE,
    LOGBOOK_ENTRY_NAME,
)
from homeassistant.const import ATTR_ENTITY_ID
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.util import dt as dt_util

from .const import DOMAIN, EVENT_SOUND

if TYPE_CHECKING:
    from collections.abc import Callable


@callback
def async_describe_events(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant's signature
    async_describe_event: Callable[[str, str, Callable[[Event], dict[str, str | None]]], None],
) -> None:
    async_describe_event(DOMAIN, EVENT_SOUND, _describe)


@callback
def _describe(event: Event) -> dict[str, str | None]:
    data = event.data
    started_at = dt_util.as_local(dt_util.parse_datetime(data["started_at"], raise_on_error=True))
    when = f"{started_at:%Y-%m-%d %H:%M:%S}" if data["late"] else f"{started_at:%H:%M:%S}"
    message = f"heard {data['label']} at {when}, score {data['score']:.2f}"
    # Events of an earlier version have none.
    if (pattern := data.get("pattern")) is not None:
        message += f", pattern {pattern}"
    return {
        LOGBOOK_ENTRY_NAME: data["microphone"],
        LOGBOOK_ENTRY_MESSAGE: f"{message}; told late" if data["late"] else message,
        LOGBOOK_ENTRY_ICON: "mdi:ear-hearing",
        LOGBOOK_ENTRY_ENTITY_ID: data[ATTR_ENTITY_ID],
    }
