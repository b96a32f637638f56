"""From embeddings to scores that mean the same for every label.

For a window with embedding ``a``, a label with prompts ``p_1..p_P`` and the bank ``b_1..b_B`` of everything
that it is not (all embeddings of length 1, so that products are cosines)::

    margin = T log( 1/P sum_i exp(a.p_i / T) )  -  T log( sum_j exp(a.b_j / T) )      T = TEMPERATURE
    score  = sigmoid(scale * margin + bias)                                           per model: Calibration

- The prompts enter by a soft maximum that does not grow with their number: an alarm may be a bell *or* a
  beep, so the mean of such prompts would be like neither, and a plain maximum would favour labels with many.
- The bank enters by a soft maximum that does grow: the best other explanation counts, and a further
  negative can only lower a score.
- The bank of a label is the background, less what says nearly the same as the label itself (so that
  ``speech`` or ``heavy rain`` can be a label), plus its own negatives and the microphone's. It depends on
  that label and microphone alone: watching another label never moves a score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.clap.model import Calibration
from clap_server.detection.library import NORMAL, load_library

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clap_server.clap.model import ClapModel
    from clap_server.detection.labels import Label

TEMPERATURE = 0.05
"""Width of the soft maxima, in cosine; LAION's checkpoints learnt a logit scale of about 1 / 0.05."""

NEAR_IDENTICAL = 0.9
"""Cosine between texts from which a background prompt counts as another wording of the label itself."""

UNCALIBRATED = Calibration(scale=20.0, bias=1.0)
"""Rough guess, in use until a model is calibrated."""

_SECURITY_THRESHOLD = 0.7
_TINY = np.finfo(np.float64).tiny
_FILL_WORDS = frozenset({"a", "an", "the", "of", "in", "on", "to", "from", "with", "sound", "recording"})


class LabelScorer:
    """Scores windows for a fixed set of labels; the texts are embedded once, here.

    Args:
        model: embeds the texts; its calibration applies.
        labels: to score. A label given twice is scored once. One without prompts, which only its pattern
            tells, has score 0.
        background: the bank that is shared by all labels.
        negatives: what this microphone's sounds are not; added to every label's bank.

    The label ``NORMAL`` is defined as the complement, ``1 - max`` over the other labels given here (over the
    library's security labels if there are none): the only score that depends on other labels.

    Raises:
        ValueError: nothing to score, or nothing to compare with.
        ModelError: the model cannot embed the texts.
    """

    def __init__(
        self,
        model: ClapModel,
        labels: Sequence[Label],
        background: Sequence[str],
        negatives: Sequence[str] = (),
    ) -> None:
        self.calibration = model.calibration or UNCALIBRATED
        self.label_ids = tuple(dict.fromkeys(label.id for label in labels))
        if not self.label_ids:
            raise ValueError("no labels to score")
        if not background:
            raise ValueError("a score needs a background to compare with")
        by_id = {label.id: label for label in labels if label.prompts}
        if not by_id:
            by_id = {
                label.id: label
                for label in load_library().labels
                if label.prompts and label.threshold >= _SECURITY_THRESHOLD
            }
        self._scored = tuple(by_id)
        texts = list(
            dict.fromkeys(
                [
                    *background,
                    *negatives,
                    *(text for label in by_id.values() for text in (*label.prompts, *label.negatives)),
                ]
            )
        )
        self._embeddings = model.embed_text(texts).astype(np.float64)
        row = {text: index for index, text in enumerate(texts)}
        # Column j of each matrix holds the weights of all texts in label j's two sums.
        self._prompt_weights = np.zeros((len(texts), len(by_id)))
        self._bank_weights = np.zeros((len(texts), len(by_id)))
        self._background = np.array([row[text] for text in dict.fromkeys(background)])
        for column, label in enumerate(by_id.values()):
            prompts = [row[text] for text in dict.fromkeys(label.prompts)]
            self._prompt_weights[prompts, column] = 1.0 / len(prompts)
            self._bank_weights[self._bank(texts, prompts), column] = 1.0
            self._bank_weights[[row[text] for text in (*label.negatives, *negatives)], column] = 1.0

    def _bank(self, texts: Sequence[str], prompts: list[int]) -> NDArray[np.intp]:
        """Rows of the background that do not say the same as these prompts; at least half of it stays.

        A text says the same if the model puts it in nearly the same place, or if a prompt has all its words.
        """
        likeness = (self._embeddings[self._background] @ self._embeddings[prompts].T).max(axis=1)
        said = [_words(texts[row]) for row in prompts]
        for place, row in enumerate(self._background):
            if any(_words(texts[row]) <= words for words in said):
                likeness[place] = 1.0
        order = np.argsort(likeness, kind="stable")
        keep = max(int((likeness < NEAR_IDENTICAL).sum()), (len(order) + 1) // 2)
        return self._background[order[:keep]]

    def _soft(self, audio_embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        # Cosines are at most 1, so the exponential stays below 5e8: no shift is needed.
        cosines = np.asarray(audio_embeddings, np.float64) @ self._embeddings.T
        return np.asarray(np.exp(cosines / TEMPERATURE))

    def _margins(self, audio_embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        soft = self._soft(audio_embeddings)
        return np.asarray(
            TEMPERATURE * (np.log(soft @ self._prompt_weights) - np.log(soft @ self._bank_weights))
        )

    def margins(self, audio_embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """How much better each label explains each window than the rest, in cosine.

        Args:
            audio_embeddings: ``(n, dimension)``, L2-normalised.

        Returns:
            ``(n, m)`` in the order of ``label_ids``; for ``NORMAL`` minus the highest of the others, minus
            infinity for a label without prompts.
        """
        others = self._margins(audio_embeddings)
        return self._in_order(others, -others.max(axis=1), -np.inf)

    def scores(self, audio_embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score windows.

        Args:
            audio_embeddings: ``(n, dimension)``, L2-normalised.

        Returns:
            ``(n, m)`` in 0..1, in the order of ``label_ids``.
        """
        others = sigmoid(self.calibration.scale * self._margins(audio_embeddings) + self.calibration.bias)
        return self._in_order(others, 1.0 - others.max(axis=1)).astype(np.float32)

    def distribution(self, audio_embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Classic zero-shot classification: softmax over the given labels alone, for comparison.

        Here ``NORMAL`` stands for the best of the background.

        Args:
            audio_embeddings: ``(n, dimension)``, L2-normalised.

        Returns:
            ``(n, m)`` in the order of ``label_ids``; rows sum to 1.
        """
        soft = self._soft(audio_embeddings)
        weights = self._in_order(soft @ self._prompt_weights, soft[:, self._background].max(axis=1))
        return np.asarray(weights / np.maximum(weights.sum(axis=1, keepdims=True), _TINY), np.float32)

    def _in_order(
        self, others: NDArray[np.float64], normal: NDArray[np.float64], without_prompts: float = 0.0
    ) -> NDArray[np.float64]:
        """Bring columns into the order of ``label_ids``, with ``normal`` where it was asked for."""
        columns = dict(zip(self._scored, others.T, strict=True)) | {NORMAL.id: normal}
        none = np.full(len(others), without_prompts)
        return np.stack([columns.get(label_id, none) for label_id in self.label_ids], axis=1)


def _words(text: str) -> set[str]:
    return set(text.casefold().split()) - _FILL_WORDS


def sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logistic function, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)))
