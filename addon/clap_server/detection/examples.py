"""Sounds by which a label is known beside its words: those that a user taught, or called wrong."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clap_server.clap.model import ClapModel


def made_for(model: ClapModel) -> str:
    """Say which model embeddings are of; those of another mean nothing to it."""
    return model.everyday.made_for if model.everyday is not None else f"{model.name} {model.dtype}"


@dataclass(frozen=True, slots=True)
class Examples:
    """Windows of some recordings, as one model hears them.

    Attributes:
        made_for: the model; see the function of this name.
        key: of the embeddings, by which two are compared.
        embeddings: ``(n, dimension)``, L2-normalised.
        recordings: ``(n,)`` number of the recording that each window is of, rising from 0.
    """

    made_for: str
    key: str
    embeddings: NDArray[np.float32] = field(compare=False, repr=False)
    recordings: NDArray[np.intp] = field(compare=False, repr=False)

    @classmethod
    def of(cls, made_for: str, recordings: Sequence[NDArray[np.floating]]) -> Self:
        """Gather recordings.

        Args:
            made_for: see the class.
            recordings: the windows of each, ``(windows, dimension)``.

        Raises:
            ValueError: there is not one window.
        """
        embeddings = np.concatenate(recordings).astype(np.float32)
        if not len(embeddings):
            raise ValueError("examples need at least one window")
        numbers = np.repeat(np.arange(len(recordings)), [len(windows) for windows in recordings])
        digest = hashlib.sha256(embeddings.tobytes())
        digest.update(numbers.tobytes())
        return cls(made_for, digest.hexdigest(), embeddings, numbers.astype(np.intp))

    def heard_by(self, model: ClapModel) -> bool:
        """Whether they are of this model; those of another, or of a damaged file, mean nothing to it."""
        return self.made_for == made_for(model) and self.embeddings.shape[1] == model.dimension

    def without(self, recording: int) -> Self:
        """Leave one of two or more recordings out."""
        return self.of(
            self.made_for,
            [
                self.embeddings[self.recordings == number]
                for number in np.unique(self.recordings)
                if number != recording
            ],
        )
