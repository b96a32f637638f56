"""Of which microphones an assistant may be told: those whose entities the user exposed to it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from homeassistant.components.homeassistant.exposed_entities import async_should_expose
from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import area_registry as ar
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er

from .const import DOMAIN, KEY_SOUND_DETECTED, SUBENTRY_MICROPHONE
from .desired import microphone_id
from .entity import label_of_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from homeassistant.config_entries import ConfigSubentry

    from .client.models import MicrophoneInfo, MicrophoneStatus
    from .coordinator import ClapSoundConfigEntry, ClapSoundCoordinator


@dataclass(frozen=True, slots=True)
class ToldMicrophone:
    """A microphone of which an assistant may be told.

    Attributes:
        entry: its server.
        id: on the server.
        area_id: of the room that it is in.
        every_sound: its event entity is exposed, which tells of all its sounds.
        label_ids: of the sounds whose own sensors are exposed.
    """

    entry: ClapSoundConfigEntry = field(repr=False)
    id: str
    name: str
    area_id: str | None
    area: str | None
    every_sound: bool
    label_ids: frozenset[str]

    def tells_of(self, label_id: str) -> bool:
        return self.every_sound or label_id in self.label_ids

    @property
    def coordinator(self) -> ClapSoundCoordinator | None:
        """Of its server; None if that was never reached since the start."""
        return self.entry.runtime_data if self.entry.state is ConfigEntryState.LOADED else None

    @property
    def status(self) -> MicrophoneStatus | None:
        """What it does now; None without a connection, or if the server refuses it."""
        known = self._known
        connected = self.coordinator is not None and self.coordinator.last_update_success
        return known.status if known and connected else None

    @property
    def sounds(self) -> dict[str, str]:
        """The server's names of the sounds that it listens for and that may be told of, by label id."""
        labels = self._known.labels if self._known else ()
        return {label.id: label.name for label in labels if self.tells_of(label.id)}

    @property
    def going_on(self) -> frozenset[str]:
        """Ids of the labels that sound now and may be told of."""
        active = self.coordinator.data.active if self.coordinator else frozenset()
        return frozenset(
            label for identifier, label in active if identifier == self.id and self.tells_of(label)
        )

    @property
    def _known(self) -> MicrophoneInfo | None:
        return self.coordinator.data.microphones.get(self.id) if self.coordinator else None


def sounds_of(microphones: Iterable[ToldMicrophone]) -> dict[str, str]:
    """Return the names of all sounds that they listen for and that may be told of, by label id."""
    return {label_id: name for microphone in microphones for label_id, name in microphone.sounds.items()}


@callback
def told_microphones(hass: HomeAssistant, assistant: str) -> list[ToldMicrophone]:
    """Return the microphones of which an assistant may be told, also those of servers that are away.

    The switch that mutes does not count: Home Assistant exposes every switch by itself.
    """
    return [
        told
        for entry in hass.config_entries.async_entries(DOMAIN, include_ignore=False, include_disabled=False)
        for subentry in entry.get_subentries_of_type(SUBENTRY_MICROPHONE)
        if (told := _told(hass, assistant, entry, subentry)) is not None
    ]


def _told(
    hass: HomeAssistant, assistant: str, entry: ClapSoundConfigEntry, subentry: ConfigSubentry
) -> ToldMicrophone | None:
    exposed = [
        entity
        for entity in _sound_entities(hass, entry, subentry)
        if async_should_expose(hass, assistant, entity.entity_id)
    ]
    if not exposed:
        return None
    device = dr.async_get(hass).async_get_device_by_identifier((DOMAIN, subentry.subentry_id), entry.entry_id)
    area_id = next((entity.area_id for entity in exposed if entity.area_id), None)
    if area_id is None and device is not None:
        area_id = dr.async_get_effective_area_id(hass, device)
    area = ar.async_get(hass).async_get_area(area_id) if area_id else None
    keys = {_key(entity, subentry) for entity in exposed}
    return ToldMicrophone(
        entry=entry,
        id=microphone_id(subentry),
        name=(device and device.name_by_user) or subentry.title,
        area_id=area.id if area else None,
        area=area.name if area else None,
        every_sound=KEY_SOUND_DETECTED in keys,
        label_ids=frozenset(label for key in keys if (label := label_of_key(key)) is not None),
    )


def _sound_entities(
    hass: HomeAssistant, entry: ClapSoundConfigEntry, subentry: ConfigSubentry
) -> Iterator[er.RegistryEntry]:
    """Yield the entities that tell what a microphone heard."""
    for entity in er.async_entries_for_config_entry(er.async_get(hass), entry.entry_id):
        if entity.config_subentry_id != subentry.subentry_id or entity.disabled:
            continue
        key = _key(entity, subentry)
        if (entity.domain == Platform.EVENT and key == KEY_SOUND_DETECTED) or (
            entity.domain == Platform.BINARY_SENSOR and label_of_key(key) is not None
        ):
            yield entity


def _key(entity: er.RegistryEntry, subentry: ConfigSubentry) -> str:
    return entity.unique_id.removeprefix(f"{subentry.subentry_id}_")
