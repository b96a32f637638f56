"""What false alarms cost, and whether a threshold promises what is counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clap_server.detection.everyday.rate import rate_of_score
from clap_server.detection.library import load_library
from tests.training.test_found import scored
from training.rates import rates, rates_as_markdown

GLASS = replace(load_library().resolve("glass_breaking"), threshold=0.7)
HALF_HOUR_S = 1800.0


def told(*negatives: float) -> dict[str, object]:
    """The figures of two panes, of which one is heard, and of half hours of nothing with these scores."""
    results = [
        scored([0.95], "glass_breaking"),
        scored([0.61], "glass_breaking"),
        # Neither another label's recordings nor those that say nothing count as everyday sound.
        scored([0.99], "alarm"),
        scored([0.99], None, name="lid"),
        *(replace(scored([score], None), duration_s=HALF_HOUR_S) for score in negatives),
    ]
    return rates(results, [GLASS], {"lid": frozenset({"glass_breaking"})})


def test_what_is_found_is_told_at_limits_of_false_alarms() -> None:
    found = told(0.3, 0.61, 0.8, 0.87)["glass_breaking"]
    assert isinstance(found, dict)
    assert (found["events"], found["recall"]) == (2, 0.5)
    # Two of four half hours reach 0.7.
    assert found["false_alarms_per_hour"] == pytest.approx(1.0)
    # All four are allowed, two, or one.
    assert found["at_most_per_hour"] == {
        "2.0": {"threshold": 0.6, "recall": 1.0},
        "1.0": {"threshold": 0.9, "recall": 0.5},
        "0.5": {"threshold": 0.9, "recall": 0.5},
    }


def test_a_promise_is_compared_with_what_was_counted_above_the_gate() -> None:
    found = told(*[0.3] * 90, *[0.8] * 10)
    glass = found["glass_breaking"]
    assert isinstance(glass, dict)
    promise = glass["promise"]
    assert promise["promised_per_day"] == pytest.approx(rate_of_score(0.7))
    assert promise["false_alarms"] == 10
    # Each recording has one window of half a second.
    assert promise["hours"] == pytest.approx(100 * 0.5 / 3600)
    assert promise["per_day"] == pytest.approx(10 / (100 * 0.5 / 3600) * 4)
    row = rates_as_markdown(found)[-1]
    assert row.startswith("| glass_breaking | 0.7 | 0.50 | 0.2 | 1.00 at 0.60 | ")
    assert " | 1.0 | 2880.0 (" in row


def test_a_label_without_recordings_has_a_row_all_the_same() -> None:
    assert "| - | - | - at - | - at - | - at - |" in rates_as_markdown(rates([], [GLASS], {}))[-1]
