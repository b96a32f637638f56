"""How much of a day is above the gate is known after a day of listening."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server.listening.room.hours import Hours, Listened

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


def after(hours: float, share: float) -> Hours:
    heard = Hours()
    heard.add(hours * 3600, share * hours * 3600, NOON)
    return heard


@pytest.mark.parametrize(
    ("hours", "share", "a_day"),
    [(23.9, 0.9, 4.0), (24.0, 0.5, 12.0), (48.0, 0.25, 6.0), (200.0, 0.001, 1.0), (30.0, 1.0, 24.0)],
)
def test_the_share_of_a_day_is_its_own_after_a_day(hours: float, share: float, a_day: float) -> None:
    heard = after(hours, share)
    assert heard.a_day == pytest.approx(a_day)
    assert heard.known == (hours >= 24)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.floats(0, 86400), st.floats(0, 1)), max_size=60))
def test_only_two_weeks_count_and_a_day_is_a_day(parts: list[tuple[int, float, float]]) -> None:
    heard = Hours()
    for days_ago, heard_s, share in parts:
        heard.add(heard_s, share * heard_s, NOON - timedelta(days=days_ago))
    days = heard.since(NOON)
    assert all(NOON.date() - timedelta(days=14) < day <= NOON.date() for day in days)
    expected_s = sum(heard_s for days_ago, heard_s, _ in parts if days_ago < 14)
    assert heard.heard_hours == pytest.approx(expected_s / 3600)
    assert 0 <= heard.sounding_hours <= heard.heard_hours + 1e-9
    assert 1 <= heard.a_day <= 24 + 1e-9


def test_what_is_known_from_before_is_added() -> None:
    heard = after(1, 0.5)
    heard.include({NOON.date(): Listened(3600, 360), NOON.date() - timedelta(days=1): Listened(7200, 0)})
    assert heard.heard_hours == pytest.approx(4)
    assert heard.sounding_hours == pytest.approx(0.6)
