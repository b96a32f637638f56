"""The model for a thread that works long while microphones go on listening."""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from clap_server.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from concurrent.futures import Future
    from typing import Any

    from numpy.typing import NDArray

    from clap_server.clap.everyday import EverydayBank
    from clap_server.clap.model import ClapModel
    from clap_server.listening.batcher import Batcher

_T = TypeVar("_T")
# Live windows wait until so many are embedded: some tens of milliseconds with the slowest model.
TEXTS_AT_ONCE = 4


class SharedModel:
    """A ``ClapModel`` that waits its turn: live windows come first.

    Made on the event loop, used from one other thread.
    """

    def __init__(self, model: ClapModel, batcher: Batcher) -> None:
        self._model = model
        self._batcher = batcher
        self._loop = asyncio.get_running_loop()
        self._abandoned = False
        self._waiting: Future[NDArray[np.float32]] | None = None

    @property
    def name(self) -> str:
        """As the model's own."""
        return self._model.name

    @property
    def builtin(self) -> bool:
        """As the model's own."""
        return self._model.builtin

    @property
    def device(self) -> str:
        """As the model's own."""
        return self._model.device

    @property
    def dtype(self) -> str:
        """As the model's own."""
        return self._model.dtype

    @property
    def sample_rate(self) -> int:
        """As the model's own, in Hz."""
        return self._model.sample_rate

    @property
    def window_s(self) -> float:
        """As the model's own, in seconds."""
        return self._model.window_s

    @property
    def dimension(self) -> int:
        """As the model's own."""
        return self._model.dimension

    @property
    def everyday(self) -> EverydayBank | None:
        """As the model's own."""
        return self._model.everyday

    def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embed windows when live ones leave room; see ``ClapModel``.

        Raises:
            ModelError: the model failed, or the work was abandoned.
        """
        return self._wait(self._batcher.embed(self._model, windows))

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts in the model's own thread, some at a time, between live windows; see ``ClapModel``."""
        parts = [
            self._wait(
                self._batcher.run(partial(self._model.embed_text, texts[first : first + TEXTS_AT_ONCE]))
            )
            for first in range(0, len(texts), TEXTS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.dimension), np.float32)

    def abandon(self) -> None:
        """Let the thread that waits, or comes to wait, fail: nobody needs its result any more."""
        self._abandoned = True
        if self._waiting is not None:
            self._waiting.cancel()

    def _wait(self, work: Coroutine[Any, Any, NDArray[np.float32]]) -> NDArray[np.float32]:
        self._waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        if self._abandoned:
            self._waiting.cancel()
        try:
            return self._waiting.result()
        except CancelledError:
            raise ModelError("the work was abandoned") from None
        finally:
            self._waiting = None


async def run_aside(model: ClapModel, batcher: Batcher, function: Callable[[ClapModel], _T]) -> _T:
    """Run long work that needs the model now and then, in a thread of its own: no window waits for it.

    One at a time for all microphones.

    Args:
        model: to be used.
        batcher: runs it.
        function: the work; gets the model to use.

    Raises:
        ModelError: the model failed, or the server stops.
    """
    shared = SharedModel(model, batcher)
    async with batcher.aside:
        try:
            return await asyncio.to_thread(function, shared)
        finally:
            shared.abandon()
