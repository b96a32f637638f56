"""Whether a sound is heard right now, and whether the microphone itself works."""

from typing import TYPE_CHECKING, override

from homeassistant.components.binary_sensor import BinarySensorEntity
from homeassistant.components.binary_sensor.const import BinarySensorDeviceClass
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant, callback

from .const import KEY_PROBLEM
from .entity import ClapSoundEntity, LabelEntity, add_entities_of_microphones

if TYPE_CHECKING:
    from homeassistant.config_entries import ConfigSubentry
    from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

    from .client.models import WatchedLabel
    from .coordinator import ClapSoundConfigEntry

PARALLEL_UPDATES = 0

_HEARS = {"disabled": False, "listening": True, "failed": False, "stalled": False}
# Sound comes, but an alarm may be missed.
_IMPAIRED = frozenset({"wrong_rate", "choppy", "only_noise"})
# Home Assistant's own triggers for smoke and carbon monoxide then work.
_DEVICE_CLASSES = {
    "carbon_monoxide_alarm": BinarySensorDeviceClass.CO,
    "smoke_alarm": BinarySensorDeviceClass.SMOKE,
}
_PROBLEM = {"disabled": False, "listening": False, "failed": True, "stalled": True}


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant's signature
    entry: ClapSoundConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    add_entities_of_microphones(
        entry,
        async_add_entities,
        lambda subentry: [ProblemSensor(entry, subentry)],
        lambda subentry, label: SoundSensor(entry, subentry, label),
    )


class SoundSensor(LabelEntity, BinarySensorEntity):
    """On while the label's sound lasts; unknown while the microphone hears nothing, which is not quiet.

    Attempts to reconnect leave it as it is.
    """

    def __init__(self, entry: ClapSoundConfigEntry, subentry: ConfigSubentry, label: WatchedLabel) -> None:
        super().__init__(entry, subentry, label)
        self._attr_device_class = _DEVICE_CLASSES.get(label.id, BinarySensorDeviceClass.SOUND)
        self._hears = False
        self._read()

    @property
    @override
    def is_on(self) -> bool | None:
        if self._key in self.coordinator.data.active:
            return True
        return False if self._hears else None

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        self._read()
        super()._handle_coordinator_update()

    def _read(self) -> None:
        if (microphone := self.microphone) is not None:
            self._hears = _HEARS.get(microphone.status.state, self._hears)


class ProblemSensor(ClapSoundEntity, BinarySensorEntity):
    """On while no sound comes, or none that can be judged; attempts to reconnect do not turn it off."""

    _attr_device_class = BinarySensorDeviceClass.PROBLEM
    _attr_entity_category = EntityCategory.DIAGNOSTIC

    def __init__(self, entry: ClapSoundConfigEntry, subentry: ConfigSubentry) -> None:
        super().__init__(entry, subentry, KEY_PROBLEM)
        self._attr_is_on = False
        self._attr_translation_key = "microphone_problem"
        self._read()

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        self._read()
        super()._handle_coordinator_update()

    def _read(self) -> None:
        if (microphone := self.microphone) is not None:
            status = microphone.status
            if status.state == "listening" and status.code in _IMPAIRED:
                self._attr_is_on = True
            else:
                self._attr_is_on = _PROBLEM.get(status.state, self._attr_is_on)
            self._attr_extra_state_attributes = {
                "code": status.code,
                "reason": status.reason,
                "notice": status.notice,
            }
