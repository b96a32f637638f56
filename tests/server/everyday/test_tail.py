"""Rates that were never counted are extrapolated as the theory of extremes says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from clap_server.detection.everyday.tail import QUANTILE, RAREST_OF_HOURS, bounds, fit_tail

if TYPE_CHECKING:
    from numpy.typing import NDArray


def maxima(count: int = 4000, shape: float = -0.2, seed: int = 1) -> NDArray[np.float64]:
    """Margins whose upper part follows a generalised Pareto distribution."""
    rng = np.random.default_rng(seed)
    found = rng.uniform(-0.5, 0.0, count)
    above = rng.uniform(size=count) < 1 - QUANTILE
    found[above] = stats.genpareto.rvs(shape, scale=0.05, size=int(above.sum()), random_state=rng)
    return np.asarray(found)


def test_what_is_common_is_counted() -> None:
    values = maxima()
    tail = fit_tail(values, values, 5.0)
    for margin in (-0.2, -0.1, -0.05):
        assert tail.per_hour(np.array(margin)) == pytest.approx((values >= margin).sum() / 5.0, rel=0.03)


def test_what_is_rare_is_extrapolated() -> None:
    shape, scale = -0.2, 0.05
    tail = fit_tail(maxima(40_000, shape), maxima(40_000, shape), 50.0)
    assert tail.shape == pytest.approx(shape, abs=0.06)
    # A rate of one in ten of the hours that were heard.
    true = 40_000 * (1 - QUANTILE) / 50 * stats.genpareto.sf(0.15, shape, scale=scale)
    assert tail.per_hour(np.array(0.15)) == pytest.approx(true, rel=0.4)


def test_beyond_the_end_of_a_tail_nothing_is_called_impossible() -> None:
    values = maxima(shape=-0.5)
    tail = fit_tail(values, values, 5.0)
    rates = tail.per_hour(np.array([0.2, 0.4, 0.8]))
    assert rates[1] < 1 / (RAREST_OF_HOURS * 5.0)
    assert rates[0] > rates[1] > rates[2] > 0


def test_a_shape_that_is_not_believed_is_bounded() -> None:
    values = maxima(shape=-0.2)
    assert fit_tail(values, values, 5.0, shapes=(0.0, 0.5)).shape == 0.0
    heavy = maxima(shape=1.5)
    tail = fit_tail(heavy, heavy, 5.0)
    assert tail.shape == 0.5
    assert tail.scale > 0


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(-1, 1), min_size=240, max_size=400),
    st.lists(st.floats(-2, 2), min_size=2, max_size=20),
)
def test_a_higher_margin_is_never_more_frequent(values: list[float], margins: list[float]) -> None:
    sound = np.array(values)
    tail = fit_tail(sound, sound, 0.4)
    rates = tail.per_hour(np.sort(np.array(margins)))
    assert (np.diff(rates) <= 1e-9 * rates[:-1]).all()
    assert (rates >= 0).all()


def test_equal_maxima_are_no_trouble() -> None:
    sound = np.zeros(500)
    tail = fit_tail(sound, sound, 1.0)
    assert tail.per_hour(np.array([-1.0, 0.0])).tolist() == pytest.approx([500, 500])
    assert tail.per_hour(np.array(1.0)) < 1 / RAREST_OF_HOURS


def test_too_few_maxima_and_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        fit_tail(np.zeros(100), np.zeros(100), 1.0)
    with pytest.raises(ValueError, match="not a number"):
        fit_tail(np.full(500, np.nan), np.zeros(500), 1.0)
    with pytest.raises(ValueError, match="too few"):
        fit_tail(np.zeros(0), np.zeros(0), 1.0)


def test_bounds_are_those_of_garwood() -> None:
    # Table of Garwood (1936) for 95 %: none 0 to 3.69, one 0.0253 to 5.57, ten 4.80 to 18.39.
    for events, low, high in ((0, 0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.39)):
        assert bounds(events, 1.0) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-2))
    assert bounds(10, 2.0)[1] == pytest.approx(18.39 / 2, abs=1e-2)
