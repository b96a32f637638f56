"""Text that people typed."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

# They join letters of some scripts, and the parts of an emoji.
_JOINERS = frozenset("\u200c\u200d")
# Letters and signs that are drawn as nothing.
_EMPTY = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufe0e\ufe0f")


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen."""
    return all(
        character.isspace() or character in _EMPTY or unicodedata.category(character) == "Cf"
        for character in text
    )


# Asked several times of each label of a microphone, of which there may be hundreds.
@lru_cache(2000)
def hidden_character(text: str) -> str | None:
    """The first character that nobody means to type, as ``U+202E``; None if there is none.

    Control characters, those that turn the direction of writing, separators of lines, and halves of a
    character: what they are good for is to make a name look like another one, or a log like it never was.
    """
    for character in text:
        if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and character not in _JOINERS:
            return f"U+{ord(character):04X}"
    return None
