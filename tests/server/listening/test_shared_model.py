"""Long work beside live windows neither waits for the model's thread nor keeps windows waiting."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.errors import ModelError
from clap_server.listening.batcher import Batcher
from clap_server.listening.shared_model import run_aside
from tests.server.listening.spectral import SpectralModel, room

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from numpy.typing import NDArray

    from clap_server.clap.model import ClapModel


@pytest.fixture
async def batcher() -> AsyncIterator[Batcher]:
    batcher = Batcher()
    batcher.start()
    yield batcher
    await batcher.stop()


async def test_windows_are_embedded_while_long_work_goes_on(batcher: Batcher) -> None:
    model = SpectralModel()
    done = threading.Event()

    def work(shared: ClapModel) -> int:
        assert done.wait(30)
        return len(shared.embed_text(["alarm"]))

    working = asyncio.create_task(run_aside(model, batcher, work))
    await asyncio.sleep(0)
    for _ in range(20):
        row = await batcher.submit("hall", model, lambda: room(1))
        assert row.shape == (model.dimension,)
    assert not working.done()
    done.set()
    assert await working == 1
    assert batcher.metrics.dropped == 0


class Noting(SpectralModel):
    """Remembers what it was asked for, in its order; holds the first texts until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int | str] = []
        self.threads: set[int] = set()
        self.began, self.go = threading.Event(), threading.Event()

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked.append(len(texts))
        self.threads.add(threading.get_ident())
        self.began.set()
        assert self.go.wait(30)
        return super().embed_text(texts)

    def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        self.asked.append("live")
        self.threads.add(threading.get_ident())
        return super().embed_audio(windows)


async def test_live_windows_go_between_the_pieces_of_a_hundred_new_labels(batcher: Batcher) -> None:
    model = Noting()
    texts = [f"thing {number}" for number in range(102)]
    embedding = asyncio.create_task(run_aside(model, batcher, lambda shared: shared.embed_text(texts)))
    await asyncio.to_thread(model.began.wait, 30)
    window = batcher.submit("hall", model, lambda: room(1))
    # The batcher collects windows for some milliseconds before it hands them to the model.
    while batcher.queue_length:
        await asyncio.sleep(0)
    model.go.set()
    await window
    np.testing.assert_array_equal(await embedding, SpectralModel().embed_text(texts))
    assert model.asked[:3] in ([4, "live", 4], [4, 4, "live"])
    assert sum(each for each in model.asked if isinstance(each, int)) == 102
    assert max(each for each in model.asked if isinstance(each, int)) == 4
    assert len(model.threads) == 1
    assert threading.get_ident() not in model.threads


async def test_no_texts_have_no_embeddings(batcher: Batcher) -> None:
    model = SpectralModel()
    assert (await run_aside(model, batcher, lambda shared: shared.embed_text([]))).shape == (
        0,
        model.dimension,
    )


async def test_long_work_is_done_one_at_a_time(batcher: Batcher) -> None:
    running, most = 0, 0
    lock = threading.Lock()

    def work(shared: ClapModel) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        shared.embed_audio([room(1)])
        with lock:
            running -= 1

    await asyncio.gather(*(run_aside(SpectralModel(), batcher, work) for _ in range(5)))
    assert most == 1


async def test_work_that_nobody_waits_for_ends_when_it_needs_the_model(batcher: Batcher) -> None:
    began, cancelled, errors = threading.Event(), threading.Event(), list[Exception]()
    ended = threading.Event()

    def work(shared: ClapModel) -> None:
        began.set()
        assert cancelled.wait(30)
        try:
            shared.embed_text(["alarm"])
        except ModelError as error:
            errors.append(error)
        ended.set()

    working = asyncio.create_task(run_aside(SpectralModel(), batcher, work))
    await asyncio.to_thread(began.wait, 30)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    cancelled.set()
    await asyncio.to_thread(ended.wait, 30)
    assert [str(error) for error in errors] == ["the work was abandoned"]
    assert await run_aside(SpectralModel(), batcher, lambda _: np.float64(1)) == 1
