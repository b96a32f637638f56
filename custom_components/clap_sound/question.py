"""What an assistant asks: rooms, microphones and sounds by their names, and local times."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from homeassistant.helpers import area_registry as ar
from homeassistant.helpers.intent import find_areas
from homeassistant.util import dt as dt_util

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from homeassistant.core import HomeAssistant

    from .exposure import ToldMicrophone

ASKED_BACK = timedelta(days=1)
MAX_NAMES = 40
"""Told to an assistant in one list."""


class QuestionError(Exception):
    """A question cannot be answered; its text says to the assistant why, and what could be asked."""


@dataclass(frozen=True, slots=True)
class Times:
    """From when until when; never in the future."""

    since: datetime
    until: datetime

    @classmethod
    def asked(cls, values: Mapping[str, Any]) -> Self:
        """Read the times; without any, the last day is meant.

        Raises:
            QuestionError: they are none, or the wrong way round.
        """
        now = dt_util.utcnow()
        until = min(_moment(values, "until", ends=True) or now, now)
        since = _moment(values, "since") or until - ASKED_BACK
        if since >= now:
            raise QuestionError(f"'since' is in the future. It is {local(now)} now.")
        if since >= until:
            raise QuestionError("'since' has to be before 'until'.")
        return cls(since, until)


def local(moment: datetime) -> str:
    """Return a time as an assistant is told it."""
    return dt_util.as_local(moment).isoformat(timespec="seconds")


def names(all_names: Iterable[str]) -> str:
    """Return names as a list in words, without repetitions."""
    found = sorted(set(all_names), key=str.casefold)
    more = f" and {len(found) - MAX_NAMES} more" if len(found) > MAX_NAMES else ""
    return ", ".join(found[:MAX_NAMES]) + more


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        values: of the tool's parameters.
        told: all microphones of which the assistant may be told.
        microphones: those that are asked for.
    """

    values: Mapping[str, Any]
    told: Sequence[ToldMicrophone]
    microphones: Sequence[ToldMicrophone]

    @classmethod
    def asked(cls, hass: HomeAssistant, values: Mapping[str, Any], told: Sequence[ToldMicrophone]) -> Self:
        """Find the microphones that are meant.

        Raises:
            QuestionError: there are none.
        """
        return cls(values, told, _meant(hass, told, values))

    @property
    def labels(self) -> list[str]:
        """The sounds that are asked for; empty: all."""
        return [label for label in self.values.get("labels", ()) if label]

    def times(self) -> Times:
        """Return the times that are asked for.

        Raises:
            QuestionError: they cannot be read.
        """
        return Times.asked(self.values)


def _meant(
    hass: HomeAssistant, told: Sequence[ToldMicrophone], values: Mapping[str, Any]
) -> list[ToldMicrophone]:
    if not told:
        raise QuestionError("No microphone is exposed to this assistant.")
    found = list(told)
    if area := values.get("area"):
        area_ids = {entry.id for entry in find_areas(area, ar.async_get(hass))}
        found = [microphone for microphone in found if microphone.area_id in area_ids]
        if not found:
            there = names(microphone.area for microphone in told if microphone.area)
            raise QuestionError(
                f"No microphone that you may ask is in '{area}'. There are some in: {there or 'no area'}."
            )
    if name := values.get("microphone"):
        named = [each for each in found if is_meant(name, [each.name])]
        exact = [each for each in named if each.name.casefold() == name.casefold()]
        if not named:
            there = names(microphone.name for microphone in found)
            raise QuestionError(f"There is no microphone '{name}' that you may ask. There are: {there}.")
        found = exact or named
    return found


def is_meant(asked: str, known: Iterable[str]) -> bool:
    """Whether a text is one of several names, or whole words of one; Chinese has no spaces between words."""
    word = _spelling(asked)
    edge = r"\b" if word.isascii() else ""
    return any(re.search(f"{edge}{re.escape(word)}{edge}", _spelling(name)) for name in known)


def _moment(values: Mapping[str, Any], key: str, *, ends: bool = False) -> datetime | None:
    if not (text := values.get(key)):
        return None
    if (day := dt_util.parse_date(text)) is not None:
        # A day that is the end is meant with all its hours.
        return dt_util.start_of_local_day(day + timedelta(days=1) if ends else day)
    if (moment := dt_util.parse_datetime(text)) is None:
        raise QuestionError(f"'{key}' is no time. Write it like {local(dt_util.utcnow())}.")
    return moment if moment.tzinfo else moment.replace(tzinfo=dt_util.get_default_time_zone())


def _spelling(text: str) -> str:
    return " ".join(text.casefold().replace("_", " ").split())
