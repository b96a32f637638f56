"""What the recordings show, and the words for it (``concepts.toml``)."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from clap_server.detection.library import load_library
from training.config import ROOT
from training.translations import load_translations

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    from training.data import Recording

# Background prompts and negatives of the library whose concept is not told by their words being a phrase.
OTHER = "other"
# For clips of no known concept only these count as surely absent.
SECURITY = (
    "glass_breaking",
    "alarm",
    "smoke_alarm",
    "siren",
    "fighting_shouting",
    "scream",
    "explosion_gunshot",
    "metal_impact",
    "dog_bark",
    "baby_cry",
    "doorbell",
    "door_knock",
)
# "{}" most of the time: the plain words are what users type.
TEMPLATES = (
    "{}",
    "{}",
    "{}",
    "the sound of {}",
    "a recording of {}",
    "{} in the background",
    "{} nearby",
    "{} in the next room",
    "{} outside",
    "{} in the kitchen",
    "{} at night",
    "I hear {}",
    "this is {}",
    "{} sound",
)


@dataclass(frozen=True, slots=True)
class Concept:
    """One kind of sound.

    Attributes:
        name: its id; that of the library's label where there is one.
        phrases: how people say it.
        translations: how people say it in other languages; may be empty.
        implies: concepts that its sounds also show.
        maybe: concepts about which its sounds say nothing.
        background: whether its sounds may lie under others.
        judged: whether its recordings are among those that a model is judged on.
    """

    name: str
    label: str
    fine: re.Pattern[str] | None
    phrases: tuple[str, ...]
    translations: tuple[str, ...]
    implies: tuple[str, ...]
    maybe: tuple[str, ...]
    background: bool
    judged: bool


class Concepts:
    """All concepts, in the order of their file.

    Args:
        concepts: see ``Concept``.
    """

    def __init__(self, concepts: list[Concept]) -> None:
        self.all = tuple(concepts)
        self.index = {concept.name: place for place, concept in enumerate(concepts)}
        for concept in concepts:
            for other in (*concept.implies, *concept.maybe):
                if other not in self.index:
                    raise ValueError(f"concepts.toml: {concept.name} speaks of {other!r}, which is not there")

    def of_recording(self, recording: Recording) -> str | None:
        """The concept that a recording shows; None to leave it out."""
        for concept in self.all:
            if (
                concept.label == recording.label
                and concept.fine
                and concept.fine.search(recording.fine_label)
            ):
                return concept.name
        return None

    def judged(self, recordings: Iterable[Recording], fold: int | None) -> list[Recording]:
        """Those of a fold (None: that are never trained on) that a model is to be judged on."""
        silent = {concept.name for concept in self.all if not concept.judged}
        return [row for row in recordings if row.fold == fold and self.of_recording(row) not in silent]

    def targets(self, name: str) -> list[float]:
        """What a sound of one concept says about each: 1 yes, 0 no, -1 nothing."""
        concept = self.all[self.index[name]]
        row = [0.0] * len(self.all)
        if name == OTHER:
            row = [0.0 if other.name in SECURITY else -1.0 for other in self.all]
        for other in concept.maybe:
            row[self.index[other]] = -1.0
        for other in (name, *concept.implies):
            row[self.index[other]] = 1.0
        return row


def _phrases(name: str, entry: dict[str, Any]) -> tuple[str, ...]:
    phrases = list(entry.get("phrases", []))
    for thing in entry.get("things", []):
        phrases += [f"{thing} {verb}" for verb in entry.get("verbs", [])]
    label = load_library().get(name)
    if label is not None:
        phrases += [*label.prompts, label.names["en"].lower()]
    return tuple(dict.fromkeys(phrases))


@cache
def load_concepts() -> Concepts:
    """Read ``concepts.toml``."""
    content = tomllib.loads((ROOT / "concepts.toml").read_text("utf-8"))
    translated = load_translations().phrases
    unknown = set(translated) - set(content)
    if unknown:
        raise ValueError(f"translations.toml speaks of {', '.join(sorted(unknown))}: no such concept")
    return Concepts(
        [
            Concept(
                name=name,
                label=entry.get("label", "negative"),
                fine=re.compile(entry["fine"]) if "fine" in entry else None,
                phrases=_phrases(name, entry),
                translations=tuple(
                    dict.fromkeys(text for row in translated.get(name, ()) for text in row.spellings)
                ),
                implies=tuple(entry.get("implies", ())),
                maybe=tuple(entry.get("maybe", ())),
                background=entry.get("background", False),
                judged=entry.get("judged", True),
            )
            for name, entry in content.items()
        ]
    )


def dressed(phrase: str, rng: np.random.Generator) -> str:
    """Put a phrase into one of the ways in which people speak of sounds."""
    return TEMPLATES[int(rng.integers(len(TEMPLATES)))].format(phrase)
