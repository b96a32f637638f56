"""Far more microphones than the model can serve: all get their turn, and all that is lost is counted."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

from clap_server.audio.block import AudioBlock
from clap_server.audio.push import PushFormat
from clap_server.audio.source import SourceState
from clap_server.detection.library import load_library
from clap_server.listening import supervisor as supervisor_module
from clap_server.listening.supervisor import Supervisor
from tests.server.listening.rig import ArraySource, RememberingSink, Rig, eventually, holder_of, microphone
from tests.server.listening.spectral import RATE, SpectralModel, room, scene, tone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    import numpy as np
    import pytest
    from numpy.typing import NDArray

PCM = PushFormat("f32le", RATE)
HOP_S = 0.1


class HeldModel(SpectralModel):
    """Answers when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        assert self.go.wait(60)
        return super().embed_audio(windows)


async def test_all_windows_are_counted_all_microphones_heard_and_the_overload_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "_OVERLOAD_TOLD_S", 0.0)
    model, told = HeldModel(), []
    made = Supervisor(
        holder_of(model, tmp_path),
        load_library(),
        RememberingSink(),
        media_dir=None,
        on_overload=lambda: told.append(made.overload),
    )
    await made.start()
    ids = [f"room{number}" for number in range(6)]
    try:
        for name in ids:
            await made.apply(microphone(name, hop_s=HOP_S))
        # Texts are embedded by the model's thread too.
        await eventually(lambda: all(made.snapshot(name).status.code == "waiting_for_client" for name in ids))
        sound = tone(4.0)
        pushers = [made.push_source(name).connect(PCM) for name in ids]
        for start in range(0, len(sound), RATE // 2):
            for name, pusher in zip(ids, pushers, strict=True):
                pusher.feed(sound[start : start + RATE // 2].tobytes())
                await eventually(lambda name=name: not made.push_source(name)._queue)
        model.go.set()

        def counted(name: str) -> int:
            shot = made.snapshot(name)
            return shot.windows_scored + shot.windows_gated + shot.windows_dropped

        # From 0.5 s on, as shorter windows are not cut.
        due = round((4.0 - 0.5) / HOP_S) + 1
        await eventually(lambda: all(counted(name) >= due for name in ids))
        shots = [made.snapshot(name) for name in ids]
        assert [counted(name) for name in ids] == [due] * len(ids)
        scored = [shot.windows_scored for shot in shots]
        assert 4 <= min(scored) <= max(scored) <= min(scored) + 3 < due / 2, "each has its turn"
        assert {shot.status.code for shot in shots} == {"too_slow"}
        assert {shot.status.state for shot in shots} == {SourceState.LISTENING}
        assert made.overload == "too slow for 6 microphones: use fewer, a longer hop or a faster computer"
        await eventually(lambda: told[-1:] == [made.overload])
        for name in ids[1:]:
            await made.remove(name)
        await eventually(lambda: bool(told[-1]) and told[-1].startswith("too slow for 1 microphone:"))
        assert made.batcher.queue_length == 0
    finally:
        model.go.set()
        await made.stop()


class Queue(ArraySource):
    """Plays blocks as the test hands them over."""

    def __init__(self) -> None:
        super().__init__()
        self.given: asyncio.Queue[AudioBlock] = asyncio.Queue()

    async def blocks(self, sample_rate: int) -> AsyncIterator[AudioBlock]:
        assert sample_rate == RATE
        while True:
            yield await self.given.get()


async def test_late_sound_is_skipped_and_counted_while_others_wait_and_what_is_fresh_is_heard(
    tmp_path: Path,
) -> None:
    model = HeldModel()
    source = Queue()
    rig = Rig(source, tmp_path, model=model)
    async with rig.running():
        await eventually(lambda: bool(rig.statuses))
        others = [rig.batcher.submit(f"other{n}", model, lambda: room(1)) for n in range(60)]
        assert rig.batcher.crowded
        sound = scene(6, (1, tone(5)))
        for start in range(0, 4 * RATE, RATE // 10):
            source.given.put_nowait(AudioBlock(sound[start : start + RATE // 10], RATE, time.time() - 5))
        await eventually(lambda: rig.counters.dropped == 8)
        assert rig.listener._hearing._stretch is None, "no window is cut of it"
        for start in range(4 * RATE, 6 * RATE, RATE // 10):
            source.given.put_nowait(AudioBlock(sound[start : start + RATE // 10], RATE, time.time() + 60))
        model.go.set()
        await asyncio.gather(*others)
        await eventually(lambda: rig.counters.scored == 4)
        assert rig.counters.dropped == 8


async def test_late_sound_is_heard_when_nobody_else_waits(tmp_path: Path) -> None:
    """A burst that a client had saved up is no overload."""
    rig = Rig(ArraySource(scene(20, (1, tone(19)))), tmp_path)
    async with rig.running():
        await rig.until_heard(20)
    assert rig.counters.dropped == 0
    assert rig.counters.scored > 35
