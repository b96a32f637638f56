"""What an entry subscribes to: what enabled entities need, so that no server sends scores for nobody."""

from typing import TYPE_CHECKING

from homeassistant.const import Platform
from homeassistant.helpers import entity_registry as er

from .const import DOMAIN, KEY_LEVEL, KEY_TOP_SOUND, SUBENTRY_MICROPHONE

if TYPE_CHECKING:
    from homeassistant.config_entries import ConfigEntry
    from homeassistant.core import HomeAssistant


def wanted_topics(hass: HomeAssistant, entry: ConfigEntry) -> frozenset[str]:
    wanted = {"scores": (KEY_TOP_SOUND, True), "levels": (KEY_LEVEL, False)}
    subentries = entry.get_subentries_of_type(SUBENTRY_MICROPHONE)
    identifiers = [subentry.subentry_id for subentry in subentries]
    return frozenset(
        topic
        for topic, (key, default) in wanted.items()
        if any(_is_enabled(hass, subentry_id, key, default) for subentry_id in identifiers)
    )


def _is_enabled(hass: HomeAssistant, subentry_id: str, key: str, default: bool) -> bool:
    registry = er.async_get(hass)
    entity_id = registry.async_get_entity_id(Platform.SENSOR, DOMAIN, f"{subentry_id}_{key}")
    if entity_id is None or (entity := registry.async_get(entity_id)) is None:
        return default
    return not entity.disabled
