"""A room's reservoir is bounded, never old, and spread over the hours of the day."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server.listening.room.reservoir import KEPT_S, MOST_WINDOWS, Kept, Reservoir

HOUR_S = 3600.0
DAY_S = 86400.0
SMALL = 60

# When each piece comes, in hours after the one before, and how many windows it has.
PIECES = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 12)), max_size=120)


@settings(deadline=None)
@given(pieces=PIECES)
def test_it_is_never_too_large_nor_too_old(pieces: list[tuple[float, int]]) -> None:
    reservoir = Reservoir(most_windows=SMALL, most_pieces=20)
    stored: dict[int, Kept] = {}
    now = 0.0
    for hours, windows in pieces:
        now += hours * HOUR_S
        for number in reservoir.expire(now):
            del stored[number]
        new, gone = reservoir.offer(now, windows)
        if new is not None:
            stored[new.number] = new
        for number in gone:
            del stored[number]
        assert {piece.number: piece for piece in reservoir.kept} == stored, "what is told is what is kept"
        assert reservoir.windows == sum(piece.windows for piece in stored.values()) <= SMALL
        assert len(stored) <= 20
        assert all(now - KEPT_S <= piece.at <= now for piece in stored.values())


@settings(deadline=None)
@given(pieces=PIECES)
def test_only_the_fullest_hour_of_the_day_gives_way(pieces: list[tuple[float, int]]) -> None:
    reservoir = Reservoir(most_windows=SMALL)
    now = 0.0
    for hours, windows in pieces:
        now += hours * HOUR_S
        reservoir.expire(now)
        before = {piece.number: piece for piece in reservoir.kept}
        new, gone = reservoir.offer(now, windows)
        hour = int(now // HOUR_S) % 24
        lost = Counter[int]()
        for number in gone:
            lost[before[number].hour] += before[number].windows
        if new is None:
            lost[hour] += windows
        left = Counter[int]()
        for piece in reservoir.kept:
            left[piece.hour] += piece.windows
        largest_piece = max((piece.windows for piece in before.values()), default=0)
        for each in lost:
            # It had the most until it gave its last piece.
            assert left[each] + max(largest_piece, windows) >= max(left.values(), default=0)


def test_hours_with_little_sound_keep_all_of_it() -> None:
    reservoir = Reservoir(most_windows=240)
    for day in range(10):
        for minute in range(60):
            reservoir.offer(day * DAY_S + 19 * HOUR_S + minute * 60, 4)
        reservoir.offer(day * DAY_S + 3 * HOUR_S, 4)
    by_hour = Counter(piece.hour for piece in reservoir.kept)
    assert by_hour == {3: 10, 19: 50}


def test_each_day_has_the_same_chance() -> None:
    random.seed(20261127)
    days = Counter[int]()
    for _ in range(150):
        reservoir = Reservoir(most_windows=20)
        for number in range(200):
            reservoir.offer(number // 20 * DAY_S, 1)
        days.update(int(piece.at // DAY_S) for piece in reservoir.kept)
    # 300 each are expected, with a standard deviation of 15 or so.
    assert set(days) == set(range(10))
    assert all(220 < count < 380 for count in days.values())


def test_it_goes_on_where_it_was() -> None:
    first = Reservoir()
    for number in range(5):
        first.offer(number * HOUR_S, 3)
    again = Reservoir(first.kept)
    assert again.kept == first.kept
    new, _ = again.offer(6 * HOUR_S, 3)
    assert new is not None
    assert new.number not in {piece.number for piece in first.kept}
    again.forget(new.number)
    again.forget(new.number)
    assert again.kept == first.kept


@pytest.mark.parametrize("dimension", [256, 512])
def test_the_bound_is_the_one_that_is_documented(dimension: int) -> None:
    assert MOST_WINDOWS * dimension / 1e6 == pytest.approx({256: 4.7, 512: 9.4}[dimension], abs=0.05)
