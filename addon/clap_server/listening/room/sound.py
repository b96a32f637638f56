"""What scoring is told of a microphone's room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_server.clap.everyday import EverydayBank, Piece
from clap_server.detection.everyday.rate import SOUNDING_HOURS_A_DAY
from clap_server.detection.everyday.scale import BLOCK_S, LEAST_BLOCKS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clap_server.clap.model import ClapModel
    from clap_server.listening.room.piece import RoomPiece

LEAST_KEPT_S = LEAST_BLOCKS * BLOCK_S
"""With less of its own sound nothing is said of a room."""


@dataclass(frozen=True, slots=True, eq=False)
class RoomSound:
    """What is known of a room at one time; another one replaces it.

    Attributes:
        model: whose embeddings the bank has.
        bank: of the room's everyday sound; None while there is too little.
        sounding_hours: of a day.
    """

    model: ClapModel | None = None
    bank: EverydayBank | None = None
    sounding_hours: float = SOUNDING_HOURS_A_DAY

    def bank_of(self, model: ClapModel) -> EverydayBank | None:
        """The bank, if a model can use it."""
        return self.bank if self.model is model else None


UNKNOWN = RoomSound()
"""Of a room of which nothing is known yet."""


def make_bank(pieces: Sequence[RoomPiece], made_for: str, hop_s: float) -> EverydayBank:
    """Put pieces, at least one, into a bank; blocks for about a second.

    Args:
        pieces: of the room.
        made_for: see ``EverydayBank``.
        hop_s: seconds between regular windows.
    """
    return EverydayBank.of(
        made_for,
        np.concatenate([piece.embeddings() for piece in pieces]),
        np.concatenate([piece.ends_s for piece in pieces]),
        np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces]),
        [Piece()] * len(pieces),
        hop_s=hop_s,
        sources="this room",
    )
