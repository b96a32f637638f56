"""Evidence says of many windows at once what the rules of live sound say of one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server.detection.everyday.evidence import evidence, maxima
from clap_server.detection.labels import LabelKind
from clap_server.detection.temporal import make_rule

if TYPE_CHECKING:
    from numpy.typing import NDArray

HOP_S = 0.5


@st.composite
def recordings(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Values, ends and recordings of windows each hop and in between, some of them missing."""
    values, ends, numbers = [], [], []
    for number in range(draw(st.integers(1, 3))):
        at_s = 0.0
        for _ in range(draw(st.integers(1, 12))):
            at_s += draw(st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.5, 1.0, 2.5]))
            values.append(draw(st.integers(1, 19)) / 20)
            ends.append(round(at_s, 2))
            numbers.append(number)
    return np.array(values), np.array(ends), np.array(numbers, np.intp)


@settings(deadline=None, max_examples=300)
@given(recordings(), st.sampled_from(list(LabelKind)), st.integers(1, 18))
def test_it_reaches_a_threshold_exactly_where_the_rule_would_start_an_event(
    sound: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]], kind: LabelKind, step: int
) -> None:
    values, ends_s, numbers = sound
    threshold = (step + 0.5) / 20
    found = evidence(values, ends_s, numbers, kind, hop_s=HOP_S) >= threshold
    expected = []
    for number in np.unique(numbers):
        rule = make_rule(kind, threshold, hop_s=HOP_S)
        rows = numbers == number
        expected += [
            rule.starts(end_s, value) for end_s, value in zip(ends_s[rows], values[rows], strict=True)
        ]
    assert found.tolist() == expected


def test_of_each_five_seconds_of_each_recording_the_highest_is_kept() -> None:
    values = np.array([0.1, 0.5, 0.2, 0.9, 0.3, 0.4])
    ends_s = np.array([1.0, 4.9, 5.0, 1.0, 2.0, 17.0])
    numbers = np.array([0, 0, 0, 1, 1, 1])
    assert maxima(values, ends_s, numbers, block_s=5.0).tolist() == [0.5, 0.2, 0.9, 0.4]


def test_of_nothing_there_is_nothing() -> None:
    nothing = np.zeros(0)
    none = np.zeros(0, np.intp)
    assert len(evidence(nothing, nothing, none, LabelKind.SUSTAINED, hop_s=HOP_S)) == 0
    assert len(maxima(nothing, nothing, none, block_s=5.0)) == 0
