"""Whether one description says the same as another, or less."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NEAR_IDENTICAL = 0.9
"""Cosine between texts from which one counts as another wording of the other."""

_FILL_WORDS = frozenset({"a", "an", "the", "of", "in", "on", "to", "from", "with", "sound", "recording"})


def likeness(
    texts: Sequence[str],
    embeddings: NDArray[np.floating],
    prompts: Sequence[str],
    prompt_embeddings: NDArray[np.floating],
) -> NDArray[np.float64]:
    """How much texts say what the nearest of a label's prompts says.

    Args:
        texts: ``n`` of them.
        embeddings: ``(n, dimension)`` theirs, L2-normalised.
        prompts: ``p`` of them, one or more.
        prompt_embeddings: ``(p, dimension)`` theirs.

    Returns:
        ``(n,)`` the highest cosine; 1 where a prompt has all the words of the text.
    """
    found = np.asarray((embeddings @ prompt_embeddings.T).max(axis=1), np.float64)
    said = [_words(prompt) for prompt in prompts]
    for place, text in enumerate(texts):
        if any(_words(text) <= words for words in said):
            found[place] = 1.0
    return found


def _words(text: str) -> set[str]:
    return set(text.casefold().split()) - _FILL_WORDS
