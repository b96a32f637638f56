"""What a microphone hears best, how loud it is, and how it is doing."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, override

from homeassistant.components.sensor import SensorDeviceClass, SensorEntity, SensorStateClass
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant, callback

from .const import SUBENTRY_MICROPHONE
from .coordinator import KEY_LEVEL, KEY_TOP_SOUND, ClapSoundConfigEntry
from .entity import KEY_STATUS, ClapSoundEntity, label_state, watched_labels

if TYPE_CHECKING:
    from homeassistant.config_entries import ConfigSubentry
    from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

    from .client.messages import LevelMessage, ScoresMessage

PARALLEL_UPDATES = 0

NOTHING = "nothing"
NOTHING_BELOW_SCORE = 0.2
"""Below this no label is a fair description of what is heard."""
SCORE_STEP = 0.1
LEVEL_INTERVAL = timedelta(seconds=2)
STATES = ("connecting", "disabled", "failed", "listening", "stalled")


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant's signature
    entry: ClapSoundConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the entities of each microphone."""
    for subentry in entry.get_subentries_of_type(SUBENTRY_MICROPHONE):
        async_add_entities(
            [TopSound(entry, subentry), Level(entry, subentry), Status(entry, subentry)],
            config_subentry_id=subentry.subentry_id,
        )


class TopSound(ClapSoundEntity, SensorEntity):
    """The label with the highest score in the newest window.

    Windows come twice a second; the state is written when the label changes, or its score by a
    tenth, to spare the recorder.
    """

    _attr_device_class = SensorDeviceClass.ENUM

    def __init__(self, entry: ClapSoundConfigEntry, subentry: ConfigSubentry) -> None:
        super().__init__(entry, subentry, KEY_TOP_SOUND)
        self._states = {label.id: label_state(label) for label in watched_labels(entry, subentry)}
        self._attr_options = [*dict.fromkeys(self._states.values()), NOTHING]
        self._score: float | None = None

    @property
    @override
    def extra_state_attributes(self) -> dict[str, Any]:
        """Score of the label."""
        return {"score": self._score}

    @override
    async def async_added_to_hass(self) -> None:
        """Receive the microphone's scores."""
        await super().async_added_to_hass()
        self.async_on_remove(self.coordinator.async_subscribe_scores(self._microphone_id, self._scored))

    @callback
    def _scored(self, message: ScoresMessage) -> None:
        scores = {label: score for label, score in message.scores.items() if label in self._states}
        if message.scores and not scores:
            return
        # No scores at all: it is too quiet for the server to look.
        label, score = max(scores.items(), key=lambda item: item[1], default=("", 0.0))
        state = self._states[label] if score >= NOTHING_BELOW_SCORE else NOTHING
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

    @override
    async def async_added_to_hass(self) -> None:
        """Receive the microphone's level."""
        await super().async_added_to_hass()
        self.async_on_remove(self.coordinator.async_subscribe_levels(self._microphone_id, self._measured))

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
    """State of the microphone's sound, with the reason in words."""

    _attr_device_class = SensorDeviceClass.ENUM
    _attr_entity_category = EntityCategory.DIAGNOSTIC

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
        """Why it is so."""
        if (microphone := self.microphone) is None:
            return {}
        status = microphone.status
        return {"code": status.code, "reason": status.reason, "since": status.since.isoformat()}
