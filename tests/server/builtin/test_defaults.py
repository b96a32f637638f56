"""The library's default thresholds are those that the built-in model's figures ask for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clap_server.clap.builtin import FOLDER
from clap_server.detection.everyday.found import FILE, load_found
from clap_server.detection.library import load_library

if TYPE_CHECKING:
    from clap_server.detection.labels import Label

LIBRARY = load_library()
FOUND = load_found(FOLDER / FILE)
RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
MOST_AN_HOUR = 2.0
LOWEST, HIGHEST = 0.6, 0.9
ENOUGH = 0.4


def counted() -> dict[str, dict[float, float]]:
    """False alarms an hour that were counted on sources left out of the bank, by label and threshold."""
    newest = max(RESULTS.glob("promises-*-builtin-*.json"))
    told: dict[str, dict[float, float]] = {}
    for entry in json.loads(newest.read_text("utf-8"))["figures"]["promises"]:
        promise = entry["promise"]
        rates = told.setdefault(promise["label_id"], {})
        rates[promise["threshold"]] = promise["false_alarms"] / promise["hours"]
    return told


COUNTED = counted()


def an_hour(label: Label, threshold: float) -> float:
    """At the nearest threshold with a count that is not below."""
    rates = COUNTED[label.id]
    return rates[min(value for value in rates if value >= threshold)]


@pytest.mark.parametrize("label", LIBRARY.described, ids=lambda label: label.id)
def test_no_default_lets_more_than_two_false_alarms_an_hour_through(label: Label) -> None:
    assert an_hour(label, label.threshold) <= MOST_AN_HOUR


@pytest.mark.parametrize("label", LIBRARY.described, ids=lambda label: label.id)
def test_a_default_is_as_high_as_it_can_be_without_finding_too_little(label: Label) -> None:
    assert LOWEST <= label.threshold <= HIGHEST
    found = FOUND.get(label.id)
    enough_above = found is not None and found.at(label.threshold + 0.02).low >= ENOUGH
    assert label.threshold >= 0.7 or not enough_above
    if label.threshold > LOWEST:
        finds_enough = found is not None and found.at(label.threshold).low >= ENOUGH
        assert finds_enough or an_hour(label, LOWEST) > MOST_AN_HOUR
