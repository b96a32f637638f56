"""From embeddings to scores that mean the same for every label.

For a window with embedding ``a``, a label with prompts ``p_1..p_P`` and the background ``b_1..b_B`` of
everything that it is not (all embeddings of length 1, so that products are cosines)::

    margin = T log( 1/P sum_i exp(a.p_i / T) )  -  T log( sum_j exp(a.b_j / T) )      T = TEMPERATURE
    score  = 0.7 - 0.14 log10( false events a day that everyday sound would raise at this margin )

- The prompts enter by a soft maximum that does not grow with their number: an alarm may be a bell *or* a
  beep, so the mean of such prompts would be like neither, and a plain maximum would favour labels with many.
- The background enters by a soft maximum that does grow: the best other explanation counts, and a further
  negative can only lower a margin.
- The background of a label is the library's, less what says nearly the same as the label itself (so that
  ``speech`` or ``heavy rain`` can be a label), plus its own negatives and the microphone's. It depends on
  that label and microphone alone: watching another label never moves a score.
- A sound that the user taught has a margin of its own (see ``taught``); what the user called a false alarm of
  a label takes from its score (see ``mistakes``).
- What a margin is worth is counted on the model's bank of everyday sound, less the recordings that hold the
  label: see ``everyday``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clap_server.detection.everyday.about import pieces_about
from clap_server.detection.everyday.per_bank import PerBank
from clap_server.detection.everyday.rate import SOUNDING_HOURS_A_DAY
from clap_server.detection.everyday.scale import GUESS, ScoreScale, tail_of, trust
from clap_server.detection.examples import made_for
from clap_server.detection.library import NORMAL, load_library
from clap_server.detection.likeness import NEAR_IDENTICAL, likeness
from clap_server.detection.mistakes import Mistakes, lookalikes
from clap_server.detection.taught import TaughtSound, in_parts, taught_sound

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

    from clap_server.clap.everyday import EverydayBank
    from clap_server.clap.model import ClapModel
    from clap_server.detection.everyday.tail import Tail
    from clap_server.detection.labels import Label

TEMPERATURE = 0.05
"""Width of the soft maxima, in cosine; LAION's checkpoints learnt a logit scale of about 1 / 0.05."""

_TINY = np.finfo(np.float64).tiny
# About a kilobyte each; None where a bank says too little of a label.
_TAILS: PerBank[Tail | None] = PerBank(2000)


class NearerText(NamedTuple):
    """A text of the background, or a negative, that a window is more like than any prompt of a label.

    Attributes:
        text: that.
        cosine: of the window to it.
        label_cosine: of the window to the label's nearest prompt.
    """

    text: str
    cosine: float
    label_cosine: float


