"""The demo microphone in Home Assistant, whatever its user has made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scripts.harness.api import HomeAssistantApi

MICROPHONE_ID = "demo"
LABELS = ("glass_breaking", "alarm", "door_slam", "music")
GLASS_KEY = "label_glass_breaking"
LEVEL_KEY = "level"
STATUS_KEY = "status"
_ALWAYS = {LEVEL_KEY, STATUS_KEY, "problem", "sound_detected", "top_sound"}


@dataclass(frozen=True)
class Registered:
    """One of its entities; the user may have renamed it or turned it off."""

    entity_id: str
    device_id: str
    disabled_by: str | None


async def find_microphone(api: HomeAssistantApi, entry_id: str) -> str | None:
    """Return the id of its subentry, None if it is not there."""
    subentries = await api.command({"type": "config_entries/subentries/list", "entry_id": entry_id})
    found = (item["subentry_id"] for item in subentries if item["unique_id"] == MICROPHONE_ID)
    return next(found, None)


async def entities(api: HomeAssistantApi, subentry_id: str) -> dict[str, Registered]:
    """Return its entities by key, such as ``status`` or ``label_alarm``."""
    return {
        item["unique_id"].removeprefix(f"{subentry_id}_"): Registered(
            item["entity_id"], item["device_id"], item["disabled_by"]
        )
        for item in await api.command({"type": "config/entity_registry/list"})
        if item["config_subentry_id"] == subentry_id
    }


async def all_are_there(api: HomeAssistantApi, found: Mapping[str, Registered]) -> bool:
    """Whether all of its entities are registered, and those that are on have a state."""
    wanted = [await api.state(entity.entity_id) for entity in found.values() if not entity.disabled_by]
    return found.keys() >= _ALWAYS and all(
        state is not None and state["state"] != "unavailable" for state in wanted
    )
