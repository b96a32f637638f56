"""Embeddings of everyday sound, with the hours that they stand for: what every label is measured against."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from clap_server.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FORMAT = 1
MOST_COMPONENTS = 96
"""Principal components that a bank keeps of an embedding."""

LONGEST_HOP_S = 60.0
"""A bank with more between its windows stands for hours that nobody heard."""

_CODES = 127


class _UnfitError(ValueError):
    """Parts of a bank do not fit together; says which."""


def _texts(found: object) -> list[str]:
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise _UnfitError("its recordings are not described in words")
    return found


@dataclass(frozen=True, slots=True)
class Piece:
    """One recording of a bank.

    Attributes:
        holds: ids of library labels that may be heard in it; for these it is no everyday sound.
        tags: what is heard in it, in words; it is left out for labels that say the same, or more.
    """

    holds: frozenset[str] = frozenset()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class EverydayBank:
    """Windows above the gate of recordings in which nothing happens that is worth an alarm.

    Embeddings are kept as 8-bit principal components; ``embeddings()`` gives them back, nearly.

    Attributes:
        made_for: the model whose embeddings they are (see ``model_key``).
        codes: ``(n, k)`` int8.
        basis: ``(k, dimension)`` what a step of each component is in embedding space.
        mean: ``(dimension,)`` of all embeddings.
        ends_s: ``(n,)`` end of each window in its recording, seconds, rising.
        recordings: ``(n,)`` number of its piece, rising.
        pieces: the recordings.
        hop_s: seconds between regular windows.
        sources: what they were made from, in words.
    """

    made_for: str
    codes: NDArray[np.int8]
    basis: NDArray[np.float32]
    mean: NDArray[np.float32]
    ends_s: NDArray[np.float64]
    recordings: NDArray[np.intp]
    pieces: tuple[Piece, ...]
    hop_s: float
    sources: str

    @classmethod
    def of(
        cls,
        made_for: str,
        embeddings: NDArray[np.float32],
        ends_s: NDArray[np.float64],
        recordings: NDArray[np.intp],
        pieces: Sequence[Piece],
        *,
        hop_s: float,
        sources: str,
    ) -> Self:
        """Make a bank of embeddings.

        Args:
            made_for: see the class.
            embeddings: ``(n, dimension)``, L2-normalised.
            ends_s: see the class.
            recordings: see the class.
            pieces: see the class.
            hop_s: see the class.
            sources: see the class.
        """
        mean = embeddings.mean(axis=0) if len(embeddings) else np.zeros(embeddings.shape[1], np.float32)
        centred = embeddings - mean
        _, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64))
        axes = vectors[:, ::-1][:, :MOST_COMPONENTS].T.astype(np.float32)
        components = centred @ axes.T
        steps = np.maximum(np.abs(components).max(axis=0, initial=0.0), 1e-9) / _CODES
        return cls(
            made_for,
            np.rint(components / steps).astype(np.int8),
            (axes * steps[:, None]).astype(np.float32),
            mean.astype(np.float32),
            np.asarray(ends_s, np.float64),
            np.asarray(recordings, np.intp),
            tuple(pieces),
            hop_s,
            sources,
        )

    def joined(self, other: Self) -> Self:
        """A bank with the pieces of both."""
        return self.of(
            self.made_for,
            np.concatenate([self.embeddings(), other.embeddings()]),
            np.concatenate([self.ends_s, other.ends_s]),
            np.concatenate([self.recordings, other.recordings + len(self.pieces)]),
            (*self.pieces, *other.pieces),
            hop_s=self.hop_s,
            sources=f"{self.sources}; {other.sources}",
        )

    def embeddings(self, rows: slice = slice(None)) -> NDArray[np.float32]:
        """``(rows, dimension)``, L2-normalised."""
        found = self.codes[rows].astype(np.float32) @ self.basis + self.mean
        return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9), np.float32)

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """All tags of the pieces, each once."""
        return tuple(sorted({tag for piece in self.pieces for tag in piece.tags}))

    @cached_property
    def seconds(self) -> NDArray[np.float64]:
        """``(n,)`` sound that each window adds to its recording, seconds."""
        since = np.diff(self.ends_s, prepend=0.0)
        first = np.diff(self.recordings, prepend=-1) != 0
        return np.where(first, self.hop_s, np.minimum(since, self.hop_s))

    @property
    def hours(self) -> float:
        """Sound above the gate, hours."""
        return float(self.seconds.sum()) / 3600.0

    def without(self, left_out: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which windows, ``(n,)``, are of pieces that are not left out, ``(pieces,)``."""
        return np.asarray(~left_out[self.recordings])

    def save(self, path: Path) -> None:
        """Write it as one compressed file, in one step.

        Raises:
            OSError: it cannot be written; what was there before is untouched.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.tmp")
        about = {
            "format": FORMAT,
            "made_for": self.made_for,
            "hop_s": self.hop_s,
            "sources": self.sources,
            "pieces": [{"holds": sorted(piece.holds), "tags": piece.tags} for piece in self.pieces],
        }
        try:
            with temporary.open("wb") as file:
                np.savez_compressed(
                    file,
                    about=np.frombuffer(json.dumps(about, ensure_ascii=False).encode(), np.uint8),
                    codes=self.codes,
                    basis=self.basis.astype(np.float16),
                    mean=self.mean.astype(np.float32),
                    # In hundredths: exact enough for rules that count tenths.
                    ends_cs=np.rint(self.ends_s * 100).astype(np.uint32),
                    recordings=self.recordings.astype(np.uint32),
                )
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ModelError: it is damaged, or of another format.
            FileNotFoundError: there is none.
        """
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ModelError(
                f"The bank of everyday sound {path} cannot be read: {error.strerror or error}"
            ) from error
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as parts:
                about = json.loads(parts["about"].tobytes())
                if about["format"] != FORMAT:
                    raise _UnfitError(f"it has another format ({about['format']!r:.20}) than this version's")
                found = cls(
                    str(about["made_for"]),
                    parts["codes"].astype(np.int8),
                    parts["basis"].astype(np.float32),
                    parts["mean"].astype(np.float32),
                    parts["ends_cs"].astype(np.float64) / 100,
                    parts["recordings"].astype(np.intp),
                    tuple(
                        Piece(frozenset(_texts(piece["holds"])), tuple(_texts(piece["tags"])))
                        for piece in about["pieces"]
                    ),
                    float(about["hop_s"]),
                    str(about["sources"]),
                )
            found.check()
        except _UnfitError as error:
            raise ModelError(f"The bank of everyday sound {path} is damaged: {error}") from error
        except Exception as error:  # what was cut or changed makes its parsers raise whatever they raise
            raise ModelError(
                f"The bank of everyday sound {path} is damaged: it was cut off, or is no such file"
            ) from error
        return found

    def check(self) -> None:
        """Check that the parts fit together.

        Raises:
            ValueError: they do not.
        """
        count, components = self.codes.shape
        if self.basis.shape != (components, len(self.mean)) or not np.isfinite(self.basis).all():
            raise _UnfitError("its components do not fit together")
        if self.ends_s.shape != (count,) or self.recordings.shape != (count,):
            raise _UnfitError("its windows do not fit together")
        if count and (np.any(np.diff(self.recordings) < 0) or self.recordings[-1] >= len(self.pieces)):
            raise _UnfitError("its recordings do not fit together")
        going_on = np.diff(self.recordings) == 0
        if np.any(np.diff(self.ends_s)[going_on] < 0):
            raise _UnfitError("its windows are out of order")
        if not 0 < self.hop_s <= LONGEST_HOP_S or not np.isfinite(self.mean).all():
            raise _UnfitError("some of its values make no sense")
