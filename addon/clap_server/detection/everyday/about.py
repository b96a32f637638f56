"""Which recordings of a bank hold what a label describes, and so are no everyday sound for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.detection.everyday.per_bank import PerBank
from clap_server.detection.likeness import NEAR_IDENTICAL, likeness

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clap_server.clap.everyday import EverydayBank
    from clap_server.clap.model import ClapModel
    from clap_server.detection.labels import Label

# Embeddings of all tags of a bank.
_TAGS: PerBank[NDArray[np.float32]] = PerBank(1)


def pieces_about(bank: EverydayBank, model: ClapModel, label: Label) -> NDArray[np.bool_]:
    """Find the pieces of a bank that hold a label.

    Of the library's labels each piece says so itself. For the user's own words it is a guess: where a tag
    says the same, or less (*rain* for the label *heavy rain*).

    Returns:
        ``(pieces,)``.

    Raises:
        ModelError: the model cannot embed the texts.
    """
    if label.library:
        return np.array([label.id in piece.holds for piece in bank.pieces], bool)
    tags = bank.tags
    if not tags:
        return np.zeros(len(bank.pieces), bool)
    embeddings = _TAGS.get(bank, tags, lambda: model.embed_text(tags))
    alike = likeness(tags, embeddings, label.prompts, model.embed_text(label.prompts))
    same = {tag for tag, value in zip(tags, alike, strict=True) if value >= NEAR_IDENTICAL}
    return np.array([not same.isdisjoint(piece.tags) for piece in bank.pieces], bool)
