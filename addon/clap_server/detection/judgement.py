"""What the temporal rules made of a window, for people who ask why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from clap_server.detection.labels import WatchedLabel


class Decision(StrEnum):
    """What a window did for a label, the least first."""

    UNDER_THRESHOLD = "under_threshold"
    UNCONFIRMED = "unconfirmed"
    HELD_OFF = "held_off"
    OUTDONE = "outdone"
    GOING_ON = "going_on"
    STARTED = "started"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a label's rule is from being convinced: windows, or seconds of the sound."""

    have: float
    need: float
    unit: Literal["windows", "s"]


@dataclass(frozen=True, slots=True)
class Nearer:
    """The label that names the sound instead, with its best score in it, 0 to 1."""

    watched: WatchedLabel
    score: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a label in a window.

    Attributes:
        watched: the label with its threshold.
        score: 0 to 1.
        decision: what the window did.
        progress: of the label's rule, after this window.
        held_until_s: stream time until which nothing new starts, if that decided.
        nearer: what the sound was named by, if that decided.
    """

    watched: WatchedLabel
    score: float
    decision: Decision
    progress: Progress
    held_until_s: float | None = None
    nearer: Nearer | None = None

    @property
    def rank(self) -> tuple[int, float]:
        """Sorts by how near it came to an event."""
        return list(Decision).index(self.decision), self.score
