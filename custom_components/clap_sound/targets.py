"""The microphones that an action's target means."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from homeassistant.core import HomeAssistant, ServiceCall, callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.service import async_get_config_entry
from homeassistant.helpers.target import TargetSelection, async_extract_referenced_entity_ids

from .const import DOMAIN, SUBENTRY_MICROPHONE
from .desired import microphone_id
from .errors import invalid

if TYPE_CHECKING:
    from homeassistant.config_entries import ConfigSubentry

    from .coordinator import ClapSoundConfigEntry


@dataclass(frozen=True, slots=True)
class TargetedMicrophone:
    """A microphone of a server that is set up."""

    entry: ClapSoundConfigEntry
    subentry: ConfigSubentry

    @property
    def id(self) -> str:
        """Its id on the server."""
        return microphone_id(self.subentry)


@callback
def loaded_entries(hass: HomeAssistant) -> list[ClapSoundConfigEntry]:
    """Return the servers that are set up.

    Raises:
        ServiceValidationError: there is none.
    """
    entries: list[ClapSoundConfigEntry] = hass.config_entries.async_loaded_entries(DOMAIN)
    if not entries:
        raise invalid("no_server")
    return entries


@callback
def targeted_microphones(hass: HomeAssistant, call: ServiceCall) -> list[TargetedMicrophone] | None:
    """Return what the target of an action means, by name; None if it has none.

    A server's device means all its microphones.

    Raises:
        ServiceValidationError: it means no microphone, or one of a server that is not set up.
    """
    selection = TargetSelection(call.data)
    if not selection.has_any_target:
        return None
    selected = async_extract_referenced_entity_ids(hass, selection, primary_entities_only=False)
    entities = er.async_get(hass)
    device_ids = set(selected.referenced_devices)
    for entity_id in selected.referenced | selected.indirectly_referenced:
        if (entity := entities.async_get(entity_id)) and entity.device_id and entity.platform == DOMAIN:
            device_ids.add(entity.device_id)
    devices = dr.async_get(hass)
    identifiers = {
        identifier
        for device_id in device_ids
        if (device := devices.async_get(device_id)) is not None
        for domain, identifier in device.identifiers
        if domain == DOMAIN
    }
    found = [
        (entry, subentry)
        for entry in hass.config_entries.async_entries(DOMAIN)
        for subentry in entry.get_subentries_of_type(SUBENTRY_MICROPHONE)
        if identifiers & {entry.entry_id, subentry.subentry_id}
    ]
    if not found:
        raise invalid("no_microphone")
    return [
        TargetedMicrophone(async_get_config_entry(hass, DOMAIN, entry.entry_id), subentry)
        for entry, subentry in sorted(found, key=lambda item: item[1].title)
    ]
