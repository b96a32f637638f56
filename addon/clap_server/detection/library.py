"""The label library: sounds that come described, and labels made of the user's own words."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from clap_server.detection.labels import Label, LabelKind
from clap_server.detection.text import hidden_character
from clap_server.errors import LabelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_LABELS = 200
MAX_TEXT_LENGTH = 200
_MAX_ID_LENGTH = 40
_HASH_LENGTH = 8
_COMMAS = re.compile("[,，、،]")  # noqa: RUF001 - the commas of Chinese, Japanese and Arabic
# Phrasings under which the user's own words are embedded; CLAP was trained on captions. Checkpoints from the
# hub have one of their own instead (see ``clap.huggingface.caption``).
_TEMPLATES = ("{}", "the sound of {}", "a recording of {}")

NORMAL = Label(
    id="normal",
    names={"en": "Normal", "de": "Normal", "fr": "Normal", "es": "Normal", "zh-Hans": "正常"},
    prompts=(),
    threshold=1.0,
    icon="mdi:home-sound-in-outline",
    library=True,
)
"""None of the others. It has no prompts: its score is what the others leave (see ``LabelScorer``)."""


# Both are asked several times of each label of a microphone, of which there may be hundreds.
@lru_cache(2000)
def _key(text: str) -> str:
    """Reduce a text to what two spellings of one label have in common."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(
        "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in folded).split()
    )


@lru_cache(2000)
def slug(text: str) -> str:
    """Make a stable id of the user's own words that people can read.

    Latin letters lose their accents; other scripts stay as they are. Where the text is long, a short hash of
    it keeps the id unique.

    Args:
        text: the user's words, with at least one letter or digit.

    Returns:
        1 to 40 letters, digits and ``_``, in lower case.
    """
    key = _key(text)
    base = "".join(c for c in unicodedata.normalize("NFKD", key) if not unicodedata.combining(c))
    plain = (base if base.isascii() else key).replace(" ", "_")
    return plain if len(plain) <= _MAX_ID_LENGTH else _hashed(plain, key)


