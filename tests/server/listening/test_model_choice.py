"""What microphones do when the model needs a longer hop, or fails for good."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.audio.push import PushFormat
from clap_server.audio.source import SourceState
from clap_server.clap import builtin as builtin_package
from clap_server.clap.holder import ModelHolder
from clap_server.detection.library import load_library
from clap_server.errors import ModelError
from clap_server.listening.batcher import Batcher
from clap_server.listening.supervisor import Supervisor
from tests.server.listening.rig import RememberingSink, eventually, microphone
from tests.server.listening.spectral import RATE, SpectralModel, room, tone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clap_server.clap.model import ClapModel

PCM = PushFormat("f32le", RATE)


class Hopping(ModelHolder):
    """The real holder, of which a test says how seldom it wants windows."""

    def __init__(self, model: ClapModel, folder: Path) -> None:
        super().__init__("builtin", device="cpu", cache_dir=folder)
        self.least_s = 0.0
        self._use(model)

    @property
    def least_hop_s(self) -> float:
        return self.least_s


class Gone(SpectralModel):
    """Computes until its GPU is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.device = "cuda:0"
        self.gone: str | None = None

    def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        if self.gone == "nan":
            return np.full((len(windows), self.dimension), np.nan, np.float32)
        if self.gone is not None:
            raise RuntimeError(self.gone)
        return super().embed_audio(windows)


class Supervised:
    """A supervisor with all that belongs to it."""

    def __init__(self, holder: ModelHolder) -> None:
        self.holder = holder
        self.heard_of: list[list[float]] = []
        self.supervisor = Supervisor(
            holder,
            load_library(),
            RememberingSink(),
            media_dir=None,
            on_microphones=lambda: self.heard_of.append(self.supervisor.hops_s),
        )


@pytest.fixture
async def supervised(tmp_path: Path) -> AsyncIterator[Supervised]:
    made = Supervised(Hopping(Gone(), tmp_path))
    await made.supervisor.start()
    yield made
    await made.supervisor.stop()
    await made.holder.stop()


async def test_microphones_that_come_go_and_are_switched_off_are_told_of(supervised: Supervised) -> None:
    supervisor = supervised.supervisor
    await supervisor.apply(microphone("kitchen"))
    await supervisor.apply(microphone("hall", hop_s=1.0))
    await supervisor.apply(microphone("attic", hop_s=0.2, enabled=False))
    assert supervised.heard_of[-1] == [0.5, 1.0]
    await supervisor.apply(microphone("attic", hop_s=0.2))
    assert supervised.heard_of[-1] == [0.5, 1.0, 0.2]
    await supervisor.apply(microphone("attic", hop_s=0.3))
    assert supervised.heard_of[-1] == [0.5, 1.0, 0.3]
    # One that is muted may be unmuted at any time.
    async with supervisor.lock("hall"):
        await supervisor.mute("hall")
    assert supervisor.hops_s == [0.5, 1.0, 0.3]
    await supervisor.remove("kitchen")
    assert supervised.heard_of[-1] == [1.0, 0.3]


async def test_a_longer_hop_comes_and_goes_without_interrupting_the_stream(supervised: Supervised) -> None:
    supervisor, holder = supervised.supervisor, supervised.holder
    assert isinstance(holder, Hopping)
    await supervisor.apply(microphone())
    pusher = supervisor.push_source("kitchen").connect(PCM)

    async def windows_of(seconds: float) -> int:
        before = supervisor.snapshot("kitchen")
        count = round(seconds * 2)
        for _ in range(count):
            pusher.feed(room(0.5).tobytes())
            await eventually(lambda: not supervisor.push_source("kitchen")._queue)
        await asyncio.sleep(0.2)
        after = supervisor.snapshot("kitchen")
        return after.windows_scored + after.windows_gated - before.windows_scored - before.windows_gated

    assert await windows_of(4.0) >= 7
    holder.least_s = 1.0
    supervisor.follow_model()
    assert supervisor.check(microphone().settings, "kitchen")[0].hop_s == 1.0
    assert 3 <= await windows_of(4.0) <= 5
    holder.least_s = 0.0
    supervisor.follow_model()
    assert await windows_of(4.0) >= 7
    assert supervisor.snapshot("kitchen").status.state is SourceState.LISTENING
    assert [kind for kind in supervised.heard_of if kind != [0.5]] == []


@pytest.mark.parametrize("gone", ["CUDA error: device lost\nand much more", "nan"])
async def test_when_the_gpu_is_gone_the_builtin_model_listens_on_the_cpu(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    def load_builtin(device: str) -> ClapModel:
        model = SpectralModel(name="builtin")
        model.builtin, model.device = True, device
        return model

    monkeypatch.setattr(builtin_package, "load_builtin", load_builtin)
    supervisor, holder = supervised.supervisor, supervised.holder
    model = holder.model
    assert isinstance(model, Gone)
    await supervisor.apply(microphone())
    pusher = supervisor.push_source("kitchen").connect(PCM)
    model.gone = gone
    for _ in range(60):
        pusher.feed(tone(0.5).tobytes())
        await eventually(lambda: not supervisor.push_source("kitchen")._queue)
        await asyncio.sleep(0.02)
        if holder.model is not model and supervisor.snapshot("kitchen").windows_scored:
            break
    assert (holder.model.builtin, holder.model.device) == (True, "cpu")
    why = "the model returned no finite numbers" if gone == "nan" else "CUDA error: device lost"
    assert f"The model spectral failed on cuda:0 while it listened ({why})." in (holder.problem or "")
    snapshot = supervisor.snapshot("kitchen")
    assert snapshot.status.state is SourceState.LISTENING
    assert snapshot.windows_dropped >= 3


async def test_a_failure_now_and_then_is_no_reason_to_give_a_model_up() -> None:
    told: list[str] = []
    model = Gone()
    batcher = Batcher(on_failure=lambda failed, why: told.append(f"{failed.name}: {why}"))
    batcher.start()

    async def ask(gone: str | None) -> None:
        model.gone = gone
        window = tone(1.0)
        embedding = batcher.submit("kitchen", model, lambda: window)
        if gone is None:
            await embedding
            return
        with pytest.raises(ModelError):
            await embedding

    for gone in ("a", "b", None, "c", "nan", None, "d", "e"):
        await ask(gone)
    assert told == []
    await ask("f\ng")
    assert told == ["spectral: f"]
    await batcher.stop()
