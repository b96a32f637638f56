"""What a threshold finds: the built-in model's share of real events in recordings that it never heard."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from clap_server.detection.everyday.rate import SCORE_OF_ONE_A_DAY
from clap_server.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from clap_server.clap.model import ClapModel
    from clap_server.detection.labels import Label

_LOGGER = logging.getLogger(__name__)

FILE = "found.json"
"""Beside the built-in model's weights: ``{label_id: {"events": n, "scores": [...]}}``."""

_HARDLY_ANY, _NEARLY_ALL = 0.05, 0.95
_ENOUGH = 0.4
"""A default is 0.7 where so much was found there; else it is lower."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many of the events of a test are found.

    Attributes:
        found: so many.
        events: of so many, at least 1.
        low: of the exact 95 % interval of the share (Clopper and Pearson, 1934), 0 to 1.
        high: the same.
    """

    found: int
    events: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.found / self.events

    @property
    def words(self) -> str:
        """The same for people: *found 4 of 10 in tests*."""
        if self.share < _HARDLY_ANY:
            return "found hardly any in tests"
        if self.share > _NEARLY_ALL:
            return "found nearly all in tests"
        return f"found {10 * self.share:.0f} of 10 in tests"


@dataclass(frozen=True, slots=True, eq=False)
class FoundScores:
    """The highest threshold with which each event of a test would be found.

    Attributes:
        events: how many there were.
        scores: ``(m,)`` rising, of those that any threshold finds; m is at most ``events``.
    """

    events: int
    scores: NDArray[np.float64]

    def at(self, threshold: float) -> Share:
        """What a threshold finds."""
        found = int(len(self.scores) - np.searchsorted(self.scores, threshold, side="left"))
        return _share(found, self.events)


@lru_cache(10_000)
def _share(found: int, events: int) -> Share:
    interval = stats.binomtest(found, events).proportion_ci(0.95, method="exact")
    return Share(found, events, float(interval.low), float(interval.high))


def load_found(path: Path) -> dict[str, FoundScores]:
    """Read the file.

    Raises:
        ModelError: it is damaged.
        FileNotFoundError: there is none.
    """
    try:
        return {label_id: _read(entry) for label_id, entry in json.loads(path.read_text("utf-8")).items()}
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"What the model finds in tests cannot be read from {path}: {error}") from error


def _read(entry: Mapping[str, object]) -> FoundScores:
    events, scores = entry["events"], np.sort(np.asarray(entry["scores"], np.float64))
    if not isinstance(events, int) or not 0 < events >= len(scores) or scores.ndim != 1:
        raise ValueError("its numbers do not fit")
    if not np.all((scores >= 0) & (scores <= 1)):
        raise ValueError("a score is not between 0 and 1")
    return FoundScores(events, scores)


def found_by(model: ClapModel) -> Mapping[str, FoundScores]:
    """What a model found in tests, by label id; nothing for models of which that is not known."""
    return _shipped() if model.builtin else {}


@cache
def _shipped() -> Mapping[str, FoundScores]:
    from clap_server.clap import builtin

    try:
        return load_found(builtin.FOLDER / FILE)
    except FileNotFoundError:
        return {}
    except ModelError as error:
        _LOGGER.warning("%s; nothing is said of it", error)
        return {}


def is_lowered(label: Label, found: Mapping[str, FoundScores]) -> bool:
    """Whether the default of a label of the library is under 0.7 for what would be missed there."""
    if not (label.library and label.prompts and label.threshold < SCORE_OF_ONE_A_DAY):
        return False
    return label.id not in found or found[label.id].at(SCORE_OF_ONE_A_DAY).share < _ENOUGH
