"""When each microphone listened, so that nothing heard is told apart from nobody listening."""

from collections import deque
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from homeassistant.core import callback
from homeassistant.helpers.storage import Store
from homeassistant.util import dt as dt_util

from .const import DOMAIN, IMPAIRED_CODES, STATE_LISTENING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from homeassistant.core import HomeAssistant

    from .client.models import MicrophoneInfo, MicrophoneStatus

MAX_SPANS = 500
"""Of each microphone; of a source that breaks off every minute they last four hours."""
SAVE_DELAY_S = 60
STORE_VERSION = 1

_DEAF_CODES = IMPAIRED_CODES | {"too_slow"}
"""Reasons for which an alarm may be missed, be the microphone at fault or the computer."""


def listening_store(hass: HomeAssistant, entry_id: str) -> Store[dict[str, Any]]:
    """Return where an entry's log is kept over a restart."""
    return Store(hass, STORE_VERSION, f"{DOMAIN}.{entry_id}.listened")


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which a microphone had one state; ``code`` is the reason, for programs."""

    begin: datetime
    end: datetime
    state: str
    code: str

    @classmethod
    def of_status(cls, status: MicrophoneStatus, end: datetime) -> Self:
        return cls(status.since, end, status.state, status.code)

    @property
    def hears(self) -> bool:
        """Whether sound was judged, and well enough for an alarm to be found."""
        return self.state == STATE_LISTENING and self.code not in _DEAF_CODES

    def within(self, since: datetime, until: datetime) -> Self:
        return replace(self, begin=max(self.begin, since), end=min(self.end, until))


class ListeningLog:
    """Remembers the states of a server's microphones while there is a connection, each since when it says.

    What went on without a connection is only known if the server says afterwards that it began before.
    """

    def __init__(self) -> None:
        self._over: dict[str, deque[Span]] = {}
        self._now: dict[str, MicrophoneStatus] = {}

    @callback
    def note(self, microphones: Mapping[str, MicrophoneInfo]) -> bool:
        """Take in what the microphones do now, by their ids; return whether that is another state of one."""
        changed = False
        for identifier in self._over.keys() - microphones.keys():
            self._over.pop(identifier)
            self._now.pop(identifier, None)
        for identifier, microphone in microphones.items():
            if self._now.get(identifier) != microphone.status:
                self._begin(identifier, microphone.status)
                changed = True
        return changed

    @callback
    def lost(self) -> None:
        """Take in that nothing is known from now on."""
        now = dt_util.utcnow()
        for identifier, status in self._now.items():
            self._over[identifier].append(Span.of_status(status, now))
        self._now.clear()

    @callback
    def to_save(self) -> dict[str, Any]:
        """Return what is known up to now, as JSON."""
        now = dt_util.utcnow()
        return {
            identifier: [
                [span.begin.isoformat(), span.end.isoformat(), span.state, span.code]
                for span in self._known(identifier, now)
            ]
            for identifier in self._over
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Begin with what was saved."""
        for identifier, spans in saved.items():
            self._over[identifier] = deque(
                (
                    Span(datetime.fromisoformat(begin), datetime.fromisoformat(end), state, code)
                    for begin, end, state, code in spans
                ),
                maxlen=MAX_SPANS,
            )

    def spans(self, microphone_id: str, since: datetime, until: datetime) -> list[Span]:
        """Return what is known of a time that is over, oldest first, without overlaps."""
        within = (span.within(since, until) for span in self._known(microphone_id, until))
        return [span for span in within if span.begin < span.end]

    def _known(self, identifier: str, until: datetime) -> list[Span]:
        spans = list(self._over.get(identifier, ()))
        if (status := self._now.get(identifier)) is not None:
            spans.append(Span.of_status(status, until))
        return spans

    def _begin(self, identifier: str, status: MicrophoneStatus) -> None:
        over = self._over.setdefault(identifier, deque(maxlen=MAX_SPANS))
        if (before := self._now.get(identifier)) is not None:
            over.append(Span.of_status(before, status.since))
        # After a break the state may be an older one than the break.
        while over and over[-1].end > status.since:
            last = over.pop()
            if last.begin < status.since:
                over.append(replace(last, end=status.since))
        self._now[identifier] = status
