from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server.audio.arrivals import BACKLOG_S, Arrivals

PIECE_S = 0.05


@dataclass(frozen=True)
class Piece:
    duration_s: float
    arrived_s: float
    lateness_s: float


def gaps(arrivals_s: list[float], piece_s: float = PIECE_S) -> list[int]:
    """Which of the pieces that arrive so come after a gap."""
    arrivals = Arrivals()
    pieces = [Piece(piece_s, at_s, at_s - (number + 1) * piece_s) for number, at_s in enumerate(arrivals_s)]
    found = []
    for number, piece in enumerate(pieces):
        until_s = piece.arrived_s + BACKLOG_S
        there = bisect_right(arrivals_s, until_s)
        gap = arrivals.is_gap(pieces[number:there], until_s)
        assert gap is not None
        if gap:
            found.append(number)
        arrivals.take(piece, gap)
    return found


def steady(count: int, start_s: float = 0.0, piece_s: float = PIECE_S) -> list[float]:
    return [start_s + (number + 1) * piece_s for number in range(count)]


@pytest.mark.parametrize("piece_s", [0.02, 0.1, 2.0])
def test_messages_of_any_length_join(piece_s: float) -> None:
    assert gaps(steady(200, 0.0, piece_s), piece_s) == []


@pytest.mark.parametrize("pause_s", [0.7, 3.0, 9.0])
def test_a_pause_is_a_gap(pause_s: float) -> None:
    assert gaps(steady(60) + steady(60, 3.0 + pause_s)) == [60]


def test_a_stall_of_the_network_is_no_gap() -> None:
    assert gaps([at_s if at_s < 3.0 else max(at_s, 6.0) for at_s in steady(200)]) == []


def test_a_stall_of_which_half_is_lost_is_a_gap() -> None:
    assert gaps(steady(60) + [6.0] * 30 + steady(60, 6.0)) == [60]


def backlog(stall_s: float, speed: float, piece_s: float, lost_s: float = 0.0) -> list[float]:
    """5 s, a stall, and then what was held back, less what was lost of it, until no more waits."""
    first = round(5 / piece_s)
    arrivals_s = steady(first, 0.0, piece_s)
    resumed_s = arrivals_s[-1] + stall_s
    lost = round(lost_s / piece_s)
    for number in range(round(60 / piece_s)):
        sounded_s = (first + lost + number + 1) * piece_s
        arrivals_s.append(max(sounded_s, resumed_s + number * piece_s / speed))
    return arrivals_s


@settings(max_examples=60, deadline=None)
@given(
    stall_s=st.floats(0.6, 8.0),
    speed=st.floats(1.2, 20.0),
    piece_s=st.sampled_from([0.02, 0.032, 0.05, 0.1, 0.25]),
    seed=st.integers(0, 10**9),
)
def test_no_gap_while_sound_comes_faster_than_real_time(
    stall_s: float, speed: float, piece_s: float, seed: int
) -> None:
    jitter = Random(seed)
    came_s = 0.0
    arrivals_s = []
    for at_s in backlog(stall_s, speed, piece_s):
        came_s = max(came_s, at_s + jitter.uniform(0, 0.02))
        arrivals_s.append(came_s)
    assert gaps(arrivals_s, piece_s) == []


@settings(max_examples=60, deadline=None)
@given(
    stall_s=st.floats(3.0, 8.0),
    speed=st.floats(1.2, 20.0),
    piece_s=st.sampled_from([0.02, 0.05, 0.1, 0.25]),
    lost=st.floats(0.3, 1.0),
)
def test_a_backlog_of_which_much_is_lost_has_one_gap(
    stall_s: float, speed: float, piece_s: float, lost: float
) -> None:
    assert len(gaps(backlog(stall_s, speed, piece_s, lost * stall_s), piece_s)) == 1


def test_short_pauses_add_up() -> None:
    pieces: list[float] = []
    for turn in range(20):
        pieces += steady(100, turn * 5.3)
    # Each turn of 5 s loses 0.3 s.
    assert 6 <= len(gaps(pieces)) <= 20


def test_a_slow_clock_of_the_sender_is_no_gap() -> None:
    assert gaps([at_s * 1.005 for at_s in steady(20_000)]) == []


def test_a_gap_is_not_told_before_a_backlog_could_have_come() -> None:
    arrivals = Arrivals()
    arrivals.take(Piece(PIECE_S, 1.0, 0.0), gap=False)
    late = Piece(PIECE_S, 3.0, 2.0)
    assert arrivals.is_gap([late], 3.0) is None
    assert arrivals.is_gap([late, Piece(PIECE_S, 3.1, 0.0)], 3.1) is False
    assert arrivals.is_gap([late], 3.0 + BACKLOG_S) is True
