"""What a score means is told in units that people count by."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server.detection.everyday.rate import rate_of_score
from clap_server.detection.everyday.words import promise_words, rate_words

_DAYS = {"hour": 1 / 24, "day": 1, "week": 7, "month": 30, "year": 365}


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (0.0, "more than one a minute"),
        (0.4, "about 6 an hour"),
        (0.5, "about one an hour"),
        (0.62, "about 4 a day"),
        (0.7, "about one a day"),
        (0.8, "about one a week"),
        (0.9, "about one a month"),
        (1.0, "about 3 a year"),
    ],
)
def test_scores_stand_for_the_rates_that_the_scale_promises(score: float, told: str) -> None:
    assert rate_words(rate_of_score(score)) == told


def test_thresholds_are_told_in_false_alarms() -> None:
    assert promise_words(0.7) == "about one false alarm a day"
    assert promise_words(0.62) == "about 4 false alarms a day"
    assert rate_words(0.0, "false alarm") == "less than one false alarm a year"


@settings(deadline=None)
@given(per_day=st.floats(1e-9, 1e9))
def test_words_are_never_off_by_more_than_half(per_day: float) -> None:
    words = rate_words(per_day)
    if words == "more than one a minute":
        assert per_day > 1440
    elif words == "less than one a year":
        assert per_day * 365 < 1
    else:
        match = re.fullmatch(r"about (one|\d+) an? (\w+)", words)
        assert match is not None
        told = 1 if match[1] == "one" else int(match[1])
        assert told / _DAYS[match[2]] == pytest.approx(per_day, rel=0.5)
