"""One queue to the model for all microphones.

A model computes many windows at once far faster than one by one, and only one thread may use it. So
windows of all microphones are collected for some milliseconds and embedded together, in turn and
fairly, in a thread of their own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from clap_server.errors import AudioError, ClapServerError, ModelError
from clap_server.listening.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from clap_server.clap.model import ClapModel

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")
_STOPS = "the server stops"
# Live windows wait no longer than this for windows of files, or for one of them if that takes longer.
_FILES_S = 0.1
_NO_NUMBERS = "the model returned no finite numbers"
# One may be an accident, of a window or of the memory of a moment.
_FAILURES = 3


class WindowDroppedError(ClapServerError):
    """The model is too slow for all microphones, so this window was not looked at."""


@dataclass(slots=True)
class BatcherMetrics:
    """Totals since the start, for /metrics.

    Attributes:
        batches: computed.
        windows: embedded in them.
        dropped: windows that gave way to newer ones.
        failed: windows for which the model failed.
        busy_s: seconds that the model worked.
        last_batch_size: windows in the newest batch.
        last_batch_s: seconds that it took.
    """

    batches: int = 0
    windows: int = 0
    dropped: int = 0
    failed: int = 0
    busy_s: float = 0.0
    last_batch_size: int = 0
    last_batch_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Item:
    model: ClapModel
    samples: Callable[[], NDArray[np.float32]]
    result: asyncio.Future[NDArray[np.float32]]
    live: bool


class Batcher:
    """Embeds windows for many owners. Everything but the model itself runs on the event loop.

    Args:
        max_batch: windows in a batch at most.
        collect_s: how long the first window waits for company.
        owner_limit: windows that wait for one owner at most; the oldest gives way.
        total_limit: windows that wait for all owners together at most.
        file_batch: windows of files in a batch at most, so that a live window never waits long behind them;
            of a slow model fewer.
        on_failure: called with a model that failed on several batches in a row, and why, in words.
    """

    def __init__(
        self,
        *,
        max_batch: int = 16,
        collect_s: float = 0.01,
        owner_limit: int = 6,
        total_limit: int = 256,
        file_batch: int = 4,
        on_failure: Callable[[ClapModel, str], None] = lambda _, __: None,
    ) -> None:
        self._max_batch = max_batch
        self._collect_s = collect_s
        self._owner_limit = owner_limit
        self._total_limit = total_limit
        self._file_batch = file_batch
        self._on_failure = on_failure
        self._failing: ClapModel | None = None
        self._failures = 0
        self._live: dict[str, deque[_Item]] = {}
        self._turns: deque[str] = deque()
        self._live_count = 0
        self._files: deque[_Item] = deque()
        self._arrived = asyncio.Event()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="clap-model")
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self.aside = asyncio.Lock()
        """Held around long work that uses the model beside all this; see ``run_aside``."""
        self.pace = Pace()
        """Whether a microphone should have all its windows looked at."""
        self.metrics = BatcherMetrics()

    @property
    def queue_length(self) -> int:
        """Windows that wait now, of microphones and files."""
        return self._live_count + len(self._files)

    @property
    def crowded(self) -> bool:
        """Whether so many microphones wait that each has to wait for several batches."""
        return self._live_count >= 2 * self._max_batch

    def start(self) -> None:
        """Begin to work."""
        self._task = asyncio.create_task(self._work(), name="batcher")
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """End; whoever still waits, or comes later, gets a ModelError."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._fail_waiting(_STOPS)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def submit(
        self, owner: str, model: ClapModel, samples: Callable[[], NDArray[np.float32]]
    ) -> asyncio.Future[NDArray[np.float32]]:
        """Queue a live window.

        Args:
            owner: a microphone's id; owners are served in turn.
            model: that the window was cut for.
            samples: gives ``(n,)`` at the model's rate; asked for when the window's turn comes, so that no
                work is done for one that is dropped.

        Returns:
            Its embedding ``(dimension,)`` to come; or WindowDroppedError, ModelError.
        """
        item = self._item(model, samples, live=True)
        if self._stopped:
            _fail(item, _STOPS)
            return item.result
        queue = self._live.get(owner)
        self.pace.take(late=queue is not None)
        if queue is None:
            queue = self._live[owner] = deque()
            self._turns.append(owner)
        queue.append(item)
        self._live_count += 1
        if len(queue) > self._owner_limit:
            self._drop(owner)
        elif self._live_count > self._total_limit:
            self._drop(max(self._live, key=lambda name: len(self._live[name])))
        return item.result

    def forget(self, owner: str) -> None:
        """Drop all that waits for an owner that has gone."""
        for item in self._live.pop(owner, ()):
            self._live_count -= 1
            item.result.cancel()
        if owner in self._turns:
            self._turns.remove(owner)

    async def embed(self, model: ClapModel, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embed the windows of a file, when live windows leave room.

        Returns:
            ``(n, dimension)``.

        Raises:
            ModelError: the model failed, or the server stops.
        """
        if self._stopped:
            raise ModelError(_STOPS)
        items = [self._item(model, partial(_itself, samples), live=False) for samples in windows]
        self._files.extend(items)
        try:
            rows = await asyncio.gather(*(item.result for item in items))
        finally:
            for item in items:
                item.result.cancel()
            self._files = deque(item for item in self._files if not item.result.done())
        return np.stack(rows) if rows else np.empty((0, model.dimension), np.float32)

    async def run(self, function: Callable[[], _T]) -> _T:
        """Run something else that uses a model, such as embedding texts, in the model's thread.

        Raises:
            ModelError: the server stops.
        """
        if self._stopped:
            raise ModelError(_STOPS)
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Notice that the worker died, which only a mistake in this file can cause; begin anew."""
        if not task.cancelled():
            _LOGGER.critical("The batcher broke off and begins anew", exc_info=task.exception())
            self._fail_waiting("the batcher broke off")
            self.start()

    def _fail_waiting(self, message: str) -> None:
        for item in (*self._files, *(item for queue in self._live.values() for item in queue)):
            _fail(item, message)
        self._files.clear()
        self._live.clear()
        self._live_count = 0
        self._turns.clear()

    def _item(self, model: ClapModel, samples: Callable[[], NDArray[np.float32]], *, live: bool) -> _Item:
        self._arrived.set()
        result: asyncio.Future[NDArray[np.float32]] = asyncio.get_running_loop().create_future()
        # A failure may reach an owner that has gone; it has been counted already.
        result.add_done_callback(lambda done: done.cancelled() or done.exception())
        return _Item(model, samples, result, live)

    def _drop(self, owner: str) -> None:
        queue = self._live[owner]
        item = queue.popleft()
        self._live_count -= 1
        if not queue:
            del self._live[owner]
            self._turns.remove(owner)
        self._give_up(item)

    def _give_up(self, item: _Item) -> None:
        if not item.result.done():
            self.metrics.dropped += 1
            item.result.set_exception(
                WindowDroppedError("the model is too slow for all microphones: use fewer, or a longer hop")
            )

    async def _work(self) -> None:
        while True:
            if not self.queue_length:
                self._arrived.clear()
                await self._arrived.wait()
                await asyncio.sleep(self._collect_s)
            # Kept in no variable: it would hold the sound of its owners until the next one.
            await self._embed(*self._read(self._next_batch()))

    def _next_batch(self) -> list[_Item]:
        """Take one window of each owner in turn, all for one model; then some of files."""
        batch: list[_Item] = []
        others = []
        room = self._max_batch - 1 if self._files else self._max_batch
        while self._turns and len(batch) < room:
            owner = self._turns.popleft()
            queue = self._live[owner]
            if batch and queue[0].model is not batch[0].model:
                others.append(owner)
                continue
            item = queue.popleft()
            self._live_count -= 1
            if queue:
                self._turns.append(owner)
            else:
                del self._live[owner]
            if not item.result.done():
                batch.append(item)
        self._turns.extendleft(reversed(others))
        room = len(batch) + 1 if batch else self._most_of_files()
        while self._files and len(batch) < room:
            if batch and self._files[0].model is not batch[0].model:
                break
            item = self._files.popleft()
            if not item.result.done():
                batch.append(item)
        return batch

    def _most_of_files(self) -> int:
        """How many windows of files may be embedded at once: a live one may come and would wait for them."""
        if not self.metrics.last_batch_size:
            return self._file_batch
        window_s = self.metrics.last_batch_s / self.metrics.last_batch_size
        return max(1, min(self._file_batch, int(_FILES_S / max(window_s, 1e-9))))

    def _read(self, batch: list[_Item]) -> tuple[list[_Item], list[NDArray[np.float32]]]:
        """Copy out the sound, as far as it is still there; of what waited too long it may not be."""
        kept, windows = [], []
        for item in batch:
            try:
                windows.append(item.samples())
            except AudioError:
                self._give_up(item)
            else:
                kept.append(item)
        return kept, windows

    async def _embed(self, batch: list[_Item], windows: list[NDArray[np.float32]]) -> None:
        if not batch:
            return
        started = time.perf_counter()
        try:
            rows = await asyncio.get_running_loop().run_in_executor(
                self._executor, batch[0].model.embed_audio, windows
            )
            if len(rows) != len(batch):
                raise ModelError(f"the model returned {len(rows)} embeddings for {len(batch)} windows")
        except asyncio.CancelledError:
            for item in batch:
                _fail(item, _STOPS)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, its owners are told and the others served
            self.metrics.failed += len(batch)
            for item in batch:
                _fail(item, f"the model failed on {len(batch)} windows: {error}")
            self._count_failure(batch[0].model, str(error).partition("\n")[0] or type(error).__name__)
            return
        took_s = time.perf_counter() - started
        self.metrics.batches += 1
        self.metrics.windows += len(batch)
        self.metrics.busy_s += took_s
        self.metrics.last_batch_size = len(batch)
        self.metrics.last_batch_s = took_s
        self.pace.worked(took_s * sum(item.live for item in batch) / len(batch))
        self._hand_out(batch, rows)

    def _hand_out(self, batch: list[_Item], rows: NDArray[np.float32]) -> None:
        usable = [bool(np.isfinite(row).all()) for row in rows]
        if any(usable):
            self._failing, self._failures = None, 0
        else:
            self._count_failure(batch[0].model, _NO_NUMBERS)
        for item, row, is_usable in zip(batch, rows, usable, strict=True):
            if not is_usable:
                self.metrics.failed += 1
                _fail(item, f"{_NO_NUMBERS} for a window")
            elif not item.result.done():
                item.result.set_result(row)

    def _count_failure(self, model: ClapModel, why: str) -> None:
        if model is not self._failing:
            self._failing, self._failures = model, 0
        self._failures += 1
        if self._failures >= _FAILURES:
            # Whoever holds it may drop it: it is not to be kept here.
            self._failing, self._failures = None, 0
            self._on_failure(model, why)


async def answer(
    embedding: asyncio.Future[NDArray[np.float32]],
) -> NDArray[np.float32] | WindowDroppedError | ModelError:
    """Wait for an embedding.

    What went wrong is returned: raised, its traceback would hold the caller's sound until the garbage is
    collected.
    """
    await asyncio.wait([embedding])
    error = embedding.exception()
    if error is None:
        return embedding.result()
    if isinstance(error, WindowDroppedError | ModelError):
        return error
    raise error


def _itself(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    return samples


def _fail(item: _Item, message: str) -> None:
    # Without its cause, whose traceback would hold the sound until the garbage is collected.
    if not item.result.done():
        item.result.set_exception(ModelError(message))