class LabelScorer:
    """Scores windows for a fixed set of labels; the texts are embedded and measured once, here.

    Args:
        model: embeds the texts; its bank of everyday sound says what margins are worth.
        labels: to score. A label given twice is scored once. One without prompts, which only its pattern
            tells, has score 0.
        background: the bank that is shared by all labels.
        negatives: what this microphone's sounds are not; added to every label's background.
        room: everyday sound of this microphone's own; counts the more, the more there is.
        sounding_hours: of a day, in this room.

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
        *,
        room: EverydayBank | None = None,
        sounding_hours: float = SOUNDING_HOURS_A_DAY,
    ) -> None:
        self.made_for = made_for(model)
        self.label_ids = tuple(dict.fromkeys(label.id for label in labels))
        if not self.label_ids:
            raise ValueError("no labels to score")
        if not background:
            raise ValueError("a score needs a background to compare with")
        by_id = {label.id: label for label in labels if label.prompts and self._knows(model, label)}
        if not by_id:
            by_id = {label.id: label for label in load_library().described if label.security}
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
        self._texts = texts
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
        against = (tuple(background), tuple(negatives))
        self._taught: dict[int, TaughtSound] = {}
        self._mistakes: dict[int, Mistakes] = {}
        if model.everyday is not None:
            self._learn(model, model.everyday, list(by_id.values()), against)
        self._scales = self._measure(model, list(by_id.values()), against, room, sounding_hours)
        self._tables = [scale.table() for scale in self._scales]
        self.guessed = frozenset(
            label_id for label_id, scale in zip(self._scored, self._scales, strict=True) if scale is GUESS
        )
        """Ids of labels of which everyday sound says too little: what their scores mean is guessed."""

    def scale(self, label_id: str) -> ScoreScale:
        """What turns margins of a label that has prompts into its scores.

        Raises:
            ValueError: it is not scored.
        """
        return self._scales[self._scored.index(label_id)]

    def nearer_text(self, audio_embedding: NDArray[np.float32], label_id: str) -> NearerText | None:
        """What a window is more like than a label; None if nothing that the label is compared with is.

        Args:
            audio_embedding: ``(dimension,)``, L2-normalised.
            label_id: of a label; of one that texts do not tell there is None.
        """
        if label_id not in self._scored or self._scored.index(label_id) in self._taught:
            return None
        column = self._scored.index(label_id)
        cosines = self._embeddings @ np.asarray(audio_embedding, np.float64)
        own = float(cosines[self._prompt_weights[:, column] > 0].max())
        against = np.flatnonzero(self._bank_weights[:, column])
        best = against[np.argmax(cosines[against])]
        if cosines[best] <= own:
            return None
        return NearerText(self._texts[best], float(cosines[best]), own)

    def _knows(self, model: ClapModel, label: Label) -> bool:
        """Whether this model can tell what was taught; if not, nobody is told of it."""
        if label.taught is None:
            return True
        return label.taught.heard_by(model) and model.everyday is not None

    def _learn(
        self, model: ClapModel, bank: EverydayBank, labels: Sequence[Label], against: Hashable
    ) -> None:
        """Make ready for what the user taught, and for what the user called wrong."""
        for column, label in enumerate(labels):
            key = (label.taught, label.prompts, label.negatives, against)
            if label.taught is not None:
                text = partial(self._text_margins, columns=[column])
                self._taught[column] = taught_sound(key, label.taught, bank, text)
            wrong = [examples for examples in label.wrong if examples.heard_by(model)]
            if wrong and len(bank.codes):
                like = lookalikes(key, bank, partial(self._everyday_margins, bank, column))
                right = [examples for examples in label.right if examples.heard_by(model)]
                self._mistakes[column] = Mistakes(wrong, bank, like, right)

    def _everyday_margins(self, bank: EverydayBank, column: int) -> NDArray[np.float64]:
        """Of the windows of the model's own bank."""
        if column in self._taught:
            return self._taught[column].everyday
        return in_parts(bank, partial(self._text_margins, columns=[column]))[:, 0]

    def _bank(self, texts: Sequence[str], prompts: list[int]) -> NDArray[np.intp]:
        """Rows of the background that do not say the same as these prompts; at least half of it stays.

        A text says the same if the model puts it in nearly the same place, or if a prompt has all its words.
        """
        alike = likeness(
            [texts[row] for row in self._background],
            self._embeddings[self._background],
            [texts[row] for row in prompts],
            self._embeddings[prompts],
        )
        order = np.argsort(alike, kind="stable")
        keep = max(int((alike < NEAR_IDENTICAL).sum()), (len(order) + 1) // 2)
        return self._background[order[:keep]]

    def _measure(
        self,
        model: ClapModel,
        labels: Sequence[Label],
        against: tuple[tuple[str, ...], tuple[str, ...]],
        room: EverydayBank | None,
        sounding_hours: float,
    ) -> list[ScoreScale]:
        """Find what the margins of each label are worth."""
        banks = [bank for bank in (model.everyday, room) if bank is not None]
        tails = [self._tails(model, bank, labels, against) for bank in banks]
        scales = []
        for found in zip(*tails, strict=True):
            usable = [tail for tail in found if tail is not None]
            scales.append(ScoreScale(trust(usable), sounding_hours) if usable else GUESS)
        return scales or [GUESS] * len(labels)

    def _tails(
        self,
        model: ClapModel,
        bank: EverydayBank,
        labels: Sequence[Label],
        against: tuple[tuple[str, ...], tuple[str, ...]],
    ) -> list[Tail | None]:
        keys: list[Hashable] = [
            (label.id, label.library, label.kind, label.prompts, label.negatives, label.taught, *against)
            for label in labels
        ]
        found = _TAILS.known(bank, keys)
        missing = [column for column, key in enumerate(keys) if key not in found]
        if missing:
            margins = in_parts(bank, partial(self._margins, columns=missing))
            for place, column in enumerate(missing):
                if bank is model.everyday and column in self._taught:
                    margins[:, place] = self._taught[column].everyday
            for place, column in enumerate(missing):
                kept = bank.without(pieces_about(bank, model, labels[column]))
                found[keys[column]] = tail_of(margins[:, place], bank, kept, labels[column].kind)
            _TAILS.remember(bank, {keys[column]: found[keys[column]] for column in missing})
        return [found[key] for key in keys]

    def _soft(self, audio_embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        # Cosines are at most 1, so the exponential stays below 5e8: no shift is needed.
        cosines = np.asarray(audio_embeddings, np.float64) @ self._embeddings.T
        return np.asarray(np.exp(cosines / TEMPERATURE))

    def _text_margins(
        self, audio_embeddings: NDArray[np.float32], columns: Sequence[int]
    ) -> NDArray[np.float64]:
        soft = self._soft(audio_embeddings)
        prompts, bank = self._prompt_weights[:, columns], self._bank_weights[:, columns]
        return np.asarray(TEMPERATURE * (np.log(soft @ prompts) - np.log(soft @ bank)))

    def _margins(
        self, audio_embeddings: NDArray[np.float32], columns: Sequence[int] | None = None
    ) -> NDArray[np.float64]:
        chosen = range(len(self._scored)) if columns is None else columns
        found = self._text_margins(audio_embeddings, chosen)
        for place, column in enumerate(chosen):
            if column in self._taught:
                found[:, place] = self._taught[column].margins(audio_embeddings, found[:, place])
        return found

    def margins(self, audio_embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """How much better each label explains each window than the rest, in cosine.

        What was called a false alarm is not heeded here: it takes from scores alone.

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
        margins = self._margins(audio_embeddings)
        columns = [np.interp(column, *table) for table, column in zip(self._tables, margins.T, strict=True)]
        others = np.stack(columns, axis=1)
        for column, mistakes in self._mistakes.items():
            others[:, column] *= mistakes.kept(audio_embeddings)
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
