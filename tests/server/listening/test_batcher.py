"""Many microphones share one model, fairly, and a failure stays with its owner."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from clap_server.errors import AudioError, ModelError
from clap_server.listening.batcher import Batcher, WindowDroppedError
from clap_server.listening.pace import Pace
from tests.server.listening.spectral import SpectralModel, room

WINDOW = room(1)


class HeldModel(SpectralModel):
    """Waits in each batch until it is let go; remembers which windows came together."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.began = threading.Event()
        self.seen: list[list[float]] = []
        self.threads: set[int] = set()

    def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        self.began.set()
        self.threads.add(threading.get_ident())
        assert self.go.wait(30)
        self.seen.append([float(window[0]) for window in windows])
        return super().embed_audio(windows)


class BrokenModel(SpectralModel):
    """Fails on windows that begin with 1; returns no numbers for those that begin with 2."""

    def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        if any(window[0] == 1 for window in windows):
            raise RuntimeError("out of memory")
        rows = super().embed_audio(windows)
        rows[[window[0] == 2 for window in windows]] = np.nan
        return rows if all(window[0] != 3 for window in windows) else rows[:-1]


def submit(
    batcher: Batcher, owner: str, model: SpectralModel, samples: NDArray[np.float32]
) -> asyncio.Future[NDArray[np.float32]]:
    return batcher.submit(owner, model, lambda: samples)


def marked(mark: float) -> NDArray[np.float32]:
    """A window that can be told from others."""
    samples = WINDOW.copy()
    samples[0] = mark
    return samples


@pytest.fixture
async def batcher() -> AsyncIterator[Batcher]:
    made = Batcher(max_batch=4, owner_limit=3, total_limit=8, file_batch=2)
    made.start()
    yield made
    await made.stop()


async def hold(batcher: Batcher, model: HeldModel) -> asyncio.Future[NDArray[np.float32]]:
    """Keep the model busy with one window."""
    first = submit(batcher, "first", model, marked(-1))
    await asyncio.to_thread(model.began.wait, 30)
    return first


async def test_a_window_gets_its_own_embedding_whatever_it_is_batched_with(batcher: Batcher) -> None:
    model = SpectralModel()
    windows = [room(1, seed=seed) for seed in range(8)]
    rows = await asyncio.gather(*(submit(batcher, f"m{i}", model, w) for i, w in enumerate(windows)))
    np.testing.assert_array_equal(np.stack(rows), model.embed_audio(windows))
    assert batcher.metrics.windows == 8
    assert batcher.metrics.batches < 8
    assert batcher.metrics.last_batch_size >= 1
    assert batcher.metrics.busy_s >= batcher.metrics.last_batch_s > 0
    assert batcher.queue_length == 0


async def test_the_model_is_used_by_one_thread_only(batcher: Batcher) -> None:
    model = HeldModel()
    model.go.set()
    for mark in range(5):
        await submit(batcher, "a", model, marked(mark))
    threads = model.threads | {await batcher.run(threading.get_ident)}
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_under_overload_the_oldest_window_is_dropped_and_counted(batcher: Batcher) -> None:
    model = HeldModel()
    first = await hold(batcher, model)
    waiting = [submit(batcher, "a", model, marked(mark)) for mark in range(5)]
    with pytest.raises(WindowDroppedError, match="longer hop"):
        await waiting[0]
    with pytest.raises(WindowDroppedError):
        await waiting[1]
    model.go.set()
    await asyncio.gather(first, *waiting[2:])
    assert batcher.metrics.dropped == 2


async def test_the_queue_is_bounded_over_all_microphones(batcher: Batcher) -> None:
    model = HeldModel()
    first = await hold(batcher, model)
    waiting = [submit(batcher, f"m{mark}", model, marked(mark)) for mark in range(20)]
    assert batcher.queue_length == 8
    model.go.set()
    results = await asyncio.gather(first, *waiting, return_exceptions=True)
    assert [isinstance(result, WindowDroppedError) for result in results] == [False] + [True] * 12 + [
        False
    ] * 8


