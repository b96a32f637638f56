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
    from collections.abc import AsyncIterator

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
