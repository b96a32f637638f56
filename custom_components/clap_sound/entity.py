"""What all entities of a microphone have in common."""

from typing import TYPE_CHECKING, Any, override

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.update_coordinator import CoordinatorEntity

from .const import DOMAIN, MICROPHONE_KEYS, SUBENTRY_MICROPHONE, TRANSLATED_LABELS
from .coordinator import ClapSoundConfigEntry, ClapSoundCoordinator
from .desired import microphone_id
from .sameness import sameness_attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from homeassistant.config_entries import ConfigSubentry
    from homeassistant.helpers.entity import Entity
    from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

    from .client.models import MicrophoneInfo, WatchedLabel

_LABEL_PREFIX = "label_"


def label_key(label_id: str) -> str:
    """Return the key of a label's entity, which no other entity of the microphone can have."""
    return f"{_LABEL_PREFIX}{label_id}"


def label_of_key(key: str) -> str | None:
    """Return the label's id; None if it is the key of another entity."""
    return key.removeprefix(_LABEL_PREFIX) if key.startswith(_LABEL_PREFIX) else None


@callback
def add_entities_of_microphones(
    entry: ClapSoundConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
    of_microphone: Callable[[ConfigSubentry], Iterable[Entity]],
    of_label: Callable[[ConfigSubentry, WatchedLabel], Entity] | None = None,
) -> None:
    """Add a platform's entities for all microphones and labels that the server has, now and later on."""
    coordinator = entry.runtime_data
    added: dict[str, set[str]] = {}

    @callback
    def add_new() -> None:
        for subentry in entry.get_subentries_of_type(SUBENTRY_MICROPHONE):
            microphone = coordinator.data.microphones.get(microphone_id(subentry))
            if microphone is None:
                continue
            new: list[Entity] = []
            if subentry.subentry_id not in added:
                added[subentry.subentry_id] = set()
                new.extend(of_microphone(subentry))
            labels = added[subentry.subentry_id]
            if of_label is not None:
                new.extend(of_label(subentry, label) for label in microphone.labels if label.id not in labels)
            added[subentry.subentry_id] = {label.id for label in microphone.labels}
            if new:
                async_add_entities(new, config_subentry_id=subentry.subentry_id)

    add_new()
    entry.async_on_unload(coordinator.async_add_listener(add_new))


@callback
def remove_stale_entities(hass: HomeAssistant, entry: ClapSoundConfigEntry) -> None:
    """Remove the entities of labels that are no longer watched; of a refused microphone all stay."""
    registry = er.async_get(hass)
    for subentry in entry.get_subentries_of_type(SUBENTRY_MICROPHONE):
        microphone = entry.runtime_data.data.microphones.get(microphone_id(subentry))
        if microphone is None:
            continue
        keys = {*MICROPHONE_KEYS, *(label_key(label.id) for label in microphone.labels)}
        expected = {f"{subentry.subentry_id}_{key}" for key in keys}
        for entity in er.async_entries_for_config_entry(registry, entry.entry_id):
            if entity.config_subentry_id == subentry.subentry_id and entity.unique_id not in expected:
                registry.async_remove(entity.entity_id)


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
        """The microphone as the server has it; None if it has not."""
        return self.coordinator.data.microphones.get(self._microphone_id)

    @property
    def is_muted(self) -> bool:
        """Whether the microphone is muted: then nothing is known of its sound."""
        return self.microphone is not None and self.microphone.muted

    @property
    def labels(self) -> Mapping[str, WatchedLabel]:
        """What the microphone listens for, by id."""
        return {label.id: label for label in self.microphone.labels} if self.microphone else {}

    @property
    @override
    def available(self) -> bool:
        """Whether the server is there and has the microphone."""
        return super().available and self.microphone is not None


class LabelEntity(ClapSoundEntity):
    """An entity of one label of a microphone, named by the label."""

    def __init__(self, entry: ClapSoundConfigEntry, subentry: ConfigSubentry, label: WatchedLabel) -> None:
        super().__init__(entry, subentry, label_key(label.id))
        self._key = (self._microphone_id, label.id)
        self._label_name = label.name
        if label.id in TRANSLATED_LABELS:
            self._attr_translation_key = label.id
        else:
            self._attr_translation_key = None
            self._attr_name = label.name
            self._attr_icon = label.icon

    @property
    @override
    def extra_state_attributes(self) -> Mapping[str, Any]:
        label = self.labels.get(self._key[1])
        heard = self.coordinator.data.latest.get(self._key)
        event = heard.event if heard else None
        return {
            "label": self._label_name,
            "threshold": label.threshold if label else None,
            "false_alarms_per_day": label.false_alarms_per_day if label else None,
            "found_in_tests": label.found_share if label else None,
            "score": round(event.peak_score, 3) if event else None,
            "pattern": event.pattern if event else None,
            "event_id": event.id if event else None,
            "clip_withheld": event.clip_withheld if event else None,
            "started_at": event.started_at.isoformat() if event else None,
            "detected_at": event.detected_at.isoformat() if event else None,
            "late": heard.late if heard else None,
            "replaced_by": event.replaced_by if event else None,
            **sameness_attributes(self.coordinator.config_entry, event),
        }
