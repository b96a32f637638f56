"""Diagnostics, without secrets."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from homeassistant.components.diagnostics import async_redact_data
from homeassistant.const import CONF_HOST, CONF_TOKEN, CONF_URL

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant

    from .coordinator import ClapSoundConfigEntry

# Addresses of streams hold passwords; those of the server and the title tell where it lives.
TO_REDACT = {CONF_HOST, CONF_TOKEN, CONF_URL}


async def async_get_config_entry_diagnostics(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant's signature
    entry: ClapSoundConfigEntry,
) -> dict[str, Any]:
    """Return the state of a server and its microphones."""
    coordinator = entry.runtime_data
    data = coordinator.data
    return async_redact_data(
        {
            "entry": dict(entry.data),
            "subentries": [
                {"subentry_id": subentry.subentry_id, "name": subentry.title, "data": dict(subentry.data)}
                for subentry in entry.subentries.values()
            ],
            "connected": coordinator.listener.connected,
            "last_sequence": coordinator.listener.last_sequence,
            "last_exception": repr(coordinator.last_exception) if coordinator.last_exception else None,
            "server": asdict(data.info),
            "microphones": [asdict(microphone) for microphone in data.microphones.values()],
            "active": sorted(data.active),
            "latest": [asdict(event) for event in data.latest.values()],
        },
        TO_REDACT,
    )
