"""Each sound that is detected, once."""

from typing import TYPE_CHECKING, override

from homeassistant.components.event import EventEntity
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.dispatcher import async_dispatcher_connect

from .const import KEY_SOUND_DETECTED
from .entity import ClapSoundEntity, add_entities_of_microphones
from .signals import event_signal
from .telling import event_attributes

if TYPE_CHECKING:
    from homeassistant.config_entries import ConfigSubentry
    from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

    from .coordinator import ClapSoundConfigEntry
    from .data import Heard

PARALLEL_UPDATES = 0


async def async_setup_entry(
    hass: HomeAssistant,
    entry: ClapSoundConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    add_entities_of_microphones(entry, async_add_entities, lambda subentry: [SoundDetected(entry, subentry)])


class SoundDetected(ClapSoundEntity, EventEntity):
    """Fires when a sound is detected; the event type is the label's id."""

    def __init__(self, entry: ClapSoundConfigEntry, subentry: ConfigSubentry) -> None:
        super().__init__(entry, subentry, KEY_SOUND_DETECTED)
        self._attr_event_types = list(self.labels)

    @property
    @override
    def available(self) -> bool:
        """Always: coming back with its last event, it would set off automations with an old sound.

        That there is no connection is told by all other entities of the microphone.
        """
        return True

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        self.async_on_remove(
            async_dispatcher_connect(
                self.hass, event_signal(self._entry_id, self._microphone_id), self._sound_started
            )
        )

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        if (types := list(self.labels)) and types != self._attr_event_types:
            self._attr_event_types = types
            self.async_write_ha_state()

    @callback
    def _sound_started(self, heard: Heard) -> None:
        attributes = event_attributes(self.coordinator.config_entry, heard)
        event_type = attributes.pop("event_type")
        if event_type not in self.event_types:
            # It was detected before the label was taken off.
            return
        self._trigger_event(event_type, attributes)
        # After each one: a second event before the state is written would hide the first.
        self.async_write_ha_state()
