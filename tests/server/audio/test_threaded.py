from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import aclosing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.audio.threaded import QUEUE_S, Feed, Pacer, blocks_from_thread
from tests.server.audio.helpers import PATIENCE_S

if TYPE_CHECKING:
    from clap_server.audio.block import AudioBlock

RATE = 1_000 * 8


async def test_the_oldest_sound_is_dropped_when_the_consumer_is_slow(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pushed = threading.Event()
    total_s = int(QUEUE_S) + 10

    def produce(feed: Feed) -> None:
        for second in range(total_s):
            feed.push(np.full(RATE, second, np.float32), RATE)
        pushed.set()

    seen: list[AudioBlock] = []
    async with aclosing(blocks_from_thread(produce, RATE, name="test")) as blocks:
        seen.append(await anext(blocks))
        await asyncio.to_thread(pushed.wait, PATIENCE_S)
        with caplog.at_level(logging.WARNING):
            seen.extend([block async for block in blocks])
    assert sum(block.duration_s for block in seen[1:]) == pytest.approx(QUEUE_S, abs=0.2)
    assert seen[-1].samples[-1] == total_s - 1
    assert [block.dropped_s for block in seen if block.after_gap] == pytest.approx([10.0], abs=0.2)
    assert "dropped because listening was too slow" in caplog.text


async def test_an_unforeseen_error_of_the_thread_reaches_the_consumer() -> None:
    def produce(_feed: Feed) -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        await anext(blocks_from_thread(produce, RATE, name="test"))


async def test_what_is_left_at_the_end_is_not_lost() -> None:
    def produce(feed: Feed) -> None:
        feed.push(np.ones(7, np.float32), RATE)

    assert [len(block.samples) async for block in blocks_from_thread(produce, RATE, name="test")] == [7]


async def test_nothing_before_a_gap_comes_after_it() -> None:
    def produce(feed: Feed) -> None:
        feed.push(np.full(2000, 0.25, np.float32), 2 * RATE)
        feed.gap()
        feed.push(np.full(2000, -0.25, np.float32), 2 * RATE)

    blocks = [block async for block in blocks_from_thread(produce, RATE, name="test")]
    (gap,) = [number for number, block in enumerate(blocks) if block.after_gap]
    before, after = (np.concatenate([b.samples for b in part]) for part in (blocks[:gap], blocks[gap:]))
    assert (len(before), len(after)) == (1000, 1000)
    assert before.min() > -0.1
    assert after.max() < 0.1


async def test_closing_does_not_wait_for_a_thread_that_hangs() -> None:
    release = threading.Event()

    def produce(feed: Feed) -> None:
        feed.push(np.ones(RATE, np.float32), RATE)
        release.wait(PATIENCE_S)

    blocks = blocks_from_thread(produce, RATE, name="hanging")
    await anext(blocks)
    async with asyncio.timeout(PATIENCE_S / 2):
        await blocks.aclose()
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "hanging"]
    release.set()
    await asyncio.to_thread(thread.join, PATIENCE_S)
    assert not thread.is_alive()


def test_a_thread_that_outlives_its_event_loop_ends_quietly() -> None:
    release = threading.Event()

    def produce(feed: Feed) -> None:
        feed.push(np.ones(RATE, np.float32), RATE)
        release.wait(PATIENCE_S)
        feed.push(np.ones(RATE, np.float32), RATE)

    async def hear_one() -> None:
        blocks = blocks_from_thread(produce, RATE, name="outliving")
        await anext(blocks)
        await blocks.aclose()

    asyncio.run(hear_one())
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "outliving"]
    release.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def wait_after(pacer: Pacer, piece_s: float, total_s: float, speed: float) -> float:
    """The wait after the last of pieces that arrive at ``speed`` times real time."""
    wait_s = 0.0
    for number in range(round(total_s / piece_s)):
        wait_s = pacer.wait_s(piece_s, number * piece_s / speed)
    return wait_s


def test_a_camera_whose_clock_is_fast_is_never_held_back() -> None:
    assert wait_after(Pacer(12.0), 0.5, 30 * 86_400, 1.0005) < 0


def test_a_server_may_send_its_buffer_at_once_but_not_a_whole_recording() -> None:
    assert wait_after(Pacer(12.0), 0.5, 10, 1e6) < 0
    assert wait_after(Pacer(12.0), 0.5, 60, 1e6) == pytest.approx(47, abs=1.5)


def test_a_file_plays_in_real_time_and_does_not_hurry_after_a_pause() -> None:
    pacer = Pacer(0.0)
    assert pacer.wait_s(0.5, 100.0) == 0.0
    assert pacer.wait_s(0.5, 100.0) == 0.5
    assert pacer.wait_s(0.5, 200.0) == 0.0
    assert pacer.wait_s(0.5, 200.0) == 0.5
