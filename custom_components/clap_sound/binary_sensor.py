"""Whether a sound is heard right now, and whether the microphone itself works."""

from typing import TYPE_CHECKING, override

from homeassistant.components.binary_sensor import BinarySensorEntity
from homeassistant.components.binary_sensor.const import BinarySensorDeviceClass
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.event import async_call_later

from .const import IMPAIRED_CODES, KEPT_OFF_S, KEPT_ON_S, KEY_PROBLEM
from .entity import ClapSoundEntity, LabelEntity, add_entities_of_microphones

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from homeassistant.config_entries import ConfigSubentry
    from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

    from .client.models import WatchedLabel
    from .coordinator import ClapSoundConfigEntry

PARALLEL_UPDATES = 0

_HEARS = {"disabled": False, "listening": True, "failed": False, "muted": False, "stalled": False}
# Home Assistant's own triggers for smoke and carbon monoxide then work.
_DEVICE_CLASSES = {
    "carbon_monoxide_alarm": BinarySensorDeviceClass.CO,
    "smoke_alarm": BinarySensorDeviceClass.SMOKE,
}
_PROBLEM = {"disabled": False, "listening": False, "failed": True, "muted": False, "stalled": True}


async def async_setup_entry(
    hass: HomeAssistant,
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

    Its attempts to reconnect leave it as it is. A short break of the connection to the server does not show
    either: what goes on would set off automations again, and what began meanwhile would not come from "off".
    The microphone's other sensors tell of the break at once.
    """

    def __init__(self, entry: ClapSoundConfigEntry, subentry: ConfigSubentry, label: WatchedLabel) -> None:
        super().__init__(entry, subentry, label)
        self._attr_device_class = _DEVICE_CLASSES.get(label.id, BinarySensorDeviceClass.SOUND)
        self._hears = False
        self._read()
        self._is_gone = not self.coordinator.last_update_success
        self._stop_waiting: Callable[[], None] | None = None

    @property
    @override
    def available(self) -> bool:
        return self.microphone is not None and not self._is_gone

    @override
    async def async_will_remove_from_hass(self) -> None:
        self._end_break()
        await super().async_will_remove_from_hass()

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        self._read()
        if self.coordinator.last_update_success:
            self._is_gone = False
            self._end_break()
        elif not self._is_gone and self._stop_waiting is None:
            kept_s = KEPT_ON_S if self.is_on else KEPT_OFF_S
            self._stop_waiting = async_call_later(self.hass, kept_s, self._break_is_long)
        super()._handle_coordinator_update()

    @callback
    def _break_is_long(self, _: datetime) -> None:
        self._stop_waiting = None
        self._is_gone = True
        self.async_write_ha_state()

    def _end_break(self) -> None:
        if self._stop_waiting is not None:
            self._stop_waiting()
            self._stop_waiting = None

    @property
    @override
    def is_on(self) -> bool | None:
        if self._key in self.coordinator.data.active:
            return True
        return False if self._hears else None

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
            if status.state == "listening" and status.code in IMPAIRED_CODES:
                self._attr_is_on = True
            else:
                self._attr_is_on = _PROBLEM.get(status.state, self._attr_is_on)
            self._attr_extra_state_attributes = {
                "code": status.code,
                "reason": status.reason,
                "notice": status.notice,
            }
