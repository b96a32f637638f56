"""How much a window sounds like what a user taught, and not like everyday sound.

A cache adapter that needs no training (Zhang et al., "Tip-Adapter", ECCV 2022): with ``a`` the window,
``e_i`` the examples and ``n_j`` the everyday windows that are most like them::

    raw = T log( 1/I sum_i exp(a.e_i / T) )  -  1/2 T log( 1/J sum_j exp(a.n_j / T) )  +  w * text margin
    margin = -log( top - raw )

Products are cosines among the principal components of everyday sound, less their mean, and with those that
vary much shrunk by the root of how much they do: what all sounds have in common says nothing. The words count
(``w`` is not 0) only if they tell the examples from everyday sound. ``top`` is a little above what the
examples themselves reach: cosines end at 1, and without the logarithm a tail that is fitted to them would
promise far more false alarms than come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.detection.everyday.per_bank import PerBank
from clap_server.detection.everyday.space import EverydaySpace, normalised

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray

    from clap_server.clap.everyday import EverydayBank
    from clap_server.detection.examples import Examples

TEMPERATURE = 0.2
"""Width of the soft maxima, in cosine."""

NEAREST = 200
"""Everyday windows of each half of the bank that stand for what the sound is not."""

WRONG_COUNTS = 0.5
"""Weight of what the sound is not."""

WORDS_COUNT = 0.5
"""Weight of the text margin where the words mean something."""

_ABOVE_TOP = 0.03
# So much of a bank is measured in one go.
_ROWS_AT_ONCE = 4096
_TELLING = 0.99
"""Share of everyday windows that the words must put below the median example to mean something."""


class TaughtSound:
    """Compares windows with the examples of one taught sound.

    The everyday windows that stand for what it is not are left out when the margins of everyday sound itself
    are taken (``everyday``): of each half of the recordings they are those of the other half, so that nothing
    is compared with itself.

    Args:
        examples: of the model of the bank.
        bank: of everyday sound.
        text: ``(n,)`` text margins of the bank's windows.
        example_text: ``(examples,)`` text margins of the examples.
    """

    def __init__(
        self,
        examples: Examples,
        bank: EverydayBank,
        text: NDArray[np.float64],
        example_text: NDArray[np.float64],
    ) -> None:
        self._space = EverydaySpace(bank, whitening=0.5)
        self._examples = normalised(self._space.project(examples.embeddings))
        everyday = normalised(self._space.everyday())
        likeness = _soft_max(everyday, self._examples)
        halves = bank.recordings % 2
        nearest = [_nearest(everyday[halves == half], likeness[halves == half]) for half in (0, 1)]
        self._wrong = np.concatenate(nearest)
        telling = np.median(example_text) > np.quantile(text, _TELLING)
        self._words = WORDS_COUNT if telling else 0.0
        unlike = np.where(halves == 0, _soft_max(everyday, nearest[1]), _soft_max(everyday, nearest[0]))
        self._top = float(self._raw(self._examples, example_text).max()) + _ABOVE_TOP
        self.everyday = self._stretched(likeness - WRONG_COUNTS * unlike + self._words * text)
        """``(n,)`` margins of the bank's windows."""

    def margins(self, embeddings: NDArray[np.float32], text: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of windows.

        Args:
            embeddings: ``(n, dimension)``, L2-normalised.
            text: ``(n,)`` their text margins.
        """
        return self._stretched(self._raw(normalised(self._space.project(embeddings)), text))

    def _raw(self, placed: NDArray[np.float32], text: NDArray[np.float64]) -> NDArray[np.float64]:
        alike, unlike = _soft_max(placed, self._examples), _soft_max(placed, self._wrong)
        return np.asarray(alike - WRONG_COUNTS * unlike + self._words * text)

    def _stretched(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(-np.log(np.maximum(self._top - raw, _ABOVE_TOP / 4)))


def in_parts(
    bank: EverydayBank, margins: Callable[[NDArray[np.float32]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Margins of all windows of a bank, ``(n, ...)``, in parts so that little memory is needed."""
    rows = range(0, max(len(bank.codes), 1), _ROWS_AT_ONCE)
    return np.concatenate([margins(bank.embeddings(slice(start, start + _ROWS_AT_ONCE))) for start in rows])


_KNOWN: PerBank[TaughtSound] = PerBank(50)


def taught_sound(
    key: Hashable,
    examples: Examples,
    bank: EverydayBank,
    text_margins: Callable[[NDArray[np.float32]], NDArray[np.float64]],
) -> TaughtSound:
    """Make it, or find it made: many microphones may listen for the same sound.

    Args:
        key: of all that it depends on beside the bank.
        examples: see ``TaughtSound``.
        bank: see ``TaughtSound``.
        text_margins: from embeddings ``(n, dimension)`` to ``(n, 1)``.
    """
    return _KNOWN.get(
        bank,
        key,
        lambda: TaughtSound(
            examples, bank, in_parts(bank, text_margins)[:, 0], text_margins(examples.embeddings)[:, 0]
        ),
    )


def _nearest(everyday: NDArray[np.float32], likeness: NDArray[np.float64]) -> NDArray[np.float32]:
    return everyday[np.argsort(-likeness, kind="stable")[:NEAREST]]


def _soft_max(windows: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """``(n,)`` how near each of ``n`` windows comes to the nearest of the others, about."""
    # Cosines are at most 1: no shift is needed.
    raised = np.exp((windows @ others.T) / TEMPERATURE, dtype=np.float32)
    return np.asarray(TEMPERATURE * np.log(raised.mean(axis=1, dtype=np.float64)))
