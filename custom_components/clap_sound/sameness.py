"""What else a sound might have been, and at which microphone it stood out most."""

from typing import TYPE_CHECKING, Any

from .const import SUBENTRY_MICROPHONE
from .desired import microphone_id

if TYPE_CHECKING:
    from homeassistant.config_entries import ConfigEntry

    from .client.models import EventInfo


def sameness_attributes(entry: ConfigEntry, event: EventInfo | None) -> dict[str, Any]:
    """Return what entities and the bus tell of it; a microphone of the server alone is told by its id."""
    group = event.group if event else None
    names = {
        microphone_id(subentry): subentry.title
        for subentry in entry.get_subentries_of_type(SUBENTRY_MICROPHONE)
    }
    return {
        "close": [{"label": close.label, "score": round(close.score, 3)} for close in event.close]
        if event
        else [],
        "group_id": group.id if group else None,
        "nearest_microphone": names.get(group.nearest, group.nearest) if group else None,
        "nearest_margin_db": group.margin_db if group else None,
        "nearest_unsure": group.unsure if group else None,
    }
