"""Home Assistant's configuration folder, written before it starts."""

from __future__ import annotations

import json
import zoneinfo
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]

CONFIGURATION = """\
homeassistant:
  name: Home
  latitude: 52.52
  longitude: 13.405
  elevation: 34
  unit_system: metric
  time_zone: {time_zone}
  country: DE
  currency: EUR
  internal_url: http://{host}:{port}
frontend:
config:
api:
history:
logbook:
media_source:
automation: !include automations.yaml
logger:
  default: warning
  logs:
    custom_components.clap_sound: info
    # Text to speech, which nothing here uses, looks for the program ffmpeg.
    haffmpeg.core: fatal
    haffmpeg.tools: fatal
    # Cameras, which nothing here has, look for libturbojpeg.
    homeassistant.components.camera.img_util: fatal
"""


def write_configuration(folder: Path, host: str, port: int, automations: list[dict[str, Any]]) -> None:
    """Write the folder; what a former run stored there is kept.

    Args:
        folder: is made where it is not there.
        host: address to listen on.
        port: to listen on.
        automations: as in ``automations.yaml``.
    """
    (folder / ".storage").mkdir(parents=True, exist_ok=True)
    (folder / "configuration.yaml").write_text(
        CONFIGURATION.format(host=host, port=port, time_zone=time_zone())
    )
    # JSON is YAML.
    (folder / "automations.yaml").write_text(json.dumps(automations, indent=2))
    link = folder / "custom_components"
    if not link.exists():
        link.symlink_to(REPOSITORY / "custom_components", target_is_directory=True)
    # An `http:` section in YAML would be taken over as a trial that reverts after five minutes
    # (home-assistant/core, components/http/config.py), so the stored form is written directly.
    stable = {
        "server_host": [host],
        "server_port": port,
        "cors_allowed_origins": ["https://cast.home-assistant.io"],
        "login_attempts_threshold": -1,
        "ip_ban_enabled": True,
        "ssl_profile": "modern",
        "use_x_frame_options": True,
        "created_at": "2026-01-01T00:00:00+00:00",
        "error": None,
        "error_message": None,
    }
    _store(folder, "http", 2, 2, {"stable": stable, "pending": None, "yaml_migration_done": True})
    onboarding = folder / ".storage" / "onboarding"
    if not onboarding.exists():
        _store(folder, "onboarding", 4, 1, {"done": ["core_config", "analytics", "integration"]})


def time_zone() -> str:
    """Return the name of this computer's time zone, so that Home Assistant shows its user's own time."""
    name = str(Path("/etc/localtime").resolve()).partition("/zoneinfo/")[2]
    return name if name in zoneinfo.available_timezones() else "UTC"


def _store(folder: Path, key: str, version: int, minor_version: int, data: dict[str, Any]) -> None:
    document = {"version": version, "minor_version": minor_version, "key": key, "data": data}
    (folder / ".storage" / key).write_text(json.dumps(document))