def _hashed(plain: str, key: str) -> str:
    digest = hashlib.sha256(key.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{plain[: _MAX_ID_LENGTH - _HASH_LENGTH - 1].strip('_')}_{digest}"


class LabelLibrary:
    """Labels that come with the server, and the way from a text to a label.

    ``described`` are the labels that have prompts; others have a pattern alone, of which no model knows.

    Args:
        version: rises whenever prompts, thresholds or ids change.
        labels: in the order in which they are offered.
        background: descriptions of what a microphone hears when nothing of interest happens.
        aliases: further English spellings, by label id.
    """

    def __init__(
        self,
        version: int,
        labels: Iterable[Label],
        background: Iterable[str],
        aliases: dict[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.version = version
        self.labels = tuple(labels)
        self.described = tuple(label for label in self.labels if label.prompts)
        self.background = tuple(background)
        self.taught: tuple[Label, ...] = ()
        self._taught_by_key: dict[str, Label] = {}
        self._by_id = {label.id: label for label in (*self.labels, NORMAL)}
        self._by_key: dict[str, Label] = {}
        for label in self._by_id.values():
            for spelling in (label.id, *label.names.values(), *(aliases or {}).get(label.id, ())):
                known = self._by_key.setdefault(_key(spelling), label)
                if known is not label:
                    raise LabelError(
                        f"The label library names both {known.id} and {label.id} {spelling!r}: "
                        "rename one of them."
                    )

    def get(self, label_id: str) -> Label | None:
        """Look up a label of the library by its id; None if there is none."""
        return self._by_id.get(label_id)

    def teach(self, labels: Iterable[Label]) -> None:
        """Resolve these from now on, by their ids and names, instead of those that were taught before."""
        self.taught = tuple(labels)
        self._taught_by_key = {
            _key(spelling): label for label in self.taught for spelling in (label.id, label.names["en"])
        }

    def resolve(self, text: str) -> Label:
        """Find the label that a user means.

        Args:
            text: an id or a name of the library in any language, in any case; one of a taught sound; else the
                user's own words.

        Returns:
            The library's label, the taught one, or one made of the words (sustained, threshold 0.5).

        Raises:
            LabelError: there are no words, or too many.
        """
        if len(text) > MAX_TEXT_LENGTH:
            raise LabelError(
                f"The label {text[:30]!r}... is {len(text)} characters long: use at most {MAX_TEXT_LENGTH}, "
                "such as 'glass breaking'."
            )
        if (hidden := hidden_character(" ".join(text.split()))) is not None:
            raise LabelError(
                f"The label {text!r} has a character that cannot be seen ({hidden}): type it anew."
            )
        key = _key(text)
        if not key:
            raise LabelError(
                f"The label {text!r} has no words: describe the sound, such as 'glass breaking'."
                if text.strip()
                else "A label is empty: name a sound, such as 'glass breaking'."
            )
        return self._by_key.get(key) or self._taught_by_key.get(key) or self._in_words(text, key)

    def in_words(self, text: str) -> Label:
        """Make a label of words that mean none of the library's; whether they are taught already is ignored.

        Raises:
            LabelError: as ``resolve``, or the library has a label of that name.
        """
        found = self.resolve(text)
        if found.library:
            raise LabelError(
                f"The library has a sound of the name {text!r} already: choose another, such as 'my {text}'."
            )
        return self._in_words(text, _key(text))

    def for_teaching(self, name: str) -> Label:
        """Make a label of the name of a sound that is to be taught; whether it is already is ignored.

        Raises:
            LabelError: as ``in_words``; or the name cannot be written in a list of labels, or in one line.
        """
        if _COMMAS.search(name):
            raise LabelError(
                f"The name {name[:30]!r} has a comma, which parts labels: leave it out or write a dash."
            )
        if len(name.splitlines()) > 1:
            raise LabelError(f"The name {name[:30]!r} has a line break: write it in one line.")
        if (hidden := hidden_character(name)) is not None:
            raise LabelError(
                f"The name {name[:30]!r} has a character that cannot be seen ({hidden}): type it anew."
            )
        return self.in_words(name)

    def _in_words(self, text: str, key: str) -> Label:
        words = " ".join(text.split())
        label_id = slug(words)
        if label_id in self._by_id:
            label_id = _hashed(label_id, key)
        return Label(
            id=label_id, names={"en": words}, prompts=tuple(template.format(words) for template in _TEMPLATES)
        )

    def resolve_all(self, texts: Sequence[str]) -> tuple[Label, ...]:
        """Resolve a list that a user gave; the result is in step with it.

        Raises:
            LabelError: the list is empty or too long, or one of its texts is not usable.
        """
        if not texts:
            raise LabelError("No labels were given: name at least one sound, such as 'glass breaking'.")
        if len(texts) > MAX_LABELS:
            raise LabelError(f"{len(texts)} labels are too many: give at most {MAX_LABELS}.")
        return tuple(self.resolve(text) for text in texts)


def split_labels(text: str) -> list[str]:
    """Split labels at commas, also those of other scripts; empty parts and repetitions are left out.

    Raises:
        LabelError: nothing is left, or too much.
    """
    pieces = (piece.strip() for piece in _COMMAS.split(text))
    parts = list(dict.fromkeys(piece for piece in pieces if piece))
    if not parts:
        raise LabelError("No labels were given: name at least one sound, such as 'glass breaking, alarm'.")
    if len(parts) > MAX_LABELS:
        raise LabelError(f"{len(parts)} labels are too many: give at most {MAX_LABELS}.")
    return parts


def _label(entry: dict[str, Any]) -> Label:
    return Label(
        id=entry["id"],
        names=entry["names"],
        prompts=tuple(entry["prompts"]),
        negatives=tuple(entry["negatives"]),
        kind=LabelKind(entry["kind"]),
        threshold=entry["threshold"],
        security=entry.get("security", False),
        icon=entry["icon"],
        library=True,
        rivals=entry.get("rivals"),
    )


def read_library() -> LabelLibrary:
    """Read the library that comes with the package, as one of the caller's own, which can be taught."""
    text = resources.files("clap_server.detection").joinpath("labels.json").read_text("utf-8")
    content = json.loads(text)
    return LabelLibrary(
        content["version"],
        [_label(entry) for entry in content["labels"]],
        content["background"],
        {entry["id"]: tuple(entry.get("aliases", ())) for entry in content["labels"]},
    )


@cache
def load_library() -> LabelLibrary:
    """The library that comes with the package, read once and shared: nobody teaches it."""
    return read_library()
