from __future__ import annotations

import itertools

import numpy as np
import pytest

from clap_server.audio.timeline import Timeline

PIECE_S = 0.02
START_S = 12_345.0


def total_missing_s(timestamps_s: list[float], arrivals_s: list[float] | None = None) -> float:
    """Feed pieces of 20 ms; they arrive as they are stamped, if not otherwise said."""
    timeline = Timeline()
    arrivals_s = arrivals_s or timestamps_s
    return sum(
        timeline.missing_s(at_s, PIECE_S, now_s) for at_s, now_s in zip(timestamps_s, arrivals_s, strict=True)
    )


def steady(count: int, start_s: float = START_S) -> list[float]:
    return [start_s + number * PIECE_S for number in range(count)]


def test_steady_sound_misses_nothing() -> None:
    assert total_missing_s(steady(5000)) == 0.0


@pytest.mark.parametrize("missing_s", [0.1, 0.4, 1.5, 30.0])
def test_a_jump_is_missing_sound(missing_s: float) -> None:
    timestamps_s = steady(100) + steady(100, START_S + 2.0 + missing_s)
    assert total_missing_s(timestamps_s) == pytest.approx(missing_s, abs=0.03)


def test_packets_lost_one_by_one_add_up() -> None:
    kept = [at_s for number, at_s in enumerate(steady(5000)) if number % 20]
    assert total_missing_s(kept) == pytest.approx(250 * PIECE_S, abs=0.5)


def test_random_loss_never_shifts_the_time_by_much() -> None:
    rng = np.random.default_rng(3)
    timeline = Timeline()
    stream_s = 0.0
    worst_s = 0.0
    for at_s in steady(10_000):
        if rng.random() < 0.1:
            continue
        stream_s += timeline.missing_s(at_s, PIECE_S, at_s)
        worst_s = max(worst_s, abs(at_s - START_S - stream_s))
        stream_s += PIECE_S
    assert worst_s < 0.2


def test_sound_that_is_sent_only_while_there_is_some_keeps_its_time() -> None:
    # 20 ms of comfort noise each 0.4 s, for a minute; then speech.
    pauses = [START_S + number * 0.4 for number in range(150)]
    timestamps_s = steady(100, START_S - 2.0) + pauses + steady(100, START_S + 60.0)
    assert total_missing_s(timestamps_s) == pytest.approx(150 * 0.38, abs=0.5)


def test_jitter_of_timestamps_is_no_gap() -> None:
    rng = np.random.default_rng(4)
    timestamps_s = [at_s + rng.uniform(-0.02, 0.02) for at_s in steady(20_000)]
    assert total_missing_s(timestamps_s) < 0.2


def test_a_slow_sampling_clock_is_no_gap() -> None:
    timestamps_s = [START_S + number * PIECE_S * 1.0005 for number in range(50_000)]
    assert total_missing_s(timestamps_s) == 0.0


def test_a_burst_after_a_stall_is_no_gap() -> None:
    timestamps_s = steady(500)
    arrivals_s = timestamps_s[:200] + [max(at_s, START_S + 8.0) for at_s in timestamps_s[200:]]
    assert total_missing_s(timestamps_s, arrivals_s) == 0.0


def test_a_clock_that_is_set_back_begins_anew() -> None:
    timestamps_s = steady(100) + steady(100, 0.0)
    assert total_missing_s(timestamps_s) == 0.0


def test_timestamps_that_count_too_fast_are_not_believed_for_long() -> None:
    timestamps_s = [START_S + 2 * number * PIECE_S for number in range(5000)]
    assert total_missing_s(timestamps_s, steady(5000)) < 2.5


def test_pieces_without_timestamps_are_taken_to_join() -> None:
    timeline = Timeline()
    stamped = itertools.cycle((True, False, False))
    missing = [timeline.missing_s(at_s if next(stamped) else None, PIECE_S, at_s) for at_s in steady(300)]
    assert not any(missing)
