"""Each sound that is detected, once."""

from typing import TYPE_CHECKING, override

from homeassistant.components.event import EventEntity
from homeassistant.core import HomeAssistant, callback

from .clip import clip_path
from .const import SUBENTRY_MICROPHONE
from .entity import KEY_SOUND_DETECTED, ClapSoundEntity, watched_labels

if TYPE_CHECKING:
    from homeassistant.config_entries import ConfigSubentry
    from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

    from .client.models import EventInfo
    from .coordinator import ClapSoundConfigEntry

PARALLEL_UPDATES = 0


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant's signature
    entry: ClapSoundConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the entity of each microphone."""
    for subentry in entry.get_subentries_of_type(SUBENTRY_MICROPHONE):
        async_add_entities([SoundDetected(entry, subentry)], config_subentry_id=subentry.subentry_id)


class SoundDetected(ClapSoundEntity, EventEntity):
    """Fires when a sound is detected; the event type is the label's id."""

    def __init__(self, entry: ClapSoundConfigEntry, subentry: ConfigSubentry) -> None:
        super().__init__(entry, subentry, KEY_SOUND_DETECTED)
        self._attr_event_types = [label.id for label in watched_labels(entry, subentry)]

    @override
    async def async_added_to_hass(self) -> None:
        """Receive the microphone's events."""
        await super().async_added_to_hass()
        self.async_on_remove(
            self.coordinator.async_subscribe_events(self._microphone_id, self._sound_started)
        )

    @callback
    def _sound_started(self, event: EventInfo) -> None:
        if event.label_id not in self.event_types:
            # It was detected before the label was taken off.
            return
        self._trigger_event(
            event.label_id,
            {
                "label": event.label_name,
                "score": round(event.score, 3),
                "peak_level_dbfs": round(event.peak_level_dbfs, 1),
                "event_id": event.id,
                "started_at": event.started_at.isoformat(),
                "clip": clip_path(self._entry_id, event.id),
            },
        )
        # After each one: a second event before the state is written would hide the first.
        self.async_write_ha_state()
