"""What people type in other languages, and its English (``translations.toml``)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from clap_server.detection.library import load_library
from training.config import ROOT

if TYPE_CHECKING:
    import numpy as np

# The order of a row of translations.toml, after the English.
LANGUAGES = ("de", "fr", "es", "zh-Hans")
_SPELT_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"})


@dataclass(frozen=True, slots=True)
class Meaning:
    """One thing said in all languages.

    Attributes:
        english: the words that the teacher understands.
        others: the same in each of ``LANGUAGES``.
    """

    english: str
    others: tuple[str, ...]

    @property
    def spellings(self) -> tuple[str, ...]:
        """``others``, and the German without umlauts if it has any."""
        return tuple(dict.fromkeys((*self.others, self.others[0].translate(_SPELT_OUT))))


@dataclass(frozen=True, slots=True)
class Translations:
    """All of ``translations.toml``.

    Attributes:
        phrases: by concept, with the names of the library's labels.
        nouns: what sounds.
        verbs: what it does.
        places: where, or how.
        unrelated: descriptions of no sound.
    """

    phrases: dict[str, tuple[Meaning, ...]]
    nouns: tuple[Meaning, ...]
    verbs: tuple[Meaning, ...]
    places: tuple[Meaning, ...]
    unrelated: tuple[Meaning, ...]

    def sentence(self, rng: np.random.Generator) -> Meaning:
        """A noun with a verb and, in half of the cases, a place."""
        noun = self.nouns[int(rng.integers(len(self.nouns)))]
        parts = [noun, self.verbs[int(rng.integers(len(self.verbs)))]]
        if rng.random() < 0.5:
            parts.append(self.places[int(rng.integers(len(self.places)))])
        spaced = [" ".join(part.others[place] for part in parts) for place in range(len(LANGUAGES) - 1)]
        # Chinese puts the place first, and no spaces.
        chinese = "".join(part.others[-1] for part in (*parts[2:], *parts[:2]))
        return Meaning(" ".join(part.english for part in parts), (*spaced, chinese))


def _meanings(rows: list[list[str]], where: str) -> tuple[Meaning, ...]:
    for row in rows:
        if len(row) != 1 + len(LANGUAGES) or not all(text.strip() for text in row):
            raise ValueError(f"translations.toml: {where} has a row that is not in all languages: {row}")
    return tuple(Meaning(english, tuple(others)) for english, *others in rows)


@cache
def load_translations() -> Translations:
    """Read ``translations.toml``.

    Raises:
        ValueError: a row lacks a language.
    """
    content = tomllib.loads((ROOT / "translations.toml").read_text("utf-8"))
    phrases = {name: _meanings(rows, name) for name, rows in content["phrases"].items()}
    for label in load_library().described:
        names = Meaning(label.names["en"].lower(), tuple(label.names[tag] for tag in LANGUAGES))
        phrases[label.id] = (names, *phrases.get(label.id, ()))
    words = content["words"]
    return Translations(
        phrases,
        _meanings(words["nouns"], "nouns"),
        _meanings(words["verbs"], "verbs"),
        _meanings(words["places"], "places"),
        _meanings(content["unrelated"]["rows"], "unrelated"),
    )
