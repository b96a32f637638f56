"""What the servers of microphones heard between two times, as far as an assistant may be told of it."""

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .client import ClapSoundError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from .client.models import EventInfo, ListedEvents
    from .exposure import ToldMicrophone
    from .question import Times

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HeardSound:
    """An event, and the microphone that heard it."""

    microphone: ToldMicrophone
    event: EventInfo


@dataclass(frozen=True, slots=True)
class HeardSounds:
    """What was heard, the newest first.

    Attributes:
        complete_since: there was too much to look further back than this.
        away: microphones whose servers do not answer.
    """

    sounds: tuple[HeardSound, ...]
    complete_since: datetime
    away: tuple[ToldMicrophone, ...]


async def ask_servers(microphones: Sequence[ToldMicrophone], times: Times) -> HeardSounds:
    """Ask every server at once."""
    servers: dict[str, list[ToldMicrophone]] = {}
    for microphone in microphones:
        servers.setdefault(microphone.entry.entry_id, []).append(microphone)
    lists = await asyncio.gather(*(_list(those, times) for those in servers.values()))
    complete_since = max((listed.complete_since for listed in lists if listed), default=times.since)
    sounds = [
        HeardSound(microphone, event)
        for listed, those in zip(lists, servers.values(), strict=True)
        for event in (listed.events if listed else ())
        for microphone in those
        if event.microphone_id == microphone.id
        and microphone.tells_of(event.label_id)
        and not event.was_over_before(complete_since)
    ]
    sounds.sort(key=lambda sound: sound.event.started_at, reverse=True)
    away = (
        microphone
        for listed, those in zip(lists, servers.values(), strict=True)
        if listed is None
        for microphone in those
    )
    return HeardSounds(tuple(sounds), complete_since, tuple(away))


async def _list(microphones: Sequence[ToldMicrophone], times: Times) -> ListedEvents | None:
    """List the events of one server; None if it does not answer."""
    if (coordinator := microphones[0].coordinator) is None:
        return None
    only = microphones[0].id if len(microphones) == 1 else None
    try:
        return await coordinator.client.list_events(times.since, times.until, microphone=only)
    except ClapSoundError as error:
        _LOGGER.debug("Could not ask %s what was heard: %s", coordinator.name, error)
        return None
