"""How well a taught sound is told from everyday sound, in figures and in a plain word."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How far a taught sound can be relied on."""

    GOOD = "good"
    FAIR = "fair"
    CANNOT_BE_TOLD_APART = "cannot_be_told_apart"


# Shares of the clips that must be found.
_GOOD = 0.8
_FAIR = 0.6

_WORDS = {
    Verdict.GOOD: "good",
    Verdict.FAIR: "fair: expect to miss some, or teach it with more clips from where it is to be heard",
    Verdict.CANNOT_BE_TOLD_APART: "cannot be told apart from everyday sound: do not rely on it",
}


@dataclass(frozen=True, slots=True)
class Separation:
    """Each clip was looked for with what the others teach.

    Attributes:
        clips: how many there are.
        found_at_one_a_day: of them, those found at one false alarm a day.
        found_at_one_an_hour: the same at about one an hour.
    """

    clips: int
    found_at_one_a_day: int
    found_at_one_an_hour: int

    def __post_init__(self) -> None:
        """Check the figures.

        Raises:
            ValueError: they cannot be.
        """
        if not 0 <= self.found_at_one_a_day <= self.found_at_one_an_hour <= self.clips or not self.clips:
            raise ValueError("impossible figures of its clips")

    @property
    def verdict(self) -> Verdict:
        """In a word."""
        if self.found_at_one_a_day >= _GOOD * self.clips:
            return Verdict.GOOD
        if self.found_at_one_an_hour >= _FAIR * self.clips:
            return Verdict.FAIR
        return Verdict.CANNOT_BE_TOLD_APART

    @property
    def words(self) -> str:
        """For people."""
        return (
            f"at one false alarm a day {self.found_at_one_a_day} of {self.clips} clips would be found, at one"
            f" an hour {self.found_at_one_an_hour}: {_WORDS[self.verdict]}"
        )
