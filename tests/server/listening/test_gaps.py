"""Nothing joins both sides of a gap, and events have the time at which they sounded."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server.audio.block import AudioBlock
from clap_server.detection.front import Heard
from clap_server.detection.gate import NoiseGate
from clap_server.listening.plan import make_plan
from clap_server.listening.stretch import Stretch
from tests.server.listening.rig import LIBRARY, MORNING, ArraySource, RememberingSink, Rig, microphone
from tests.server.listening.spectral import RATE, crash, room, scene, tone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from numpy.typing import NDArray

    from clap_server.detection.windows import Window

LOW_RATE = 1_000


class GapSource(ArraySource):
    """Plays its stretches without breaking off, some seconds apart."""

    def __init__(self, *stretches: NDArray[np.float32], pause_s: float) -> None:
        super().__init__(*stretches)
        self._pause_s = pause_s

    async def blocks(self, sample_rate: int) -> AsyncIterator[AudioBlock]:
        at = MORNING
        for number, samples in enumerate(self._stretches):
            size = round(self._block_s * sample_rate)
            at += self._pause_s if number else 0
            for start in range(0, len(samples), size):
                piece = samples[start : start + size]
                at += len(piece) / sample_rate
                yield AudioBlock(piece, sample_rate, at, after_gap=bool(number) and not start)
        await asyncio.Event().wait()


async def test_an_event_after_a_pause_has_its_own_time(tmp_path: Path) -> None:
    """3 s of sound, nothing for 9 s, then glass: it began 9 s early."""
    rig = Rig(GapSource(room(3), scene(9, (1, crash())), pause_s=9), tmp_path)
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.ended))
    event, recording = rig.sink.ended[0]
    assert event.started_at.timestamp() == pytest.approx(MORNING + 13, abs=0.05)
    assert event.ended_at is not None
    assert MORNING + 13 < event.ended_at.timestamp() < MORNING + 16
    assert recording is not None
    assert recording.starts_at.timestamp() == pytest.approx(MORNING + 12, abs=0.05), "no sound of before"


async def test_an_event_that_a_gap_ends_ended_at_the_gap(tmp_path: Path) -> None:
    rig = Rig(GapSource(scene(7.3, (2, tone(6))), room(2), pause_s=9), tmp_path)
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.ended))
    event, recording = rig.sink.ended[0]
    assert event.started_at.timestamp() == pytest.approx(MORNING + 2, abs=0.3)
    assert event.ended_at is not None
    assert event.ended_at.timestamp() == pytest.approx(MORNING + 7.3, abs=0.01)
    assert event.ended_at < event.detected_at
    assert recording is not None
    assert recording.starts_at.timestamp() + len(recording.samples) / RATE == pytest.approx(MORNING + 7.3)


async def test_sound_that_a_source_dropped_is_counted_in_windows(tmp_path: Path) -> None:
    class Dropping(ArraySource):
        async def blocks(self, sample_rate: int) -> AsyncIterator[AudioBlock]:
            number = 0
            async for block in super().blocks(sample_rate):
                number += 1
                lost = number in {20, 30, 40}
                yield replace(block, after_gap=lost, dropped_s=1.3 if lost else 0.0)

    rig = Rig(Dropping(room(6)), tmp_path)
    async with rig.running():
        await rig.until_heard(1.5)
        await rig.sink.until(lambda: rig.counters.dropped == 7)
    assert rig.counters.dropped == 7, "3.9 s, at a window each half second"


@dataclass(frozen=True)
class Arrival:
    """A block with the time at which its last sample sounded."""

    block: AudioBlock
    sounded_at: float


def arrivals(seed: int, count: int) -> list[Arrival]:
    """Stretches of blocks that come late, now and then in bursts after seconds of nothing, with gaps between.

    No burst goes on after a gap: when its sound was before that, nothing tells.
    """
    rng = random.Random(seed)
    found: list[Arrival] = []
    sounded_at = arrived_at = MORNING
    for stretch in range(count):
        if stretch:
            sounded_at = max(sounded_at + rng.choice([0.05, 0.4, 3.0, 9.0, 40.0, 3600.0]), arrived_at)
        latency_s = rng.uniform(0, 0.15)
        stalled_until = 0.0
        for number in range(rng.randrange(30, 400)):
            length = rng.choice([20, 32, 64, 100])
            sounded_at += length / LOW_RATE
            if number > 10 and rng.random() < 0.005:
                stalled_until = sounded_at + rng.uniform(0.2, 8)
            due = sounded_at + latency_s + rng.choice([0, 0, rng.uniform(0, 0.3)])
            arrived_at = max(arrived_at, due, stalled_until)
            block = AudioBlock(
                np.zeros(length, np.float32), LOW_RATE, arrived_at, after_gap=bool(stretch) and not number
            )
            found.append(Arrival(block, sounded_at))
    return found


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**9), count=st.integers(1, 6))
def test_the_time_of_sound_is_right_within_half_a_second_whatever_is_missing_or_late(
    seed: int, count: int
) -> None:
    plan = make_plan(microphone().settings, LIBRARY)
    stretch: Stretch | None = None
    windows: list[Window] = []
    for arrival in arrivals(seed, count):
        if stretch is None or arrival.block.after_gap:
            stretch = Stretch(
                "x",
                plan,
                sample_rate=LOW_RATE,
                window_s=2.0,
                gate=NoiseGate(),
                sink=RememberingSink(),
                on_check=print,
            )
        windows += [found.window for found in stretch.take(arrival.block) if isinstance(found, Heard)]
        # Nothing is decided on less than the shortest window.
        if stretch.length_s >= 0.5:
            told = stretch.clock.utc(stretch.length_s).timestamp()
            assert told == pytest.approx(arrival.sounded_at, abs=0.5)
    assert all(window.end_s - window.start_s <= 2.0 for window in windows)
