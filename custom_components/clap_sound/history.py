"""What was heard: events of servers, by microphone, label and time."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from homeassistant.helpers import area_registry as ar
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.translation import async_get_translations
from homeassistant.util import dt as dt_util

from .clip import may_have_clip, media_content_id, signed_clip_path
from .const import DOMAIN, SUBENTRY_MICROPHONE
from .desired import microphone_id
from .label_choices import LabelChoices, spelling

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from homeassistant.core import HomeAssistant

    from .client import ClapSoundClient
    from .client.models import EventInfo
    from .coordinator import ClapSoundConfigEntry


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events; those at ``since`` and ``until`` are among them.

    Attributes:
        min_score: that the highest score must have, 0 to 1.
        limit: at most so many, the newest.
    """

    since: datetime
    until: datetime
    min_score: float
    limit: int

    def takes(self, event: EventInfo) -> bool:
        return self.since <= event.started_at <= self.until and event.peak_score >= self.min_score

    def newest(self, events: Iterable[EventInfo]) -> list[EventInfo]:
        """Return so many as are wanted, the newest first."""
        return sorted(events, key=lambda event: event.started_at, reverse=True)[: self.limit]


async def heard(
    client: ClapSoundClient, wanted: Wanted, microphones: Sequence[str | None], labels: Sequence[str | None]
) -> list[EventInfo]:
    """Return the events of a server, the newest first; of very many the newest few thousand.

    Args:
        client: the server.
        wanted: which of them.
        microphones: ids; None for all.
        labels: ids; None for all.

    Raises:
        ClapSoundError: the server does not answer.
    """
    found: list[EventInfo] = []
    for microphone in microphones:
        for label in labels:
            listed = await client.list_events(wanted.since, wanted.until, microphone=microphone, label=label)
            found += filter(wanted.takes, listed.events)
    return wanted.newest(found)


async def label_ids(entry: ClapSoundConfigEntry, texts: Iterable[str]) -> list[str]:
    """Return the ids of labels that are given by id, by name in any language, or in own words.

    Raises:
        ClapSoundError: the server does not answer.
    """
    library = LabelChoices(await entry.runtime_data.client.labels(), "en")
    watched = {
        spelling(text): label.id
        for microphone in entry.runtime_data.data.microphones.values()
        for label in microphone.labels
        for text in (label.id, label.name)
    }
    found = (library.label_id(text) or watched.get(spelling(text), text) for text in texts)
    return list(dict.fromkeys(found))


async def label_names(hass: HomeAssistant) -> Mapping[str, str]:
    """Return the names of the library's labels in Home Assistant's language, by id."""
    prefix, suffix = f"component.{DOMAIN}.entity.binary_sensor.", ".name"
    texts = await async_get_translations(hass, hass.config.language, "entity", {DOMAIN})
    return {
        key.removeprefix(prefix).removesuffix(suffix): text
        for key, text in texts.items()
        if key.startswith(prefix) and key.endswith(suffix)
    }


def response_of(
    hass: HomeAssistant, entry: ClapSoundConfigEntry, event: EventInfo, names: Mapping[str, str]
) -> dict[str, Any]:
    """Tell of an event as the response of an action does; ``names`` are those of labels, by id."""
    has_clip = may_have_clip(event)
    device = _device(hass, entry, event.microphone_id)
    area = ar.async_get(hass).async_get_area(device.area_id) if device and device.area_id else None
    return {
        "event_id": event.id,
        "time": dt_util.as_local(event.started_at).isoformat(),
        "ended": None if event.ended_at is None else dt_util.as_local(event.ended_at).isoformat(),
        "microphone": event.microphone_name,
        "device_id": device.id if device else None,
        "room": area.name if area else None,
        "label": event.label_id,
        "label_name": names.get(event.label_id, event.label_name),
        "score": round(event.score, 3),
        "peak_score": round(event.peak_score, 3),
        "peak_level_dbfs": round(event.peak_level_dbfs, 1),
        "pattern": event.pattern,
        "media_content_id": media_content_id(entry.entry_id, event.id) if has_clip else None,
        "clip_path": signed_clip_path(hass, entry.entry_id, event.id) if has_clip else None,
    }


def _device(hass: HomeAssistant, entry: ClapSoundConfigEntry, microphone: str) -> dr.DeviceEntry | None:
    for subentry in entry.get_subentries_of_type(SUBENTRY_MICROPHONE):
        if microphone_id(subentry) == microphone:
            return dr.async_get(hass).async_get_device_by_identifier(
                (DOMAIN, subentry.subentry_id), entry.entry_id
            )
    return None
