"""Telling Home Assistant of each sound event that starts: once, in order, with its real time."""

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from homeassistant.components.event.const import DOMAIN as EVENT_DOMAIN
from homeassistant.const import ATTR_DEVICE_ID, ATTR_ENTITY_ID, ATTR_NAME, EVENT_LOGBOOK_ENTRY
from homeassistant.core import CoreState, HomeAssistant, callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.dispatcher import async_dispatcher_send
from homeassistant.helpers.event import async_call_later
from homeassistant.helpers.start import async_at_started
from homeassistant.helpers.storage import Store
from homeassistant.util import dt as dt_util

from .clip import clip_path
from .const import DOMAIN, EVENT_SOUND, KEY_SOUND_DETECTED, NEWS_AGE, SUBENTRY_MICROPHONE
from .desired import microphone_id
from .sameness import sameness_attributes
from .signals import event_signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from homeassistant.config_entries import ConfigEntry

    from .client.messages import EventMessage
    from .client.models import EventInfo
    from .data import Heard

SAVE_DELAY_S = 1
STORE_VERSION = 1
AUTOMATIONS_START_S = 2
"""Automations attach their triggers when Home Assistant has started, and take a moment."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the server's row of event changes; with another epoch, numbers began anew.

    ``event_id``: of the event that the change belongs to, by which the server sees whether it has given that
    number again.
    """

    epoch: str | None
    sequence: int
    event_id: str | None = None

    def is_same_as(self, other: Position | None) -> bool:
        return other is not None and (self.epoch, self.sequence) == (other.epoch, other.sequence)


def is_old(event: EventInfo) -> bool:
    """Whether an event is no news any more."""
    return dt_util.utcnow() - event.detected_at > NEWS_AGE


def store(hass: HomeAssistant, entry_id: str) -> Store[dict[str, Any]]:
    """Return where it is kept how far an entry has been told."""
    return Store(hass, STORE_VERSION, f"{DOMAIN}.{entry_id}")


def event_attributes(entry: ConfigEntry, heard: Heard) -> dict[str, Any]:
    """Return what is told of an event, on the bus and by its entity."""
    event = heard.event
    return {
        "event_type": event.label_id,
        "label": event.label_name,
        "score": round(event.score, 3),
        "pattern": event.pattern,
        "peak_level_dbfs": round(event.peak_level_dbfs, 1),
        "event_id": event.id,
        "started_at": event.started_at.isoformat(),
        "detected_at": event.detected_at.isoformat(),
        "late": heard.late,
        "clip": clip_path(entry.entry_id, event.id),
        **sameness_attributes(entry, event),
    }


def logbook_entry(microphone: str, event: EventInfo, entity_id: str | None) -> dict[str, str | None]:
    """Return the line of a late event, of which its entity, that does not change, makes none."""
    started_at = f"{dt_util.as_local(event.started_at):%Y-%m-%d %H:%M:%S}"
    pattern = "" if event.pattern is None else f", pattern {event.pattern}"
    return {
        ATTR_NAME: microphone,
        "message": f"heard {event.label_name} at {started_at}, score {event.score:.2f}{pattern}; told late",
        "domain": DOMAIN,
        ATTR_ENTITY_ID: entity_id,
    }


@callback
def async_when_automations_listen(hass: HomeAssistant, start: Callable[[], None]) -> Callable[[], None]:
    """Call ``start`` now, or after the start of Home Assistant; the returned function ends the waiting."""
    if hass.state is CoreState.running:
        start()
        return lambda: None
    cancel_delay: Callable[[], None] | None = None

    @callback
    def started(_: HomeAssistant) -> None:
        nonlocal cancel_delay
        cancel_delay = async_call_later(hass, AUTOMATIONS_START_S, delayed)

    @callback
    def delayed(_: datetime) -> None:
        nonlocal cancel_delay
        cancel_delay = None
        start()

    @callback
    def cancel() -> None:
        cancel_start()
        if cancel_delay is not None:
            cancel_delay()

    cancel_start = async_at_started(hass, started)
    return cancel


class EventTeller:
    """Fires a bus event for each sound event of an entry's microphones, and passes news on to its entity.

    What comes before ``start`` waits: automations only listen when Home Assistant has started.
    """

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry) -> None:
        self._hass = hass
        self._entry = entry
        self._store = store(hass, entry.entry_id)
        self._untold: deque[tuple[Position, Heard | None]] = deque()
        self._telling = False
        self._told: Position | None = None
        self.received: Position | None = None

    async def load(self) -> None:
        """Begin where the last run got to."""
        if (saved := await self._store.async_load()) and saved["last_sequence"] is not None:
            self._told = self.received = Position(
                saved.get("epoch"), saved["last_sequence"], saved.get("event_id")
            )

    async def save(self) -> None:
        await self._store.async_save(self._to_save())

    @callback
    def start(self) -> None:
        """Tell from now on, beginning with what waits."""
        self._telling = True
        self._untold = deque(
            (position, heard and replace(heard, late=heard.late or is_old(heard.event)))
            for position, heard in self._untold
        )
        self._tell()

    @callback
    def stop(self) -> None:
        """Keep back what comes from now; the next run asks for it again."""
        self._telling = False

    def new(self, epoch: str, messages: Iterable[EventMessage]) -> list[EventMessage]:
        """Return the changes that were not received before."""
        if self.received is None or self.received.epoch not in (None, epoch):
            return list(messages)
        return [message for message in messages if message.sequence > self.received.sequence]

    @callback
    def take(self, position: Position, heard: Heard | None = None) -> None:
        """Tell of an event that started; None if there is nothing to tell up to the position."""
        if position.event_id is None and self.received is not None and position.is_same_as(self.received):
            position = self.received
        self.received = position
        self._untold.append((position, heard))
        self._tell()

    def _tell(self) -> None:
        before = self._told
        # Automations end when Home Assistant stops; the next run tells them the rest.
        while self._telling and self._untold and not self._hass.is_stopping:
            self._told, heard = self._untold.popleft()
            if heard is not None:
                self._fire(heard)
        if self._told != before:
            self._store.async_delay_save(self._to_save, SAVE_DELAY_S)

    def _fire(self, heard: Heard) -> None:
        microphone = heard.event.microphone_id
        for subentry in self._entry.get_subentries_of_type(SUBENTRY_MICROPHONE):
            if microphone_id(subentry) == microphone:
                break
        else:
            return
        if not heard.late:
            async_dispatcher_send(self._hass, event_signal(self._entry.entry_id, microphone), heard)
        device = dr.async_get(self._hass).async_get_device_by_identifier(
            (DOMAIN, subentry.subentry_id), self._entry.entry_id
        )
        entity_id = er.async_get(self._hass).async_get_entity_id(
            EVENT_DOMAIN, DOMAIN, f"{subentry.subentry_id}_{KEY_SOUND_DETECTED}"
        )
        self._hass.bus.async_fire(
            EVENT_SOUND,
            {
                ATTR_ENTITY_ID: entity_id,
                ATTR_DEVICE_ID: device.id if device else None,
                "microphone": subentry.title,
                **event_attributes(self._entry, heard),
            },
        )
        if heard.late:
            entry = logbook_entry(subentry.title, heard.event, entity_id)
            self._hass.bus.async_fire(EVENT_LOGBOOK_ENTRY, entry)

    def _to_save(self) -> dict[str, Any]:
        told = self._told
        return {
            "epoch": told.epoch if told else None,
            "last_sequence": told.sequence if told else None,
            "event_id": told.event_id if told else None,
        }
