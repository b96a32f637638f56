"""What all entities of a microphone have in common."""

from typing import TYPE_CHECKING, Any, override

from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.update_coordinator import CoordinatorEntity

from .const import DOMAIN, SUBENTRY_MICROPHONE, TRANSLATED_LABELS
from .coordinator import KEY_LEVEL, KEY_TOP_SOUND, ClapSoundConfigEntry, ClapSoundCoordinator
from .desired import microphone_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from homeassistant.config_entries import ConfigSubentry

    from .client.models import MicrophoneInfo, WatchedLabel

KEY_PROBLEM = "problem"
KEY_SOUND_DETECTED = "sound_detected"
KEY_STATUS = "status"
_MICROPHONE_KEYS = (KEY_LEVEL, KEY_PROBLEM, KEY_SOUND_DETECTED, KEY_STATUS, KEY_TOP_SOUND)


def label_key(label_id: str) -> str:
    """Return the key of a label's entity, which no other entity of the microphone can have."""
    return f"label_{label_id}"


def watched_labels(entry: ClapSoundConfigEntry, subentry: ConfigSubentry) -> tuple[WatchedLabel, ...]:
    """Return what a microphone listens for; nothing while the server refuses it."""
    microphone = entry.runtime_data.data.microphones.get(microphone_id(subentry))
    return microphone.labels if microphone else ()


def expected_unique_ids(entry: ClapSoundConfigEntry) -> set[str]:
    """Return the unique ids of all entities that the entry has now."""
    return {
        f"{subentry.subentry_id}_{key}"
        for subentry in entry.get_subentries_of_type(SUBENTRY_MICROPHONE)
        for key in (*_MICROPHONE_KEYS, *(label_key(label.id) for label in watched_labels(entry, subentry)))
    }


def label_state(label: WatchedLabel) -> str:
    """Return what stands for a label as a state: its id, which is translated, or else its name."""
    return label.id if label.id in TRANSLATED_LABELS else label.name


class ClapSoundEntity(CoordinatorEntity[ClapSoundCoordinator]):
    """An entity of one microphone.

    Args:
        entry: the server.
        subentry: the microphone.
        key: unique within the microphone.
    """

    _attr_has_entity_name = True

    def __init__(self, entry: ClapSoundConfigEntry, subentry: ConfigSubentry, key: str) -> None:
        super().__init__(entry.runtime_data)
        self._entry_id = entry.entry_id
        self._microphone_id = microphone_id(subentry)
        self._attr_unique_id = f"{subentry.subentry_id}_{key}"
        self._attr_translation_key = key
        self._attr_device_info = dr.DeviceInfo(
            identifiers={(DOMAIN, subentry.subentry_id)},
            name=subentry.title,
            manufacturer="CLAP Sound",
            model="Microphone",
            configuration_url=str(entry.runtime_data.client.url),
            via_device_id=dr.async_get_device_id_by_identifier(
                entry.runtime_data.hass, (DOMAIN, entry.entry_id), config_entry_id=entry.entry_id
            ),
        )

    @property
    def microphone(self) -> MicrophoneInfo | None:
        """The microphone as the server has it; None if it refuses it."""
        return self.coordinator.data.microphones.get(self._microphone_id)

    @property
    @override
    def available(self) -> bool:
        """Whether the server is there and has the microphone."""
        return super().available and self.microphone is not None


class LabelEntity(ClapSoundEntity):
    """An entity of one label of a microphone, named by the label."""

    def __init__(self, entry: ClapSoundConfigEntry, subentry: ConfigSubentry, label: WatchedLabel) -> None:
        super().__init__(entry, subentry, label_key(label.id))
        self._label_id = label.id
        if label.id in TRANSLATED_LABELS:
            self._attr_translation_key = label.id
        else:
            self._attr_translation_key = None
            self._attr_name = label.name
            self._attr_icon = label.icon

    @property
    def _label(self) -> WatchedLabel | None:
        labels = self.microphone.labels if self.microphone else ()
        return next((label for label in labels if label.id == self._label_id), None)

    @property
    @override
    def extra_state_attributes(self) -> Mapping[str, Any]:
        """Threshold, and the newest event."""
        event = self.coordinator.data.latest.get((self._microphone_id, self._label_id))
        label = self._label
        return {
            "label": self._label_id,
            "threshold": label.threshold if label else None,
            "score": round(event.peak_score, 3) if event else None,
            "event_id": event.id if event else None,
            "started_at": event.started_at.isoformat() if event else None,
        }
