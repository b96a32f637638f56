"""From the bytes that a client sends to the times of events, whatever is missing in between."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server.audio import push
from clap_server.audio.arrivals import BACKLOG_S, LATE_S
from clap_server.audio.push import QUEUE_S, PushFormat, PushSource
from clap_server.audio.source import SourceError
from clap_server.detection.gate import NoiseGate
from clap_server.listening.plan import make_plan
from clap_server.listening.stretch import Stretch
from tests.server.listening.rig import (
    LIBRARY,
    LIMIT_S,
    MORNING,
    RememberingSink,
    Rig,
    eventually,
    microphone,
)
from tests.server.listening.spectral import RATE, crash, room, scene, tone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from clap_server.audio.block import AudioBlock

LOW_RATE = 4_000
MESSAGE_S = 0.1
WINDOW_S = 2.0


class Clock:
    """Stands in for the module ``time``; moves only when it is told to."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0

    def time(self) -> float:
        return MORNING + self.elapsed_s

    def monotonic(self) -> float:
        return self.elapsed_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(push, "time", clock)
    return clock


class Client:
    """Sends 16-bit sound in messages of a tenth of a second, in time."""

    def __init__(self, source: PushSource, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._pusher = source.connect(PushFormat("s16le", RATE))

    async def send(self, samples: NDArray[np.float32]) -> None:
        data = np.round(samples * 32767).astype("<i2").tobytes()
        size = 2 * round(MESSAGE_S * RATE)
        for start in range(0, len(data), size):
            message = data[start : start + size]
            self._clock.elapsed_s += len(message) / 2 / RATE
            self._pusher.feed(message)
            # What stays is what may still be one with its backlog.
            await eventually(lambda: self._source._queued_s < BACKLOG_S + 2 * MESSAGE_S)


async def test_glass_that_is_pushed_after_a_pause_has_its_own_time(tmp_path: Path, clock: Clock) -> None:
    source = PushSource()
    client = Client(source, clock)
    rig = Rig(source, tmp_path)
    async with rig.running():
        await client.send(room(3))
        clock.elapsed_s += 9
        await client.send(scene(9, (1, crash())))
        await rig.sink.until(lambda: bool(rig.sink.ended))
    event, recording = rig.sink.ended[0]
    assert event.started_at.timestamp() == pytest.approx(MORNING + 13, abs=0.1)
    assert event.ended_at is not None
    assert MORNING + 13 < event.ended_at.timestamp() < MORNING + 16
    assert recording is not None
    assert recording.starts_at.timestamp() == pytest.approx(MORNING + 12, abs=0.1), "no sound of before"


async def test_an_alarm_ends_where_its_client_paused(tmp_path: Path, clock: Clock) -> None:
    source = PushSource()
    client = Client(source, clock)
    rig = Rig(source, tmp_path)
    async with rig.running():
        await client.send(scene(7.3, (2, tone(6))))
        clock.elapsed_s += 9
        await client.send(room(3))
        await rig.sink.until(lambda: bool(rig.sink.ended))
    event, recording = rig.sink.ended[0]
    assert event.started_at.timestamp() == pytest.approx(MORNING + 2, abs=0.3)
    assert event.ended_at is not None
    assert event.ended_at.timestamp() == pytest.approx(MORNING + 7.3, abs=0.01)
    assert recording is not None
    assert recording.starts_at.timestamp() + len(recording.samples) / RATE == pytest.approx(MORNING + 7.3)


@dataclass(frozen=True)
class Sent:
    """A message, with the time at which its first sample sounded and the one at which it came."""

    length: int
    sounded_s: float
    arrived_s: float

    @property
    def over_s(self) -> float:
        return self.sounded_s + self.length / LOW_RATE


@dataclass
class Heard:
    """What came out of the source, as ``Stretch`` took it."""

    errors_s: list[float] = field(default_factory=list)
    spans_s: list[float] = field(default_factory=list)
    gaps: int = 0


def messages(seed: int, count: int) -> Iterator[Sent]:
    """Sound with losses, pauses, jitter, and stalls whose backlog comes at once.

    No backlog has a hole in it, or behind it, or stalls once more: where in it sound is missing, nothing
    tells. And none is longer than what may wait.
    """
    rng = random.Random(seed)
    sounded_s = arrived_s = 0.0
    for stretch in range(count):
        if stretch:
            sounded_s = max(sounded_s + rng.choice([0.05, 0.2, 0.4, 3.0, 9.0, 40.0, 3600.0]), arrived_s)
        latency_s = rng.uniform(0, 0.15)
        begun_s = stalled_until_s = sounded_s
        until_s = begun_s + rng.uniform(1, 20)
        while sounded_s < max(until_s, stalled_until_s + 0.5):
            length = rng.choice([80, 128, 256, 400])
            yet_s = sounded_s
            sounded_s += length / LOW_RATE
            if sounded_s > max(stalled_until_s, begun_s + 0.5) and rng.random() < 0.01:
                stalled_until_s = sounded_s + rng.uniform(0.2, QUEUE_S - 1)
            due_s = sounded_s + latency_s + rng.choice([0, 0, rng.uniform(0, 0.15)])
            arrived_s = max(arrived_s, due_s, stalled_until_s)
            yield Sent(length, yet_s, arrived_s)


async def push_and_hear(sent: list[Sent], clock: Clock) -> Heard:
    source = PushSource()
    pusher = source.connect(PushFormat("s16le", LOW_RATE))
    heard = Heard()
    hearing = asyncio.create_task(hear(source.blocks(LOW_RATE), sent, heard))
    for message in sent:
        clock.elapsed_s = message.arrived_s
        pusher.feed(bytes(2 * message.length))
        for _ in range(10):
            await asyncio.sleep(0)
    clock.elapsed_s += 2 * BACKLOG_S
    pusher.close()
    async with asyncio.timeout(LIMIT_S):
        await hearing
    return heard


async def hear(blocks: AsyncIterator[AudioBlock], sent: list[Sent], heard: Heard) -> None:
    plan = make_plan(microphone().settings, LIBRARY)
    sounded_s = np.concatenate([each.sounded_s + np.arange(each.length) / LOW_RATE for each in sent])
    stretch: Stretch | None = None
    total = first = 0
    with suppress(SourceError):
        async for block in blocks:
            heard.gaps += block.after_gap
            if stretch is None or block.after_gap:
                stretch = Stretch(
                    "x",
                    plan,
                    sample_rate=LOW_RATE,
                    window_s=WINDOW_S,
                    gate=NoiseGate(),
                    sink=RememberingSink(),
                    on_check=print,
                )
                first = total
            total += len(block.samples)
            for window, _ in stretch.take(block):
                start, end = (first + round(at * LOW_RATE) for at in (window.start_s, window.end_s))
                heard.spans_s.append(sounded_s[end - 1] - sounded_s[start])
            # Nothing is decided on less than the shortest window.
            if stretch.length_s >= 0.5:
                told_s = stretch.clock.utc(stretch.length_s).timestamp() - MORNING
                heard.errors_s.append(told_s - sounded_s[total - 1])
    assert total == len(sounded_s)


# So much may be missing and not be noticed, and a message may have been late by this before.
TOLERANCE_S = LATE_S + 0.2


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**9), count=st.integers(1, 5))
def test_pushed_sound_has_its_time_and_joins_over_no_gap_whatever_is_missing_or_late(
    seed: int, count: int
) -> None:
    clock = Clock()
    sent = list(messages(seed, count))
    with patch.object(push, "time", clock):
        heard = asyncio.run(push_and_hear(sent, clock))
    assert max(map(abs, heard.errors_s)) < TOLERANCE_S
    assert max(heard.spans_s) < WINDOW_S + TOLERANCE_S
    pauses_s = [after.sounded_s - before.over_s for before, after in pairwise(sent)]
    assert sum(pause_s > TOLERANCE_S for pause_s in pauses_s) <= heard.gaps
    assert heard.gaps <= sum(pause_s > 1e-6 for pause_s in pauses_s), "a backlog is no gap"
