"""Whether a bank says enough of a label; if not, what its scores mean is guessed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.detection.everyday.evidence import evidence, maxima
from clap_server.detection.everyday.per_bank import PerBank
from clap_server.detection.everyday.scale import BLOCK_S, LEAST_BLOCKS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clap_server.clap.everyday import EverydayBank
    from clap_server.clap.model import ClapModel
    from clap_server.detection.labels import Label, LabelKind

_BLOCKS: PerBank[NDArray[np.intp]] = PerBank(2)
_GUESSED: PerBank[bool] = PerBank(500)


def is_guessed(model: ClapModel, label: Label) -> bool:
    """Whether the model's bank says too little of a label that it is to score.

    Of the library's labels that is known. Of other words it is told as if the bank held nothing of them,
    because the model is not asked here.
    """
    bank = model.everyday
    if bank is None:
        return True
    library_id = label.id if label.library else None
    return _GUESSED.get(
        bank, (label.kind, library_id), lambda: _says_too_little(bank, label.kind, library_id)
    )


def _says_too_little(bank: EverydayBank, kind: LabelKind, library_id: str | None) -> bool:
    blocks = _BLOCKS.get(bank, kind, lambda: _blocks(bank, kind))
    if library_id is not None:
        blocks = blocks[[library_id not in piece.holds for piece in bank.pieces]]
    return int(blocks.sum()) < LEAST_BLOCKS


def _blocks(bank: EverydayBank, kind: LabelKind) -> NDArray[np.intp]:
    """Of each piece, how many blocks are long enough that an event could start: see ``tail_of``."""
    nothing = np.zeros(len(bank.recordings))
    decided = evidence(nothing, bank.ends_s, bank.recordings, kind, hop_s=bank.hop_s)
    highest = maxima(decided, bank.ends_s, bank.recordings, block_s=BLOCK_S)
    pieces = maxima(bank.recordings.astype(np.float64), bank.ends_s, bank.recordings, block_s=BLOCK_S)
    usable = pieces[np.isfinite(highest)].astype(np.intp)
    return np.bincount(usable, minlength=len(bank.pieces))
