"""Keeps what a user called a false alarm from firing again, and little else.

A false alarm and the sounds that are meant are alike for the model, or it would have been none. So windows
are compared by what is left when the direction that all look-alikes of the label share is taken out, and only
what comes nearer to a false alarm than hardly any look-alike among everyday sound does counts as the same.
However many false alarms there are, together they take from one look-alike in fifty at most, so that not much
can be lost of a sound that is meant either. What is nearer to an event that the user called correct than to
any false alarm loses nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.detection.everyday.per_bank import PerBank
from clap_server.detection.everyday.space import EverydaySpace, normalised

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from numpy.typing import NDArray

    from clap_server.clap.everyday import EverydayBank
    from clap_server.detection.examples import Examples

LOOKALIKES = 400
"""Everyday windows that are most like the label."""

QUANTILE = 0.98
"""Of them are less like any of the false alarms than what loses something by them."""

SURE = 0.6
"""From this part of the way between that and equality on nothing of the score is left."""

_CERTAIN = 0.97
"""Cosine that counts as more than a look-alike's, whatever the look-alikes say."""

_KNOWN: PerBank[NDArray[np.intp]] = PerBank(200)


class Mistakes:
    """False alarms of one label at one microphone.

    Args:
        examples: of them.
        bank: of everyday sound, of the same model.
        lookalikes: numbers of the bank's windows that are most like the label.
        right: events of the label there that were no false alarms.
    """

    def __init__(
        self,
        examples: Sequence[Examples],
        bank: EverydayBank,
        lookalikes: NDArray[np.intp],
        right: Sequence[Examples] = (),
    ) -> None:
        self._space = EverydaySpace(bank, whitening=1.0)
        like = self._space.everyday(lookalikes)
        self._shared = normalised(like.mean(axis=0, keepdims=True))
        self._wrong = self._gathered(examples)
        self._right = self._gathered(right) if right else None
        placed = self._placed(like)
        self._from = np.minimum(np.quantile(placed @ self._wrong.T, QUANTILE, axis=0), _CERTAIN)
        self._beyond = min(float(np.quantile(self._nearness(placed), QUANTILE)), _CERTAIN)

    def kept(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """What is left of the scores of windows.

        Args:
            embeddings: ``(n, dimension)``, L2-normalised.

        Returns:
            ``(n,)`` from 0, the same sound again, to 1, another one.
        """
        placed = self._placed(self._space.project(embeddings))
        same = (self._nearness(placed) - self._beyond) / (1.0 - self._beyond)
        kept = np.asarray(1.0 - np.clip(same / SURE, 0.0, 1.0), np.float64)
        if self._right is not None:
            kept[(placed @ self._right.T).max(axis=1) > (placed @ self._wrong.T).max(axis=1)] = 1.0
        return kept

    def _gathered(self, examples: Sequence[Examples]) -> NDArray[np.float32]:
        return self._placed(self._space.project(np.concatenate([each.embeddings for each in examples])))

    def _nearness(self, placed: NDArray[np.float32]) -> NDArray[np.float32]:
        """To the nearest false alarm: 1 if the same, 0 where hardly any look-alike is nearer to that one."""
        return np.asarray(((placed @ self._wrong.T - self._from) / (1.0 - self._from)).max(axis=1))

    def _placed(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Without the shared direction, of length 1."""
        return normalised(windows - (windows @ self._shared.T) * self._shared)


def lookalikes(
    key: Hashable, bank: EverydayBank, margins: Callable[[], NDArray[np.float64]]
) -> NDArray[np.intp]:
    """The windows of a bank that are most like a label, ``(at most LOOKALIKES,)``.

    Args:
        key: of the label.
        bank: of everyday sound, not empty.
        margins: ``(n,)`` of the label, of the bank's windows.
    """
    return _KNOWN.get(bank, key, lambda: np.argsort(-margins(), kind="stable")[:LOOKALIKES])
