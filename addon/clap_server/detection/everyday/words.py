"""Rates of false alarms in words, in the units that people count them by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clap_server.detection.everyday.rate import rate_of_score

if TYPE_CHECKING:
    from clap_server.detection.everyday.counted import Count

_A_DAY = {"an hour": 24.0, "a day": 1.0, "a week": 1 / 7, "a month": 1 / 30, "a year": 1 / 365}
_MOST_AN_HOUR = 60.0
# From so much of a unit on, a rate is told by it: a little under one still is about one.
_LEAST = 0.75
_OVER_ONE = 1.5


def rate_words(per_day: float, thing: str = "") -> str:
    """Tell a rate: *about 4 a day*, *about one a month*.

    Args:
        per_day: how many.
        thing: what is counted, in the singular, if it is to be named.
    """
    if per_day > _MOST_AN_HOUR * _A_DAY["an hour"]:
        return f"more than one{_named(thing)} a minute"
    for unit, rate in _A_DAY.items():
        count = per_day / rate
        if count >= _OVER_ONE:
            return f"about {count:.0f}{_named(thing, 's')} {unit}"
        if count >= _LEAST:
            return f"about one{_named(thing)} {unit}"
    return f"less than one{_named(thing)} a year"


def promise_words(threshold: float) -> str:
    """What a threshold promises by definition: *about one false alarm a day*."""
    return rate_words(rate_of_score(threshold), "false alarm")


def count_words(threshold: float, count: Count, hours: float) -> str:
    """What a threshold would have let through in a room.

    Args:
        threshold: 0 to 1.
        count: what was counted.
        hours: of sound above the gate that it was counted in.
    """
    times = {0: "never", 1: "once"}.get(count.events, f"{count.events} times")
    sure = f"from {rate_words(count.low)} to {rate_words(count.high)}"
    return (
        f"in {hours:.1f} hours of this room's own sound {threshold:.2f} was reached {times}:"
        f" {rate_words(count.per_day)} (95 % sure: {sure})"
    )


def _named(thing: str, plural: str = "") -> str:
    return f" {thing}{plural}" if thing else ""
