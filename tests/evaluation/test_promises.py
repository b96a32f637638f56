"""Promises against counts: on recordings, and with each source left out of the bank."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clap_evaluation.promises import leave_sources_out
from clap_evaluation.reliability import THRESHOLDS, Promise, reliability
from clap_server.clap.everyday import EverydayBank, Piece
from clap_server.detection.everyday.rate import rate_of_score
from clap_server.detection.patterns import AlarmPattern, DecodedPattern
from tests.evaluation.made import ALARM, GLASS, recording

PIECES, WINDOWS = 120, 40


@given(
    threshold=st.floats(0.05, 0.95), count=st.integers(0, 500), hours=st.floats(0.01, 1000, allow_nan=False)
)
def test_a_promise_is_kept_where_it_lies_within_the_interval(
    threshold: float, count: int, hours: float
) -> None:
    found = Promise.of("x", threshold, count, hours)
    assert found.per_day is not None
    assert found.per_day_low is not None
    assert found.per_day_high is not None
    assert found.per_day_low <= found.per_day <= found.per_day_high
    assert found.kept == (found.per_day_low <= found.promised_per_day <= found.per_day_high)
    as_many_as_promised = Promise.of("x", threshold, round(found.promised_per_day * hours / 4), hours)
    assert as_many_as_promised.kept


def test_false_alarms_are_counted_for_each_threshold() -> None:
    peaks = [(600.0, 600.0, 0.62), (1200.0, 1200.0, 0.81), (1800.0, 1800.0, 0.72)]
    result = recording(3600.0, {"glass": peaks}, (None, None, None))
    found = {(p.label_id, p.threshold): p for p in reliability([result], [GLASS, ALARM])}
    counts = [found["glass", threshold].false_alarms for threshold in THRESHOLDS]
    assert THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
    assert counts == [3, 3, 3, 2, 2, 1, 1, 0, 0]
    at = found["glass", 0.7]
    assert at.hours == pytest.approx(1.0)
    assert (at.promised_per_day, at.per_day) == (pytest.approx(1.0), pytest.approx(8.0))
    # Of two the interval is 0.242 to 7.225, an hour.
    assert (at.per_day_low, at.per_day_high) == (pytest.approx(0.969, abs=1e-3), pytest.approx(28.9, abs=0.1))
    assert at.kept
    assert not found["glass", 0.8].kept or found["glass", 0.8].promised_per_day > 0.1
    assert found["alarm", 0.5].false_alarms == 0
    assert not found["alarm", 0.5].kept, "27 a day are promised, and an hour has none"


def test_silence_and_the_events_of_a_label_are_no_hours() -> None:
    # Of the windows of two seconds those that end within 99.5 s to 112 s could hear it.
    result = recording(3600.0, {"glass": [(101.0, 102.0, 0.9)]}, ("glass", 100.0, 110.0))
    [found] = reliability([result], [GLASS], [0.7])
    assert (found.false_alarms, found.hours) == (0, pytest.approx((3600 - 13) / 3600))
    half = np.arange(7200) < 3600
    quiet = replace(result, windows=replace(result.windows, admitted=half))
    assert reliability([quiet], [GLASS], [0.7])[0].hours == pytest.approx((1800 - 13) / 3600)
    assert reliability([quiet], [ALARM], [0.7])[0].hours == pytest.approx(0.5)


def test_patterns_are_no_matter_of_thresholds() -> None:
    result = recording(60.0, {}, (None, None, None))
    smoke = replace(ALARM, id="smoke_alarm")
    pattern = DecodedPattern(AlarmPattern.T3, 3100.0, 10.0, 16.0, 16.5, -30.0)
    windows = replace(result.windows, label_ids=("glass", "smoke_alarm"), patterns=(pattern,))
    [found] = reliability([replace(result, windows=windows)], [smoke], [0.5])
    assert found.false_alarms == 0


def bank_with(pieces: int = PIECES) -> EverydayBank:
    """Each piece 20 s; the embeddings do not matter."""
    ends_s = np.tile(np.arange(1, WINDOWS + 1) * 0.5 - 0.1, pieces)
    return EverydayBank.of(
        "x",
        np.ones((pieces * WINDOWS, 2), np.float32),
        ends_s,
        np.repeat(np.arange(pieces), WINDOWS),
        [Piece()] * pieces,
        hop_s=0.5,
        sources="x",
    )


def drawn(rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return rng.exponential(0.05, PIECES * WINDOWS)


def test_sources_of_one_kind_keep_their_promises() -> None:
    bank = bank_with()
    everything = np.ones(len(bank.codes), bool)
    sources = [f"source {number % 6}" for number in range(PIECES)]
    found = leave_sources_out(bank, drawn(np.random.default_rng(3)), everything, sources, GLASS)
    assert [each.promise.threshold for each in found] == list(THRESHOLDS)
    for each in found:
        assert each.sources == 6
        assert each.promise.hours == pytest.approx(PIECES * 20 / 3600)
        assert each.promise.promised_per_day == pytest.approx(rate_of_score(each.promise.threshold))
        assert each.promise.kept, each
    assert all(a.promise.false_alarms >= b.promise.false_alarms for a, b in pairwise(found))


def test_a_source_that_is_like_no_other_breaks_the_promise_and_is_named() -> None:
    bank = bank_with()
    everything = np.ones(len(bank.codes), bool)
    sources = ["dishes" if number < 20 else f"source {number % 5}" for number in range(PIECES)]
    margins = drawn(np.random.default_rng(4))
    margins[: 20 * WINDOWS] += 1.0
    security = leave_sources_out(bank, margins, everything, sources, GLASS, thresholds=[0.7])[0]
    assert not security.promise.kept
    assert (security.loudest, security.loudest_false_alarms) == ("dishes", 80), "each block of 5 s"
    kept = bank.recordings >= 20
    without = leave_sources_out(bank, margins, kept, sources, GLASS, thresholds=[0.5])[0]
    assert without.promise.kept
    assert (without.sources, without.promise.hours) == (5, pytest.approx((PIECES - 20) * 20 / 3600))


def test_a_source_without_which_too_little_is_left_is_not_judged() -> None:
    bank = bank_with()
    everything = np.ones(len(bank.codes), bool)
    [found] = leave_sources_out(
        bank, drawn(np.random.default_rng(5)), everything, ["all"] * PIECES, GLASS, thresholds=[0.7]
    )
    assert (found.sources, found.loudest, found.promise.hours, found.promise.kept) == (0, "", 0.0, None)
