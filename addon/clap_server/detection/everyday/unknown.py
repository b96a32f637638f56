"""Where it is not known what a threshold finds."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

    from clap_server.detection.labels import Label


TESTED_HOP_S = 0.5
"""Between the windows of the tests and of the banks."""


class Unknown(StrEnum):
    """Why it is not known what a threshold finds."""

    OWN_WORDS = "own_words"
    TAUGHT = "taught"
    NOT_TESTED = "not_tested"
    FALSE_ALARMS = "false_alarms"
    NEGATIVES = "negatives"
    DENOISE = "denoise"
    HOP = "hop"

    @property
    def words(self) -> str:
        """The same for people."""
        return f"what it finds is not known: {_REASONS[self]}"


_REASONS = {
    Unknown.OWN_WORDS: "your own words were not tested",
    Unknown.TAUGHT: "sounds that you taught were not tested",
    Unknown.NOT_TESTED: "this sound was not tested with this model",
    Unknown.FALSE_ALARMS: "the tests were made without the false alarms that you reported here",
    Unknown.NEGATIVES: "the tests were made without the negatives of this microphone",
    Unknown.DENOISE: "the tests were made without noise suppression",
    Unknown.HOP: f"the tests were made with a window each {TESTED_HOP_S:g} s",
}


def why_unknown(
    label: Label,
    found: Container[str],
    *,
    negatives: bool = False,
    denoise: bool = False,
    hop_s: float = TESTED_HOP_S,
) -> Unknown | None:
    """Why it is not known what thresholds of a label find; None where it is.

    Args:
        label: with what was called wrong at the microphone.
        found: ids of the labels that were tested with the model, as they are in the library.
        negatives: the microphone has some.
        denoise: the model hears the microphone through RNNoise.
        hop_s: seconds between the windows of the microphone.
    """
    if label.taught is not None:
        return Unknown.TAUGHT
    if not label.library:
        return Unknown.OWN_WORDS
    if label.id not in found:
        return Unknown.NOT_TESTED
    if label.wrong:
        return Unknown.FALSE_ALARMS
    if negatives:
        return Unknown.NEGATIVES
    if denoise:
        return Unknown.DENOISE
    return None if hop_s == TESTED_HOP_S else Unknown.HOP
