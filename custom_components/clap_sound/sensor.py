"""What a microphone hears best, how loud it is, and how it is doing."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, override

from homeassistant.components.sensor import SensorDeviceClass, SensorEntity, SensorStateClass
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.dispatcher import async_dispatcher_connect

from .const import KEY_LEVEL, KEY_STATUS, KEY_TOP_SOUND
from .entity import ClapSoundEntity, add_entities_of_microphones
from .signals import levels_signal, scores_signal

if TYPE_CHECKING:
    from homeassistant.config_entries import ConfigSubentry
    from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

    from .client.messages import LevelMessage, ScoresMessage
    from .coordinator import ClapSoundConfigEntry

PARALLEL_UPDATES = 0

NOTHING = "nothing"
NOTHING_BELOW_SCORE = 0.2
"""Below this no label is a fair description of what is heard."""
SCORE_STEP = 0.1
LEVEL_INTERVAL = timedelta(seconds=2)
STATES = ("connecting", "disabled", "failed", "listening", "muted", "stalled")


async def async_setup_entry(
    hass: HomeAssistant,
    entry: ClapSoundConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    add_entities_of_microphones(
        entry,
        async_add_entities,
        lambda subentry: [TopSound(entry, subentry), Level(entry, subentry), Status(entry, subentry)],
    )


class TopSound(ClapSoundEntity, SensorEntity):
    """The label with the highest score in the newest window.

    Windows come twice a second; the state is written when the label changes, or its score by a
    tenth, to spare the recorder.
    """

    _attr_device_class = SensorDeviceClass.ENUM

    def __init__(self, entry: ClapSoundConfigEntry, subentry: ConfigSubentry) -> None:
        super().__init__(entry, subentry, KEY_TOP_SOUND)
        self._attr_options = [*self.labels, NOTHING]
        self._score: float | None = None

    @property
    @override
    def extra_state_attributes(self) -> dict[str, Any]:
        label = self.labels.get(str(self._attr_native_value))
        return {"score": self._score, "label": label.name if label else None}

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        self.async_on_remove(
            async_dispatcher_connect(
                self.hass, scores_signal(self._entry_id, self._microphone_id), self._scored
            )
        )

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        if labels := self.labels:
            self._attr_options = [*labels, NOTHING]
            if self._attr_native_value not in self._attr_options or self.is_muted:
                self._attr_native_value, self._score = None, None
        super()._handle_coordinator_update()

    @callback
    def _scored(self, message: ScoresMessage) -> None:
        labels = self.labels
        scores = {label: score for label, score in message.scores.items() if label in labels}
        if message.scores and not scores:
            return
        # No scores at all: it is too quiet for the server to look.
        label, score = max(scores.items(), key=lambda item: item[1], default=("", 0.0))
        state = label if score >= NOTHING_BELOW_SCORE else NOTHING
        if (
            state == self._attr_native_value
            and self._score is not None
            and abs(score - self._score) < SCORE_STEP
        ):
            return
        self._attr_native_value, self._score = state, round(score, 3)
        self.async_write_ha_state()


class Level(ClapSoundEntity, SensorEntity):
    """Level in dBFS, every two seconds."""

    _attr_entity_category = EntityCategory.DIAGNOSTIC
    _attr_entity_registry_enabled_default = False
    _attr_native_unit_of_measurement = "dBFS"
    _attr_state_class = SensorStateClass.MEASUREMENT
    _attr_suggested_display_precision = 1

    def __init__(self, entry: ClapSoundConfigEntry, subentry: ConfigSubentry) -> None:
        super().__init__(entry, subentry, KEY_LEVEL)
        self._written_at: datetime | None = None

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        if self.is_muted:
            self._attr_native_value, self._written_at = None, None
            self._attr_extra_state_attributes = {}
        super()._handle_coordinator_update()

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        self.async_on_remove(
            async_dispatcher_connect(
                self.hass, levels_signal(self._entry_id, self._microphone_id), self._measured
            )
        )

    @callback
    def _measured(self, message: LevelMessage) -> None:
        if self._written_at is not None and message.at - self._written_at < LEVEL_INTERVAL:
            return
        self._written_at = message.at
        self._attr_native_value = round(message.level_dbfs, 1)
        self._attr_extra_state_attributes = {
            "noise_floor_dbfs": round(message.noise_floor_dbfs, 1),
            "gated": message.gated,
        }
        self.async_write_ha_state()


class Status(ClapSoundEntity, SensorEntity):
    """State of the microphone's sound, with the reason in words, and what model listens and why."""

    _attr_device_class = SensorDeviceClass.ENUM
    _attr_entity_category = EntityCategory.DIAGNOSTIC
    # It tells each percent of a download.
    _unrecorded_attributes = frozenset({"model_choice"})

    def __init__(self, entry: ClapSoundConfigEntry, subentry: ConfigSubentry) -> None:
        super().__init__(entry, subentry, KEY_STATUS)
        self._attr_options = list(STATES)

    @property
    @override
    def native_value(self) -> str | None:
        """The state, if it is one that this version knows."""
        state = self.microphone.status.state if self.microphone else None
        return state if state in STATES else None

    @property
    @override
    def extra_state_attributes(self) -> dict[str, Any]:
        if (microphone := self.microphone) is None:
            return {}
        status, model = microphone.status, self.coordinator.data.info.model
        return {
            "code": status.code,
            "reason": status.reason,
            "notice": status.notice,
            "since": status.since.isoformat(),
            "model": model.name,
            "model_choice": model.choice,
        }
