"""The texts of a training step, and the library's score in a form that can be differentiated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from clap_server.clap.builtin.text_tower import token_ids
from clap_server.detection.library import load_library
from clap_server.detection.likeness import NEAR_IDENTICAL
from clap_server.detection.scoring import TEMPERATURE
from training.concepts import dressed, load_concepts
from training.translations import load_translations

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from tokenizers import Tokenizer

    from training.concepts import Concept


class LibraryScore:
    """The margins of ``LabelScorer`` in torch, for the labels of the library.

    Args:
        tokenizer: of the text tower.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        library = load_library()
        self.label_ids = [label.id for label in library.described]
        concepts = load_concepts()
        self.concepts = torch.tensor([concepts.index[name] for name in self.label_ids])
        texts = list(library.background)
        texts += [text for label in library.described for text in (*label.prompts, *label.negatives)]
        self.texts = list(dict.fromkeys(texts))
        row = {text: place for place, text in enumerate(self.texts)}
        self.ids = token_ids(tokenizer, self.texts)
        shape = (len(self.label_ids), len(self.texts))
        self._prompts, self._negatives = torch.zeros(shape), torch.zeros(shape)
        for place, label in enumerate(library.described):
            self._prompts[place, [row[text] for text in label.prompts]] = 1.0 / len(label.prompts)
            self._negatives[place, [row[text] for text in label.negatives]] = 1.0
        self._background = torch.tensor([row[text] for text in library.background])

    def bank(self, embeddings: torch.Tensor) -> torch.Tensor:
        """``(labels, texts)``: which texts each label is compared with, given ``(texts, d)`` embeddings."""
        likeness = (embeddings[self._background] @ embeddings.T).cpu()
        bank = self._negatives.clone()
        for place, prompts in enumerate(self._prompts):
            nearest = likeness[:, prompts > 0].amax(1)
            order = nearest.argsort()
            keep = max(int((nearest < NEAR_IDENTICAL).sum()), (len(order) + 1) // 2)
            bank[place, self._background[order[:keep]]] = 1.0
        return bank.to(embeddings.device)

    def margins(self, audio: torch.Tensor, embeddings: torch.Tensor, bank: torch.Tensor) -> torch.Tensor:
        """``(n, labels)`` for ``(n, d)`` audio and ``(texts, d)`` text embeddings; see ``LabelScorer``."""
        soft = torch.exp(audio @ embeddings.T / TEMPERATURE)
        return TEMPERATURE * (torch.log(soft @ self._prompts.to(audio.device).T) - torch.log(soft @ bank.T))


class Phrases:
    """Draws phrases for every concept.

    Args:
        tokenizer: of the text tower.
        per_concept: phrases in each draw.
        foreign_share: of them in other languages, where a concept has such.
        unrelated: words that mean none of the sounds (``unrelated.json`` of the step ``text``).
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        per_concept: int,
        foreign_share: float = 0.2,
        unrelated: Sequence[str] = (),
    ) -> None:
        self._tokenizer, self._per_concept, self._foreign_share = tokenizer, per_concept, foreign_share
        self._concepts = load_concepts().all
        self.owners = torch.arange(len(self._concepts)).repeat_interleave(per_concept)
        translations = load_translations()
        # Words that mean none of the sounds stand for "anything else": no sound should be near them.
        self._words = unrelated or [row.english for row in translations.unrelated]
        self._elsewhere = [text for row in translations.unrelated for text in (row.english, *row.spellings)]

    def _one(self, concept: Concept, rng: np.random.Generator) -> str:
        foreign = concept.translations and rng.random() < self._foreign_share
        phrases = concept.translations if foreign else concept.phrases
        return dressed(phrases[int(rng.integers(len(phrases)))], rng)

    def draw(self, rng: np.random.Generator, extra: list[str]) -> torch.Tensor:
        """Token ids of the drawn phrases in the order of ``owners``, then of ``extra``."""
        texts = [self._one(concept, rng) for concept in self._concepts for _ in range(self._per_concept)]
        return token_ids(self._tokenizer, [*texts, *extra])

    def unrelated(self, rng: np.random.Generator, count: int) -> list[str]:
        """Texts that describe none of the sounds: half of them pairs of words at random."""
        picks = rng.integers(0, len(self._words), (count // 2, 2))
        texts = [f"{self._words[a]} {self._words[b]}" for a, b in picks]
        texts += [self._elsewhere[row] for row in rng.integers(0, len(self._elsewhere), count - len(texts))]
        return [dressed(text, rng) for text in texts]
