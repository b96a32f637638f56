"""Stream time becomes the time of day."""

from datetime import UTC, datetime

import pytest

from clap_server.listening.clock import StreamClock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()


def seconds(clock: StreamClock, stream_s: float) -> float:
    return clock.utc(stream_s).timestamp() - NOON


def test_a_steady_stream_is_as_old_as_its_quickest_block() -> None:
    clock = StreamClock()
    for step, delay_s in enumerate([0.3, 0.1, 0.5, 0.2]):
        clock.observe(float(step), NOON + step + delay_s)
    assert seconds(clock, 2.5) == pytest.approx(2.6)


def test_a_burst_is_older_than_its_arrival() -> None:
    clock = StreamClock()
    for step in range(1, 7):
        clock.observe(float(step), NOON)
    assert seconds(clock, 1.0) == pytest.approx(-5)


def test_a_slow_drift_is_followed() -> None:
    clock = StreamClock()
    for step in range(10_000):
        clock.observe(float(step), NOON + step * 1.001)
    assert seconds(clock, 9999.0) == pytest.approx(9999 * 1.001, abs=0.1)


def test_before_anything_arrived_it_is_now() -> None:
    assert abs((StreamClock().utc(5.0) - datetime.now(UTC)).total_seconds()) < 60


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_clock_that_is_set_counts_at_once(jump_s: float) -> None:
    clock = StreamClock()
    for step in range(10):
        clock.observe(float(step), NOON + step)
    clock.observe(10.0, NOON + 10 + jump_s)
    assert seconds(clock, 10.0) == pytest.approx(10 + jump_s)
