"""How often everyday sound reaches a margin: counted where it does so often, extrapolated where it is rare.

Peaks over threshold (Coles, An Introduction to Statistical Modeling of Extreme Values, 2001, chapter 4): what
declustered maxima exceed a high quantile ``u`` by follows a generalised Pareto distribution,

    rate(m) = rate(u) (1 + shape (m - u) / scale) ** (-1 / shape)        for m > u.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUANTILE = 0.95
"""Of the maxima: above it the tail is fitted."""

LEAST_EXCESSES = 10
"""With fewer maxima above the quantile nothing can be said of rare ones."""

SHAPES = (-0.5, 0.5)
"""Believed shapes: margins are bounded, so that tails mostly are shorter than exponential (below 0)."""

RAREST_OF_HOURS = 100.0
"""A tail that ends would call what is beyond it impossible. From a rate of once in so many times the hours
that were heard on, it goes on as an exponential one: rarer and rarer, never impossible."""

_BODY_POINTS = 65
_STRAIGHT = 1e-6
_SMALLEST_SCALE = 1e-6


@dataclass(frozen=True, slots=True)
class Tail:
    """How many declustered maxima an hour reach a margin.

    Attributes:
        hours: of sound that it was counted in.
        body: ``(p,)`` rising margins up to ``u``, the last.
        body_rates: ``(p,)`` maxima an hour that reach them, falling.
        shape: of the generalised Pareto distribution above ``u``.
        scale: the same, in units of the margin.
    """

    hours: float
    body: NDArray[np.float64]
    body_rates: NDArray[np.float64]
    shape: float
    scale: float

    def per_hour(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """Maxima an hour that reach margins of any shape; falls as they rise."""
        counted = np.exp(np.interp(margins, self.body, np.log(self.body_rates)))
        over = np.maximum(np.asarray(margins, np.float64) - self.body[-1], 0.0) / self.scale
        if abs(self.shape) < _STRAIGHT:
            return np.asarray(counted * np.exp(-over))
        # What is left of the tail where it is no longer trusted, and how far above u that is.
        left = min(1.0, 1.0 / (RAREST_OF_HOURS * self.hours * self.body_rates[-1]))
        end = (left**-self.shape - 1.0) / self.shape
        surviving = (1.0 + self.shape * np.minimum(over, end)) ** (-1.0 / self.shape)
        return np.asarray(counted * surviving * np.exp(-np.maximum(over - end, 0.0)))


def fit_tail(
    maxima: NDArray[np.float64],
    windows: NDArray[np.float64],
    hours: float,
    *,
    shapes: tuple[float, float] = SHAPES,
) -> Tail:
    """Count the body and fit the tail by maximum likelihood.

    Below the median of the maxima their number says nothing more; from there the rate rises to that of all
    windows at the lowest.

    Args:
        maxima: ``(n,)`` of blocks of everyday sound.
        windows: ``(m,)`` of all windows; decide only how low scores go.
        hours: that they are from.
        shapes: lowest and highest shape that is believed.

    Raises:
        ValueError: there are too few maxima, or one is not a number.
    """
    if np.isnan(maxima).any():
        raise ValueError("a maximum is not a number")
    ordered = np.sort(maxima[np.isfinite(maxima)])
    count = len(ordered)
    excesses = ordered[int(QUANTILE * count) + 1 :] - ordered[int(QUANTILE * count)] if count else ordered
    if len(excesses) < LEAST_EXCESSES:
        raise ValueError(f"{len(excesses)} excesses are too few: {LEAST_EXCESSES} are needed")
    shares = np.linspace(0.5, QUANTILE, _BODY_POINTS)
    body = np.unique(ordered[np.minimum((shares * count).astype(int), int(QUANTILE * count))])
    rates = (count - np.searchsorted(ordered, body)) / hours
    lowest = float(windows[np.isfinite(windows)].min())
    if lowest < body[0]:
        body = np.concatenate([[lowest], body])
        rates = np.concatenate([[max(len(windows) / hours, rates[0])], rates])
    shape, scale = _fit(excesses, shapes)
    return Tail(hours, body, rates, shape, scale)


def _fit(excesses: NDArray[np.float64], shapes: tuple[float, float]) -> tuple[float, float]:
    mean = max(float(excesses.mean()), _SMALLEST_SCALE)
    shape, _, scale = stats.genpareto.fit(excesses, 0.0, floc=0.0, scale=mean)
    if not shapes[0] <= shape <= shapes[1]:
        shape = float(np.clip(shape, *shapes))
        # At shape 0 this is the mean.
        _, _, scale = stats.genpareto.fit(excesses, f0=shape, floc=0.0, scale=mean * (1 - shape))
    return float(shape), max(float(scale), _SMALLEST_SCALE)


def bounds(events: float, hours: float, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a Poisson rate (Garwood, 1936), also for a count that is not whole.

    Args:
        events: counted or expected.
        hours: in which they were.
        confidence: of the two-sided interval.

    Returns:
        Lowest and highest rate, events an hour.
    """
    beyond = (1 - confidence) / 2
    low = stats.chi2.ppf(beyond, 2 * events) / 2 if events > 0 else 0.0
    return float(low) / hours, float(stats.chi2.ppf(1 - beyond, 2 * (events + 1)) / 2) / hours
