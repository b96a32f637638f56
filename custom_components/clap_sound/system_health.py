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
    from .data import ClapSoundData

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
    listening = [microphone for microphone in microphones if _listens(microphone)]
    return {
        "servers": f"{sum(entry.runtime_data.is_connected for entry in entries)}/{len(configured)}",
        "can_reach_server": _can_reach(entries, all_loaded=len(entries) == len(configured)),
        "version": _row(each.info.version for each in data),
        "model": _row(f"{each.info.model.name} ({each.info.model.device})" for each in data),
        "microphones": f"{len(listening)}/{len(microphones)}",
        "windows_per_second": round(sum(_windows_per_second(each) for each in data), 1),
    }


def _row(values: Iterable[str]) -> str:
    return ", ".join(values)


def _listens(microphone: MicrophoneInfo) -> bool:
    return microphone.status.state == "listening"


def _windows_per_second(data: ClapSoundData) -> float:
    """As many as are due; the gate spares those that are quiet."""
    least_hop_s = data.info.model.least_hop_s
    return sum(
        1 / max(microphone.hop_s, least_hop_s) for microphone in filter(_listens, data.microphones.values())
    )


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
