"""What a room's own sound reached is counted by the rules of events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server.clap.everyday import EverydayBank, Piece
from clap_server.detection.everyday.counted import Count, Reached, reached
from clap_server.detection.everyday.words import count_words
from clap_server.detection.library import load_library
from clap_server.detection.scoring import LabelScorer
from tests.server.listening.spectral import ALARM_BAND, GLASS_BANDS, SpectralModel

LIBRARY = load_library()
GLASS, ALARM = LIBRARY.resolve("glass breaking"), LIBRARY.resolve("alarm")
SMOKE = LIBRARY.resolve("smoke alarm")
HOP_S = 0.5


def bank(windows: int, like: dict[int, object]) -> EverydayBank:
    """An hour or so of a band that no text means, with windows that are like something else."""
    model = SpectralModel()
    rows = np.zeros((windows, model.dimension), np.float32)
    rows[:, 12] = 1
    for number, bands in like.items():
        rows[number] = 0
        rows[number, bands] = 1  # type: ignore[index]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ends_s = np.arange(1, windows + 1) * HOP_S
    return EverydayBank.of(
        "here", rows, ends_s, np.zeros(windows, np.intp), [Piece()], hop_s=HOP_S, sources="room"
    )


def test_an_impulse_counts_once_and_a_sustained_sound_only_if_it_lasts() -> None:
    model = SpectralModel()
    scorer = LabelScorer(model, [GLASS, ALARM, SMOKE], LIBRARY.background)
    # Two breaks, of which one is heard in two windows; one beep of a window, and one of five.
    like: dict[int, object] = dict.fromkeys((100, 101, 400), GLASS_BANDS)
    like |= dict.fromkeys((600, *range(800, 805)), ALARM_BAND)
    found = reached(scorer, [GLASS, ALARM, SMOKE], bank(2000, like), 6.0)
    best = scorer.scores(bank(1, {0: GLASS_BANDS}).embeddings())[0, 0] - 0.01
    assert found[GLASS.id].at(float(best)).events == 2
    best = scorer.scores(bank(1, {0: ALARM_BAND}).embeddings())[0, 1] - 0.01
    assert found[ALARM.id].at(float(best)).events == 1
    assert (SMOKE.id in found) == bool(SMOKE.prompts)


@settings(deadline=None)
@given(
    scores=st.lists(st.floats(0, 1), min_size=1, max_size=50),
    threshold=st.floats(0.01, 0.99),
    higher=st.floats(0, 0.5),
    hours=st.floats(0.4, 100),
    a_day=st.floats(1, 24),
)
def test_counts_fall_with_the_threshold_and_lie_within_their_bounds(
    scores: list[float], threshold: float, higher: float, hours: float, a_day: float
) -> None:
    here = Reached(np.sort(scores), hours, a_day)
    count = here.at(threshold)
    assert count.events == sum(score >= threshold for score in scores)
    assert count.per_day == pytest.approx(count.events / hours * a_day)
    assert 0 <= count.low <= count.per_day <= count.high
    assert here.at(threshold + higher).events <= count.events


def test_bounds_are_garwoods() -> None:
    count = Reached(np.array([0.1, 0.8, 0.9]), 2.0, 4.0).at(0.7)
    # Garwood's interval of 2 events: 0.2422 to 7.2247.
    assert (count.low, count.high) == pytest.approx((2 * 0.2422, 2 * 7.2247), rel=1e-3)


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (
            Count(0, 0.0, 0.0, 7.4),
            "never: less than one a year (95 % sure: from less than one a year to about 7 a day)",
        ),
        (
            Count(1, 2.0, 0.05, 11.1),
            "once: about 2 a day (95 % sure: from about 2 a month to about 11 a day)",
        ),
        (
            Count(3, 6.0, 1.2, 17.5),
            "3 times: about 6 a day (95 % sure: from about one a day to about 18 a day)",
        ),
    ],
)
def test_a_count_is_told_with_its_bounds(count: Count, told: str) -> None:
    assert count_words(0.7, count, 2.0) == f"in 2.0 hours of this room's own sound 0.70 was reached {told}"