async def test_a_busy_microphone_does_not_keep_another_waiting(batcher: Batcher) -> None:
    model = HeldModel()
    first = await hold(batcher, model)
    waiting = [submit(batcher, "busy", model, marked(mark)) for mark in (1, 2, 3)]
    waiting += [submit(batcher, f"quiet{mark}", model, marked(mark)) for mark in (10, 11)]
    model.go.set()
    await asyncio.gather(first, *waiting)
    assert model.seen[1] == [1, 10, 11, 2]


async def test_files_wait_behind_live_windows_but_are_not_starved(batcher: Batcher) -> None:
    model = HeldModel()
    first = await hold(batcher, model)
    file = asyncio.create_task(batcher.embed(model, [marked(100 + mark) for mark in range(4)]))
    await asyncio.sleep(0)
    live = [submit(batcher, f"m{mark}", model, marked(mark)) for mark in range(6)]
    model.go.set()
    await asyncio.gather(first, *live)
    rows = await file
    assert rows.shape == (4, model.dimension)
    assert model.seen[1] == [0, 1, 2, 100]
    assert model.seen[2] == [3, 4, 5, 101]
    assert model.seen[3] == [102, 103]


class Told(Pace):
    """Remembers what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.late: list[bool] = []
        self.busy_s = 0.0

    def take(self, *, late: bool) -> None:
        self.late.append(late)

    def worked(self, seconds: float) -> None:
        self.busy_s += seconds


async def test_the_pace_is_told_of_live_windows_alone(batcher: Batcher) -> None:
    batcher.pace = told = Told()
    model = HeldModel()
    first = await hold(batcher, model)
    waiting = [submit(batcher, owner, model, WINDOW) for owner in ("a", "b", "a")]
    model.go.set()
    await asyncio.gather(first, *waiting)
    assert told.late == [False, False, False, True]
    assert told.busy_s == batcher.metrics.busy_s
    await batcher.embed(model, [WINDOW] * 3)
    assert told.busy_s < batcher.metrics.busy_s
    assert len(told.late) == 4


async def test_of_a_slow_model_a_live_window_waits_for_one_window_of_a_file_at_most(batcher: Batcher) -> None:
    model = HeldModel()
    first = await hold(batcher, model)
    # Of a checkpoint on a small computer.
    batcher.metrics.last_batch_size, batcher.metrics.last_batch_s = 4, 2.0
    file = asyncio.create_task(batcher.embed(model, [marked(100 + mark) for mark in range(4)]))
    await asyncio.sleep(0)
    batch = batcher._next_batch()
    assert len(batch) == 1
    batcher.metrics.last_batch_s = 0.01
    assert len(batcher._next_batch()) == 2
    model.go.set()
    await first
    file.cancel()
    await asyncio.gather(file, return_exceptions=True)


async def test_a_file_without_windows_has_no_embeddings(batcher: Batcher) -> None:
    model = SpectralModel()
    assert (await batcher.embed(model, [])).shape == (0, model.dimension)


async def test_windows_of_an_abandoned_file_are_not_embedded(batcher: Batcher) -> None:
    model = HeldModel()
    first = await hold(batcher, model)
    file = asyncio.create_task(batcher.embed(model, [marked(100)]))
    await asyncio.sleep(0)
    file.cancel()
    await asyncio.gather(file, return_exceptions=True)
    model.go.set()
    await first
    await submit(batcher, "a", model, marked(5))
    assert model.seen == [[-1], [5]]


async def test_a_failing_batch_is_told_to_its_owners_and_the_next_one_works(batcher: Batcher) -> None:
    model = BrokenModel()
    with pytest.raises(ModelError, match="out of memory"):
        await submit(batcher, "a", model, marked(1))
    with pytest.raises(ModelError, match="no finite numbers"):
        await submit(batcher, "a", model, marked(2))
    with pytest.raises(ModelError, match="0 embeddings for 1 windows"):
        await batcher.embed(model, [marked(3)])
    assert np.isfinite(await submit(batcher, "a", model, marked(0))).all()
    assert batcher.metrics.failed == 3


async def test_a_window_is_embedded_by_the_model_it_was_cut_for(batcher: Batcher) -> None:
    held, old, new = HeldModel(), SpectralModel(), SpectralModel()
    first = await hold(batcher, held)
    waiting = [
        submit(batcher, owner, model, WINDOW)
        for owner, model in (("a", old), ("b", new), ("c", old), ("a", new))
    ]
    file = asyncio.create_task(batcher.embed(new, [WINDOW]))
    held.go.set()
    await asyncio.gather(first, *waiting, file)
    assert sum(old.batches) == 2
    assert sum(new.batches) == 3


async def test_stopping_tells_those_who_wait() -> None:
    batcher = Batcher()
    model = HeldModel()
    batcher.start()
    first = await hold(batcher, model)
    waiting = submit(batcher, "a", model, WINDOW)
    await batcher.stop()
    for future in (first, waiting):
        with pytest.raises(ModelError, match="the server stops"):
            await future
    model.go.set()


async def test_a_batcher_that_never_started_can_be_stopped() -> None:
    await Batcher().stop()


async def test_a_batcher_that_broke_off_says_so_and_begins_anew(
    batcher: Batcher, caplog: pytest.LogCaptureFixture
) -> None:
    model = SpectralModel()
    # No input is known that does this, so its state is spoilt by hand.
    batcher._turns.append("nobody")
    with pytest.raises(ModelError, match="broke off"):
        await submit(batcher, "a", model, WINDOW)
    assert (await submit(batcher, "a", model, WINDOW)).shape == (model.dimension,)
    assert "begins anew" in caplog.text


async def test_the_sound_of_a_window_that_is_dropped_is_never_read(batcher: Batcher) -> None:
    model = HeldModel()
    first = await hold(batcher, model)
    read: list[int] = []

    def window(number: int) -> NDArray[np.float32]:
        read.append(number)
        return marked(number)

    waiting = [batcher.submit("a", model, partial(window, number)) for number in range(20)]
    assert read == []
    model.go.set()
    await asyncio.gather(first, *waiting, return_exceptions=True)
    assert read == [17, 18, 19]
    assert batcher.metrics.dropped == 17


async def test_a_window_whose_sound_is_forgotten_counts_as_dropped(batcher: Batcher) -> None:
    def forgotten() -> NDArray[np.float32]:
        raise AudioError("samples 1 to 2 are not held")

    model = SpectralModel()
    with pytest.raises(WindowDroppedError):
        await batcher.submit("a", model, forgotten)
    assert batcher.metrics.dropped == 1
    assert (await submit(batcher, "a", model, WINDOW)).shape == (model.dimension,)


async def test_the_backlog_goes_with_its_owner(batcher: Batcher) -> None:
    model = HeldModel()
    first = await hold(batcher, model)
    departed = [submit(batcher, "departed", model, marked(mark)) for mark in (1, 2, 3)]
    stays = submit(batcher, "stays", model, marked(9))
    batcher.forget("departed")
    batcher.forget("nobody")
    assert batcher.queue_length == 1
    model.go.set()
    await asyncio.gather(first, stays)
    assert model.seen == [[-1], [9]]
    assert all(future.cancelled() for future in departed)
    assert batcher.metrics.dropped == 0


async def test_after_the_stop_everyone_is_told_at_once() -> None:
    batcher = Batcher()
    batcher.start()
    await batcher.stop()
    model = SpectralModel()
    with pytest.raises(ModelError, match="the server stops"):
        await batcher.embed(model, [WINDOW])
    with pytest.raises(ModelError, match="the server stops"):
        await submit(batcher, "a", model, WINDOW)
    with pytest.raises(ModelError, match="the server stops"):
        await batcher.run(lambda: None)
    assert batcher.queue_length == 0


async def test_a_file_that_waits_when_the_server_stops_is_told() -> None:
    batcher = Batcher()
    model = HeldModel()
    batcher.start()
    first = await hold(batcher, model)
    file = asyncio.create_task(batcher.embed(model, [WINDOW] * 3))
    await asyncio.sleep(0)
    await batcher.stop()
    with pytest.raises(ModelError, match="the server stops"):
        await file
    with pytest.raises(ModelError, match="the server stops"):
        await first
    model.go.set()
