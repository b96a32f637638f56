"""When scores of single windows add up to a sound: one rule for each kind of label.

Rules count by time and not by windows, so extra windows after an onset and missing ones change nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from clap_server.detection.judgement import Progress
from clap_server.detection.labels import LabelKind
from clap_server.errors import ConfigurationError, LabelError


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

    def __post_init__(self) -> None:
        if min(self.minimum_on_s, self.release_s, self.hold_off_s) < 0:
            raise ConfigurationError("times of the temporal logic cannot be negative: use 0 or more seconds")
        if self.maximum_on_s <= max(self.minimum_on_s, self.release_s):
            raise ConfigurationError(
                f"the longest time on ({self.maximum_on_s:g} s) must be longer than the shortest "
                f"({self.minimum_on_s:g} s) and the release time ({self.release_s:g} s): raise it"
            )


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
    """Glass, impact, explosion: one strong window, or two medium ones close together.

    Windows overlap, and neighbours see nearly the same sound, so a second medium one is weak evidence: it
    helps a sound that just misses the threshold, and only when the window has moved on a good part.

    Args:
        threshold: a window with this score is strong, 0 to 1.
        medium_ratio: a window with this part of the threshold is medium; 1 leaves only strong ones.
        together_s: how close two medium windows must be.
        apart_s: and how far apart at least, so that they are two views of the sound.
        release_ratio: a running event goes on while windows have this part of the threshold.
    """

    def __init__(
        self,
        threshold: float,
        *,
        medium_ratio: float = 0.9,
        together_s: float = 1.5,
        apart_s: float = 0.4,
        release_ratio: float = 0.8,
    ) -> None:
        check_threshold(threshold)
        if not 0 < medium_ratio <= 1:
            raise ConfigurationError(
                f"the medium ratio {medium_ratio:g} is not usable: use one from 0.5 to 1"
            )
        if together_s < apart_s:
            raise ConfigurationError(
                f"two windows cannot be both within {together_s:g} s and {apart_s:g} s apart: raise the first"
            )
        self._threshold = threshold
        self._medium = threshold * medium_ratio
        self._release = threshold * min(medium_ratio, release_ratio)
        self._together_s = together_s
        self._apart_s = apart_s
        self._mediums: deque[float] = deque()
        self._present = False
        self._counted = False
        self._confirmed = False

    @property
    def present(self) -> bool:
        """Whether the last window was above the lower limit of the hysteresis."""
        return self._present

    @property
    def counted(self) -> bool:
        """Whether the last window was at least medium."""
        return self._counted

    @property
    def progress(self) -> Progress:
        """Medium windows; a strong one counts for two."""
        return Progress(2 if self._confirmed else min(1, len(self._mediums)), 2, "windows")

    def starts(self, end_s: float, score: float) -> bool:
        """Take the next score; see ``Rule``."""
        self._present = score >= self._release
        while self._mediums and end_s - self._mediums[0] > self._together_s:
            self._mediums.popleft()
        self._counted = score >= self._medium
        self._confirmed = False
        if self._counted:
            # The tolerance is for sums of binary fractions.
            second = bool(self._mediums) and end_s - self._mediums[0] >= self._apart_s - 1e-6
            self._mediums.append(end_s)
            self._confirmed = score >= self._threshold or second
        return self._confirmed


class SustainedRule:
    """Alarm, quarrel: positive for two of the last three hops, with hysteresis.

    Each window speaks for the time since the one before it, at most a hop.

    Args:
        threshold: a window with this score is positive, 0 to 1.
        hop_s: seconds between regular windows.
        hysteresis: a running event goes on while scores stay above ``threshold - hysteresis`` (and above
            half the threshold).
        confirm_s: positive time needed; by default what two windows cover, at least 0.8 s.
        span_s: the time within which it must be; by default three hops, at least 1.5 s.
    """

    def __init__(
        self,
        threshold: float,
        *,
        hop_s: float,
        hysteresis: float = 0.15,
        confirm_s: float | None = None,
        span_s: float | None = None,
    ) -> None:
        check_threshold(threshold)
        # A little under two hops, because windows after an onset cut hops into uneven parts.
        self._confirm_s = max(0.8, 1.6 * hop_s) if confirm_s is None else confirm_s
        self._span_s = max(1.5, 3 * hop_s) if span_s is None else span_s
        if self._confirm_s > self._span_s:
            raise ConfigurationError(
                f"{self._confirm_s:g} s of a sound never fit into the last {self._span_s:g} s: raise the span"
            )
        self._threshold = threshold
        self._release = max(threshold - hysteresis, threshold / 2)
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
        # The tolerance is for sums of binary fractions.
        return self._counted and self._heard_s >= self._confirm_s - 1e-6


def make_rule(kind: LabelKind, threshold: float, *, hop_s: float) -> Rule:
    """Make the rule for a label.

    Raises:
        LabelError: with this threshold the sound would be detected never, or always.
    """
    if kind is LabelKind.IMPULSIVE:
        return ImpulsiveRule(threshold)
    return SustainedRule(threshold, hop_s=hop_s)
