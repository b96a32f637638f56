"""Everyday sound for a model that has none: synthesised homes, heard as a microphone would hear them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server import synthesis
from clap_server.clap.everyday import EverydayBank, Piece
from clap_server.detection.recording import hear
from clap_server.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from clap_server.clap.model import ClapModel
    from clap_server.detection.front import Heard

    Maker = Callable[[np.random.Generator, int], NDArray[np.float32]]

HOP_S = 0.5
VERSION = 1
"""Of what is synthesised; part of the cache's key."""

_SEED = 20261127
_PIECE_S = 20.0
_PIECES = 60
# Different ones of its kind in a piece.
_SOUNDS = 3
_PAUSE_S = (0.3, 2.5)
_SNR_DB = (0.0, 30.0)

# What homes sound like, what of the library each may pass for, and words for it.
_EVERYDAY: tuple[tuple[Maker, Piece], ...] = (
    (synthesis.dishes, Piece(tags=("dishes",))),
    (synthesis.cutlery, Piece(tags=("cutlery",))),
    (synthesis.glass_clink, Piece(tags=("clinking glasses",))),
    (synthesis.coins, Piece(tags=("coins",))),
    (synthesis.keys, Piece(tags=("keys",))),
    (synthesis.thud, Piece(frozenset({"door_slam", "footsteps"}), ("a thud",))),
    (synthesis.babble, Piece(frozenset({"speech"}), ("speech", "people talking"))),
    (synthesis.music, Piece(frozenset({"music"}), ("music",))),
    (synthesis.appliance_beeps, Piece(frozenset({"appliance_beep"}), ("beeps", "a microwave oven"))),
    (synthesis.ringtone, Piece(frozenset({"phone_ringing"}), ("a ringtone", "a telephone"))),
    (synthesis.fireworks, Piece(frozenset({"explosion_gunshot"}), ("fireworks",))),
    (synthesis.noise, Piece(tags=("noise",))),
)


class BankMaker:
    """Gathers embeddings of recordings, one after the other.

    Args:
        model: embeds.
        hop_s: seconds between windows.
    """

    def __init__(self, model: ClapModel, *, hop_s: float = HOP_S) -> None:
        self._model = model
        self._hop_s = hop_s
        self._embeddings: list[NDArray[np.float32]] = []
        self._ends_s: list[float] = []
        self._recordings: list[int] = []
        self._pieces: list[Piece] = []

    def add(self, blocks: Iterable[NDArray[np.float32]], piece: Piece) -> None:
        """Hear a recording as live sound and keep what is above the gate.

        Args:
            blocks: each ``(n,)`` mono at the model's rate, full scale -1..1.
            piece: what it is.
        """
        self.take(hear(self._model, blocks, hop_s=self._hop_s), piece)

    def take(self, windows: Iterable[tuple[list[Heard], NDArray[np.float32]]], piece: Piece) -> None:
        """Keep what is above the gate of a recording that was heard already.

        Args:
            windows: as ``hear`` yields them, with this maker's hop.
            piece: what it is.
        """
        number = len(self._pieces)
        self._pieces.append(piece)
        for batch, embeddings in windows:
            admitted = np.array([heard.admitted for heard in batch], bool)
            self._embeddings.append(embeddings[admitted])
            self._ends_s += [heard.window.end_s for heard in batch if heard.admitted]
            self._recordings += [number] * int(admitted.sum())

    def bank(self, made_for: str, sources: str) -> EverydayBank:
        """What was gathered.

        Args:
            made_for: see ``EverydayBank``.
            sources: see ``EverydayBank``.

        Raises:
            ModelError: an embedding is not a number, so the model is unusable.
        """
        empty = np.zeros((0, self._model.dimension), np.float32)
        embeddings = np.concatenate([empty, *self._embeddings])
        if not np.isfinite(embeddings).all():
            raise ModelError(
                "The model gives embeddings that are not numbers: download it again or use another."
            )
        return EverydayBank.of(
            made_for,
            embeddings,
            np.array(self._ends_s, np.float64),
            np.array(self._recordings, np.intp),
            self._pieces,
            hop_s=self._hop_s,
            sources=sources,
        )


def synthesised_bank(model: ClapModel, made_for: str, progress: Callable[[str], None]) -> EverydayBank:
    """Make twenty minutes of home life from nothing but numbers. Blocks, for minutes with a large model.

    Each piece is one kind of sound, again and again, in a room, over noise.

    Args:
        model: hears it.
        made_for: see ``EverydayBank``.
        progress: called with a line of text.
    """
    rng = np.random.default_rng(_SEED)
    maker = BankMaker(model)
    for number in range(_PIECES):
        make, piece = _EVERYDAY[number % len(_EVERYDAY)]
        maker.add([_home(make, rng, model.sample_rate)], piece)
        progress(f"Listening to everyday sound with {model.name}: {100 * (number + 1) // _PIECES} %")
    return maker.bank(made_for, "synthesised sounds")


def _home(make: Maker, rng: np.random.Generator, rate: int) -> NDArray[np.float32]:
    """``_PIECE_S`` of one kind of sound in a room."""
    count = round(_PIECE_S * rate)
    noise = synthesis.noise(rng, rate, duration_s=_PIECE_S)[:count]
    scene = np.zeros(count, np.float32)
    scene[: len(noise)] = noise * rng.uniform(0.005, 0.1)
    sounds = [synthesis.reverberate(make(rng, rate), rng, rate) for _ in range(_SOUNDS)]
    at_s = rng.uniform(*_PAUSE_S)
    while at_s < _PIECE_S - 1.0:
        sound = sounds[rng.integers(_SOUNDS)]
        scene = synthesis.mix_at(scene, sound, at_s, rng.uniform(*_SNR_DB), rate)
        at_s += len(sound) / rate + rng.uniform(*_PAUSE_S)
    return scene
