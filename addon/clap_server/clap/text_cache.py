"""Text embeddings on disk, so that a restart does not compute them again."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

_LOGGER = logging.getLogger(__name__)

# Some 40 MB. Anyone who may classify can ask for new texts for ever.
_MOST_FILES = 10_000


class TextCache:
    """One model's text embeddings, one small file for each text.

    A file that is damaged or of the wrong shape counts as absent; a folder that cannot be written makes
    the cache useless but harms nothing. When there are too many files the oldest half goes.

    Args:
        folder: where the caches of all models lie.
        identity: of the model's weights; other weights never see these embeddings.
        dimension: length of an embedding.
        most: files at most.
    """

    def __init__(self, folder: Path, identity: str, dimension: int, *, most: int = _MOST_FILES) -> None:
        self._most = most
        self._files: int | None = None  # not counted yet
        self._folder = folder / _digest(identity)
        self._dimension = dimension
        self._writable = True

    def embed(
        self, texts: Sequence[str], compute: Callable[[Sequence[str]], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Look texts up, and have those computed that are missing.

        Args:
            texts: any number, repetitions allowed.
            compute: embeds texts that the cache does not have; not called when it has them all.

        Returns:
            ``(len(texts), dimension)``.
        """
        found = {text: self._read(text) for text in dict.fromkeys(texts)}
        missing = [text for text, embedding in found.items() if embedding is None]
        if missing:
            for text, embedding in zip(missing, compute(missing), strict=True):
                found[text] = embedding
                self._write(text, embedding)
        result = np.empty((len(texts), self._dimension), np.float32)
        for row, text in enumerate(texts):
            result[row] = found[text]
        return result

    def _path(self, text: str) -> Path:
        return self._folder / f"{_digest(text)}.npy"

    def _read(self, text: str) -> NDArray[np.float32] | None:
        path = self._path(text)
        try:
            embedding = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError) as error:
            _LOGGER.warning(
                "Cached text embedding %s is unreadable and is computed again: %s", path.name, error
            )
            return None
        # An npz archive would come back as another type.
        if not isinstance(embedding, np.ndarray) or embedding.shape != (self._dimension,):
            return None
        if embedding.dtype != np.float32 or not np.isfinite(embedding).all():
            return None
        return embedding

    def _write(self, text: str, embedding: NDArray[np.float32]) -> None:
        if not self._writable:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room()
            with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".tmp", delete=False) as file:
                temporary = Path(file.name)
                np.save(file, embedding)
            os.replace(temporary, self._path(text))  # noqa: PTH105 - os.replace is the atomic one by contract
        except OSError as error:
            self._writable = False
            _LOGGER.warning("Text embeddings cannot be cached in %s: %s", self._folder, error)

    def _make_room(self) -> None:
        if self._files is None:
            self._files = sum(1 for _ in self._folder.iterdir())
        if self._files >= self._most:
            paths = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
            for path in paths[: len(paths) // 2]:
                path.unlink(missing_ok=True)
            self._files = len(paths) - len(paths) // 2
        self._files += 1


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
