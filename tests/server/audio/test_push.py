from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.audio.push import QUEUE_S, PushFormat, PushSource
from clap_server.audio.source import SourceError
from tests.server.audio.helpers import PATIENCE_S, RATE, blocks_of, listen, sine, strongest_hz

if TYPE_CHECKING:
    from clap_server.audio.block import AudioBlock


def pcm(fmt: PushFormat, samples: np.ndarray) -> bytes:
    if fmt.sample_format == "s16le":
        samples = np.round(samples * 32767)
    dtype = {"s16le": "<i2", "f32le": "<f4"}[fmt.sample_format]
    return np.repeat(samples.astype(dtype), fmt.channels).tobytes()


@pytest.mark.parametrize(
    "fmt",
    [
        PushFormat("s16le", 16_000),
        PushFormat("s16le", 48_000, 2),
        PushFormat("f32le", 44_100, 1),
        PushFormat("f32le", 192_000, 8),
        PushFormat("s16le", 4_000, 3),
    ],
)
async def test_every_format_arrives_however_the_bytes_are_cut(fmt: PushFormat) -> None:
    source = PushSource()
    pusher = source.connect(fmt)
    data = pcm(fmt, sine(1000, 1.0, fmt.sample_rate))
    rng = np.random.default_rng(1)
    start = 0
    while start < len(data):
        end = start + int(rng.integers(1, 4001))
        pusher.feed(data[start:end])
        start = end
    samples = await listen(source, 0.8)
    assert strongest_hz(samples) == pytest.approx(1000, abs=3)
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.02)


async def test_long_messages_become_short_blocks() -> None:
    source = PushSource()
    fmt = PushFormat("f32le", RATE)
    source.connect(fmt).feed(pcm(fmt, sine(440, 1.0)))
    async with aclosing(blocks_of(source)) as blocks:
        assert [(await anext(blocks)).duration_s for _ in range(10)] == [0.1] * 10


async def test_what_a_resampler_gives_more_than_it_got_is_no_block_of_its_own() -> None:
    source = PushSource()
    pusher = source.connect(PushFormat("s16le", 16_000))
    samples = np.zeros(1600, "<i2").tobytes()
    for _ in range(20):
        pusher.feed(samples)
    pusher.close()
    lengths = [len(block.samples) for block in await collect(source, 48_000)]
    assert sum(lengths) == 20 * 4800
    # The filter begins with less and ends with what it held back.
    assert len(lengths) <= 21
    assert min(lengths[1:-1]) > 2400


async def test_it_waits_for_the_client_and_ends_with_it() -> None:
    source = PushSource()
    fmt = PushFormat("s16le", 16_000)
    listening = asyncio.ensure_future(listen(source, 1e9))
    await asyncio.sleep(0.05)
    assert not listening.done()
    pusher = source.connect(fmt)
    pusher.feed(pcm(fmt, sine(440, 0.5, 16_000)))
    assert source.connected
    pusher.close()
    pusher.close()
    with pytest.raises(SourceError, match="waiting for the client") as caught:
        await asyncio.wait_for(listening, PATIENCE_S)
    assert caught.value.code == "waiting_for_client"
    assert not source.connected


async def test_a_second_client_is_told_to_wait() -> None:
    source = PushSource()
    fmt = PushFormat("s16le", 16_000)
    first = source.connect(fmt)
    with pytest.raises(SourceError, match="another client") as caught:
        source.connect(fmt)
    assert caught.value.code == "push_busy"
    source.disconnect()
    source.disconnect()
    second = source.connect(fmt)
    with pytest.raises(SourceError, match="connect again") as closed:
        first.feed(bytes(64))
    assert closed.value.code == "push_closed"
    first.close()
    assert source.connected
    second.feed(b"")


async def test_sound_that_nobody_fetches_is_dropped_and_counted() -> None:
    source = PushSource()
    fmt = PushFormat("s16le", 8_000)
    second = pcm(fmt, sine(440, 1.0, 8_000))
    pusher = source.connect(fmt)
    for _ in range(int(QUEUE_S) + 3):
        pusher.feed(second)
    async with aclosing(blocks_of(source)) as blocks:
        seen = [await anext(blocks) for _ in range(45)]
    assert [block.after_gap for block in seen] == [True] + [False] * 44
    assert [block.dropped_s for block in seen] == [3.0] + [0.0] * 44


