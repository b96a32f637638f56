"""Sounds made here, and ways to listen to a source for a while."""

from __future__ import annotations

import asyncio
import io
import struct
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
import pytest

from clap_server.audio.source import SourceError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from numpy.typing import NDArray

    from clap_server.audio.block import AudioBlock
    from clap_server.audio.source import AudioSource

RATE = 48_000
PATIENCE_S = 30.0


class HurriedClock:
    """Time in which nothing is waited for: it moves on by what a source would have waited."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0

    def monotonic(self) -> float:
        return self.elapsed_s

    def time(self) -> float:
        return self.elapsed_s

    def wait(self, seconds: float) -> bool:
        """For ``Feed.wait``."""
        self.elapsed_s += max(0.0, seconds)
        return False


def sine(frequency_hz: float, duration_s: float, rate: int = RATE, amplitude: float = 0.5) -> NDArray[Any]:
    time_s = np.arange(round(duration_s * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.float32)


def to_file(samples: NDArray[Any], fmt: str, codec: str, rate: int = RATE, channels: int = 1) -> bytes:
    """Encode with FFmpeg; ``samples`` go to every channel."""
    output = io.BytesIO()
    layout = "mono" if channels == 1 else "stereo"
    with av.open(output, mode="w", format=fmt) as container:
        stream = cast("av.AudioStream", container.add_stream(codec, rate=rate, layout=layout))
        pcm = np.repeat((samples * 32767).astype(np.int16), channels)[None, :]
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout=layout)
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return output.getvalue()


def wav_of_64_bits() -> bytes:
    """Silence in integers that PyAV decodes and does not hand over."""
    data = bytes(RATE * 8)
    header = struct.pack("<HHIIHH", 1, 1, RATE, RATE * 8, 8, 64)
    riff = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", len(header))
    return riff + header + b"data" + struct.pack("<I", len(data)) + data


def picture_only() -> bytes:
    output = io.BytesIO()
    with av.open(output, mode="w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return output.getvalue()


def strongest_hz(samples: NDArray[Any], rate: int = RATE) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


def blocks_of(source: AudioSource, rate: int = RATE) -> AsyncGenerator[AudioBlock, None]:
    return cast("AsyncGenerator[AudioBlock, None]", source.blocks(rate))


async def listen(source: AudioSource, duration_s: float, rate: int = RATE) -> NDArray[Any]:
    """Take at least so much sound and close the source."""
    parts: list[NDArray[Any]] = []
    heard_s = 0.0
    async with asyncio.timeout(PATIENCE_S), aclosing(blocks_of(source, rate)) as blocks:
        async for block in blocks:
            assert block.sample_rate == rate
            assert block.samples.dtype == np.float32
            parts.append(block.samples)
            heard_s += block.duration_s
            if heard_s >= duration_s:
                break
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)


async def failure(source: AudioSource) -> SourceError:
    """Listen until the source fails, and say why."""
    with pytest.raises(SourceError) as caught:
        await listen(source, 1e9)
    return caught.value
