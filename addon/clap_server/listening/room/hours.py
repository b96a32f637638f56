"""How long a microphone listened in the last two weeks, and how much of that was above the gate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from clap_server.detection.everyday.rate import SOUNDING_HOURS_A_DAY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

DAYS = 14
LEAST_HEARD_HOURS = 24.0
"""A whole day must have been heard before it says how much of a day is above the gate."""

LEAST_SOUNDING_HOURS = 1.0
"""Of a day: a home that is empty for a week will not stay so, and a score must not promise that it does."""

_HOUR_S = 3600.0


@dataclass(slots=True)
class Listened:
    """Seconds of one day.

    Attributes:
        heard_s: all that was judged, above the gate or below; not digital silence, nor what was lost.
        sounding_s: everyday sound above the gate, so without events.
    """

    heard_s: float = 0.0
    sounding_s: float = 0.0


class Hours:
    """Adds up the days."""

    def __init__(self) -> None:
        self._days: dict[date, Listened] = {}

    def include(self, days: Mapping[date, Listened]) -> None:
        """Add what is known from before."""
        for day, listened in days.items():
            self.add(listened.heard_s, listened.sounding_s, datetime.combine(day, time(), UTC))

    def add(self, heard_s: float, sounding_s: float, at: datetime) -> None:
        """Add what was heard at a time."""
        day = self._days.setdefault(at.astimezone(UTC).date(), Listened())
        day.heard_s += heard_s
        day.sounding_s += sounding_s

    def since(self, at: datetime) -> dict[date, Listened]:
        """The days of the last two weeks; older ones are forgotten."""
        first = at.astimezone(UTC).date() - timedelta(days=DAYS)
        self._days = {day: listened for day, listened in self._days.items() if day > first}
        return self._days

    @property
    def heard_hours(self) -> float:
        """In all."""
        return sum(day.heard_s for day in self._days.values()) / _HOUR_S

    @property
    def sounding_hours(self) -> float:
        """Above the gate, in all."""
        return sum(day.sounding_s for day in self._days.values()) / _HOUR_S

    @property
    def known(self) -> bool:
        """Whether ``a_day`` was counted here."""
        return self.heard_hours >= LEAST_HEARD_HOURS

    @property
    def a_day(self) -> float:
        """Sounding hours of a day: counted, or as in other homes until that is known."""
        if not self.known:
            return SOUNDING_HOURS_A_DAY
        return max(LEAST_SOUNDING_HOURS, 24.0 * self.sounding_hours / self.heard_hours)
