"""What Home Assistant's system page says of the servers; it is pasted into reports, so it names none."""

from typing import TYPE_CHECKING, Any

from homeassistant.core import HomeAssistant, callback

from .client import ClapSoundAuthenticationError, ClapSoundConnectionError, ClapSoundError
from .const import DOMAIN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from homeassistant.components.system_health import SystemHealthRegistration

    from .client.models import MicrophoneInfo
    from .coordinator import ClapSoundConfigEntry

_PAGE = f"/config/integrations/integration/{DOMAIN}"


@callback
def async_register(hass: HomeAssistant, register: SystemHealthRegistration) -> None:
    """Say what is told, and where to mend it."""
    register.async_register_info(_info, _PAGE)


async def _info(hass: HomeAssistant) -> dict[str, Any]:
    """Tell of all servers; of several, the values stand in one row."""
    configured = hass.config_entries.async_entries(DOMAIN, include_disabled=False)
    entries: list[ClapSoundConfigEntry] = hass.config_entries.async_loaded_entries(DOMAIN)
    data = [entry.runtime_data.data for entry in entries]
    microphones = [microphone for each in data for microphone in each.microphones.values()]
    listening = [microphone for microphone in microphones if microphone.status.state == "listening"]
    return {
        "servers": f"{sum(entry.runtime_data.is_connected for entry in entries)}/{len(configured)}",
        "can_reach_server": _can_reach(entries, all_loaded=len(entries) == len(configured)),
        "version": _row(each.info.version for each in data),
        "model": _row(f"{each.info.model.name} ({each.info.model.device})" for each in data),
        "microphones": f"{len(listening)}/{len(microphones)}",
        "windows_per_second": round(_windows_per_second(listening), 1),
    }


def _row(values: Iterable[str]) -> str:
    return ", ".join(values)


def _windows_per_second(listening: Iterable[MicrophoneInfo]) -> float:
    """As many as are due; the gate spares those that are quiet."""
    return sum(1 / microphone.hop_s for microphone in listening)


async def _can_reach(entries: Iterable[ClapSoundConfigEntry], *, all_loaded: bool) -> str | dict[str, str]:
    if not all_loaded:
        return _failed("not set up")
    for entry in entries:
        try:
            await entry.runtime_data.client.info()
        except ClapSoundAuthenticationError:
            return _failed("the token is not accepted")
        except ClapSoundConnectionError:
            return _failed("unreachable")
        except ClapSoundError:
            return _failed("it does not answer as it should")
    return "ok"


def _failed(error: str) -> dict[str, str]:
    return {"type": "failed", "error": error}
