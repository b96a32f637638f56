"""When scores of single windows add up to a sound: one rule for each kind of label.

Rules count by time and not by windows, so extra windows after an onset and missing ones change nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import ceil
from typing import Protocol

from clap_server.detection.judgement import Progress
from clap_server.detection.labels import LabelKind
from clap_server.errors import LabelError


@dataclass(frozen=True, slots=True)
class Timing:
    """How long an event lasts, in seconds of stream time.

    Attributes:
        minimum_on_s: an event lasts at least this long.
        release_s: it ends when nothing was heard for this long.
        maximum_on_s: it ends after this long, whatever is heard: a sensor never sticks.
        hold_off_s: after its end, nothing new starts for this long.
    """

    minimum_on_s: float
    release_s: float
    maximum_on_s: float
    hold_off_s: float


# A T4 alarm (UL 2034) pauses for 5 s, of which about 2 s are hidden by the window; hence 4 s of release.
TIMING = {
    LabelKind.IMPULSIVE: Timing(minimum_on_s=5.0, release_s=1.5, maximum_on_s=60.0, hold_off_s=1.0),
    LabelKind.SUSTAINED: Timing(minimum_on_s=2.0, release_s=4.0, maximum_on_s=600.0, hold_off_s=2.0),
}


def check_threshold(threshold: float) -> None:
    """Refuse a threshold with which detection is impossible or constant.

    Raises:
        LabelError: it is not between 0 and 1, or one of them.
    """
    if not 0 < threshold < 1:
        hint = "could never be reached" if threshold >= 1 else "would always be reached"
        raise LabelError(f"a threshold of {threshold:g} {hint}: use one between 0.05 and 0.95")


# Of the threshold: with this a window keeps a running impulse going.
_RELEASE_RATIO = 0.8
# A running sustained event goes on while scores stay above the threshold less this, and above half of it.
_HYSTERESIS = 0.15
TOLERANCE_S = 1e-6
"""For sums of binary fractions."""


class Rule(Protocol):
    """Judges the scores of one label, oldest first."""

    @property
    def present(self) -> bool:
        """Whether the last window keeps a running event going."""

    @property
    def counted(self) -> bool:
        """Whether the last window spoke for the sound."""

    @property
    def progress(self) -> Progress:
        """How much of what it needs it has."""

    def starts(self, end_s: float, score: float) -> bool:
        """Take the score of the window that ends at ``end_s``; say whether the sound is now confirmed."""


class ImpulsiveRule:
    """Glass, impact, explosion: one window at the threshold.

    Args:
        threshold: a window with this score decides, 0 to 1.
    """

    def __init__(self, threshold: float) -> None:
        check_threshold(threshold)
        self._threshold = threshold
        self._release = threshold * _RELEASE_RATIO
        self._present = False
        self._counted = False

    @property
    def present(self) -> bool:
        """Whether the last window was above the lower limit of the hysteresis."""
        return self._present

    @property
    def counted(self) -> bool:
        """Whether the last window reached the threshold."""
        return self._counted

    @property
    def progress(self) -> Progress:
        """One window, or none."""
        return Progress(int(self._counted), 1, "windows")

    def starts(self, end_s: float, score: float) -> bool:  # noqa: ARG002 - one window knows no time
        """Take the next score; see ``Rule``."""
        self._present = score >= self._release
        self._counted = score >= self._threshold
        return self._counted


def confirm_s(hop_s: float) -> float:
    """So long a sustained sound must be heard within ``span_s``: two windows of three.

    A little under two hops, as windows after an onset cut hops unevenly.
    """
    return max(0.8, 1.6 * hop_s)


def span_s(hop_s: float) -> float:
    """What a sustained sound's rule remembers, seconds."""
    return max(1.5, 3 * hop_s)


def sustains(*, hop_s: float, every_s: float) -> bool:
    """Whether a sustained sound can be confirmed where a window is scored each ``every_s`` alone."""
    windows = ceil(span_s(hop_s) / every_s - TOLERANCE_S)
    return windows * min(hop_s, every_s) >= confirm_s(hop_s) - TOLERANCE_S


class SustainedRule:
    """Alarm, quarrel: positive for two of the last three hops, with hysteresis.

    Each window speaks for the time since the one before it, at most a hop.

    Args:
        threshold: a window with this score is positive, 0 to 1.
        hop_s: seconds between regular windows.
    """

    def __init__(self, threshold: float, *, hop_s: float) -> None:
        check_threshold(threshold)
        self._confirm_s = confirm_s(hop_s)
        self._span_s = span_s(hop_s)
        self._threshold = threshold
        self._release = max(threshold - _HYSTERESIS, threshold / 2)
        self._hop_s = hop_s
        self._heard: deque[tuple[float, float]] = deque()
        self._last_end_s: float | None = None
        self._present = False
        self._counted = False

    @property
    def present(self) -> bool:
        """Whether the last window was above the lower limit of the hysteresis."""
        return self._present

    @property
    def counted(self) -> bool:
        """Whether the last window reached the threshold."""
        return self._counted

    @property
    def progress(self) -> Progress:
        """Positive time of the last hops."""
        return Progress(min(self._heard_s, self._confirm_s), self._confirm_s, "s")

    @property
    def _heard_s(self) -> float:
        return sum(part for _, part in self._heard)

    def starts(self, end_s: float, score: float) -> bool:
        """Take the next score; see ``Rule``."""
        since_s = self._hop_s if self._last_end_s is None else end_s - self._last_end_s
        self._last_end_s = end_s
        self._present = score >= self._release
        self._counted = score >= self._threshold
        if self._counted:
            self._heard.append((end_s, min(since_s, self._hop_s)))
        while self._heard and end_s - self._heard[0][0] >= self._span_s:
            self._heard.popleft()
        return self._counted and self._heard_s >= self._confirm_s - TOLERANCE_S


def make_rule(kind: LabelKind, threshold: float, *, hop_s: float) -> Rule:
    """Make the rule for a label.

    Raises:
        LabelError: with this threshold the sound would be detected never, or always.
    """
    if kind is LabelKind.IMPULSIVE:
        return ImpulsiveRule(threshold)
    return SustainedRule(threshold, hop_s=hop_s)