def stretches(blocks: list[AudioBlock]) -> list[int]:
    """Samples before, between and after the gaps."""
    lengths = [0]
    for block in blocks:
        if block.after_gap:
            lengths.append(0)
        lengths[-1] += len(block.samples)
    return lengths


async def collect(source: PushSource, rate: int = RATE) -> list[AudioBlock]:
    """All blocks until the client has gone."""
    seen: list[AudioBlock] = []
    with suppress(SourceError):
        async for block in blocks_of(source, rate):
            seen.append(block)  # noqa: PERF401 - it ends with an error
    return seen


async def test_a_pause_of_the_client_is_a_gap() -> None:
    source = PushSource()
    fmt = PushFormat("s16le", 16_000)
    pusher = source.connect(fmt)
    collecting = asyncio.ensure_future(collect(source))
    for pause_s in (0.1, 0.1, 1.2, 0.1, 0.1):
        await asyncio.sleep(pause_s)
        pusher.feed(pcm(fmt, sine(1000, 0.1, 16_000)))
    await asyncio.sleep(1.0)
    pusher.close()
    seen = await asyncio.wait_for(collecting, PATIENCE_S)
    before, after = stretches(seen)
    # Nothing that the resampler held crosses the gap.
    assert before == pytest.approx(0.2 * RATE, abs=4)
    assert after == pytest.approx(0.3 * RATE, abs=4)
    assert [block.captured_at for block in seen] == sorted(block.captured_at for block in seen)


async def test_what_the_network_held_back_is_no_gap() -> None:
    source = PushSource()
    fmt = PushFormat("s16le", 16_000)
    pusher = source.connect(fmt)
    collecting = asyncio.ensure_future(collect(source))
    message = pcm(fmt, sine(1000, 0.1, 16_000))
    pusher.feed(message)
    await asyncio.sleep(1.5)
    for _ in range(15):
        pusher.feed(message)
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.6)
    pusher.close()
    assert len(stretches(await asyncio.wait_for(collecting, PATIENCE_S))) == 1


async def test_a_client_that_takes_over_begins_after_a_gap() -> None:
    source = PushSource()
    fmt = PushFormat("s16le", 16_000)
    message = pcm(fmt, sine(1000, 0.3, 16_000))
    source.connect(fmt).feed(message)
    source.disconnect()
    second = source.connect(fmt)
    second.feed(message)
    second.close()
    first_length, second_length = stretches(await collect(source))
    assert first_length == pytest.approx(0.3 * RATE, abs=4)
    assert second_length == pytest.approx(0.3 * RATE, abs=4)


async def test_channels_that_cancel_each_other_are_noticed() -> None:
    source = PushSource()
    fmt = PushFormat("f32le", RATE, 2)
    tone = sine(1000, 0.5)
    pusher = source.connect(fmt)
    pusher.feed(np.stack((tone, -tone), axis=1).astype("<f4").tobytes())
    pusher.close()
    seen = await collect(source)
    assert np.abs(seen[-1].samples).max() == pytest.approx(0.5, abs=0.01)
    assert "cancel each other" in str(seen[-1].notice)


async def test_a_client_with_another_format_takes_over() -> None:
    source = PushSource()
    for rate in (8_000, 16_000):
        fmt = PushFormat("s16le", rate)
        source.disconnect()
        source.connect(fmt).feed(pcm(fmt, sine(1000, 0.5, rate)))
    samples = await listen(source, 0.9)
    assert strongest_hz(samples) == pytest.approx(1000, abs=4)


async def test_values_out_of_range_are_clipped() -> None:
    source = PushSource()
    fmt = PushFormat("f32le", RATE)
    source.connect(fmt).feed(np.array([np.nan, np.inf, -1e20, 0.5] * 1200, "<f4").tobytes())
    samples = await listen(source, 0.1)
    assert samples[:4].tolist() == [0.0, 1.0, -1.0, 0.5]


@pytest.mark.parametrize(
    ("sample_format", "rate", "channels"),
    [("u8", 8_000, 1), ("s16le", 3_999, 1), ("s16le", 192_001, 1), ("f32le", 8_000, 0), ("f32le", 8_000, 9)],
)
def test_a_format_out_of_range_is_refused(sample_format: str, rate: int, channels: int) -> None:
    with pytest.raises(SourceError, match="send") as caught:
        PushFormat(sample_format, rate, channels)  # type: ignore[arg-type] # what a client could send
    assert caught.value.code == "unsupported_format"
