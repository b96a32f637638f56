"""Diagnostics, without secrets."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from homeassistant.components.diagnostics import REDACTED, async_redact_data
from homeassistant.const import CONF_HOST, CONF_TOKEN, CONF_URL

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant

    from .coordinator import ClapSoundConfigEntry

# The title and the server's address tell where it lives; addresses of streams may hold passwords anywhere.
TO_REDACT = {CONF_HOST, CONF_TOKEN, CONF_URL, "title"}
_ADDRESS = re.compile(r"(\w[\w+.-]*://)\S+")


def _without_addresses(value: Any) -> Any:
    """Leave of every address, wherever it stands, only how it begins."""
    match value:
        case str():
            return _ADDRESS.sub(rf"\1{REDACTED}", value)
        case Mapping():
            return {key: _without_addresses(item) for key, item in value.items()}
        case list() | tuple():
            return [_without_addresses(item) for item in value]
        case _:
            return value


async def async_get_config_entry_diagnostics(
    hass: HomeAssistant,
    entry: ClapSoundConfigEntry,
) -> dict[str, Any]:
    coordinator = entry.runtime_data
    data = coordinator.data
    received = coordinator.teller.received
    diagnostics = {
        "entry": dict(entry.data),
        "subentries": [
            {"subentry_id": subentry.subentry_id, "name": subentry.title, "data": dict(subentry.data)}
            for subentry in entry.subentries.values()
        ],
        "connected": coordinator.is_connected,
        "bad_messages": coordinator.client.bad_messages,
        "received": asdict(received) if received else None,
        "last_exception": repr(coordinator.last_exception) if coordinator.last_exception else None,
        "server": asdict(data.info),
        "microphones": [asdict(microphone) for microphone in data.microphones.values()],
        "active": sorted(data.active),
        "latest": [asdict(heard) for heard in data.latest.values()],
    }
    redacted: dict[str, Any] = _without_addresses(async_redact_data(diagnostics, TO_REDACT))
    return redacted
