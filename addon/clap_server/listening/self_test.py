"""Whether a microphone finds a sound, and how fast: what a self-test learns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from clap_server.errors import ClapServerError

if TYPE_CHECKING:
    from clap_server.detection.labels import WatchedLabel

ABOVE_FLOOR_DB = 30.0
"""How far a sound that is mixed in is above the noise floor: like one that is in the same room."""


class SelfTestError(ClapServerError):
    """A self-test cannot be made, or broke off.

    Attributes:
        code: stable name of the reason.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Outcome(StrEnum):
    """How a self-test ended; unclear if the room alone sounded like it."""

    FOUND = "found"
    NOT_FOUND = "not_found"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a self-test learnt.

    Attributes:
        watched: the label with its threshold.
        outcome: how it ended.
        words: the same, for people.
        score: of the window that decided, else the highest; None if nothing was scored.
        delay_s: from the onset of the sound to the decision, with the model's time.
        level_dbfs: of the sound's loudest 50 ms; None if none was heard.
        noise_floor_dbfs: of the microphone, at the end.
        live_score: of the room alone in the window that decided; None if that is not known.
    """

    watched: WatchedLabel
    outcome: Outcome
    words: str
    score: float | None
    delay_s: float | None
    level_dbfs: float | None
    noise_floor_dbfs: float
    live_score: float | None = None
