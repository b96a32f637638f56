"""What the tests of listening share: a sink that remembers, a source that plays arrays, a model at hand."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clap_server.audio.block import AudioBlock
from clap_server.audio.source import AudioSource, Patience, SourceError, SourceStatus
from clap_server.clap.holder import ModelHolder
from clap_server.clap.model import ClapModel
from clap_server.detection.library import load_library
from clap_server.listening.batcher import Batcher
from clap_server.listening.config import (
    LabelChoice,
    Microphone,
    MicrophoneSettings,
    PushSourceSettings,
    RecordingSettings,
    SourceSettings,
)
from clap_server.listening.counters import Counters
from clap_server.listening.diary import Diary
from clap_server.listening.events import SoundEvent
from clap_server.listening.microphone import MicrophoneListener
from clap_server.listening.pace import Pace
from clap_server.listening.plan import make_plan
from clap_server.listening.self_test import Finding
from clap_server.listening.sink import Recording
from clap_server.listening.traces import Trace
from tests.server.listening.spectral import RATE, SpectralModel, room

LIBRARY = load_library()
LIMIT_S = 60
MORNING = 1_760_000_000.0


class RememberingSink:
    """Implements ``ListeningSink``."""

    def __init__(self) -> None:
        self.started: list[SoundEvent] = []
        self.confirmed: list[SoundEvent] = []
        self.ended: list[tuple[SoundEvent, Recording | None]] = []
        self.clips: list[tuple[SoundEvent, Recording | None]] = []
        self.traces: dict[str, list[NDArray[np.float32]]] = {}
        self.all_scores: list[tuple[str, datetime, dict[str, float]]] = []
        self.levels: list[tuple[datetime, float, float, bool]] = []
        self.statuses: list[tuple[str, SourceStatus]] = []
        self._changed = asyncio.Event()

    async def event_started(self, event: SoundEvent) -> None:
        self.started.append(event)
        self._changed.set()

    async def event_confirmed(self, event: SoundEvent) -> None:
        self.confirmed.append(event)
        self._changed.set()

    async def event_ended(self, event: SoundEvent, recording: Recording | None) -> None:
        self.ended.append((event, recording))
        self._changed.set()

    async def clip_came(self, event: SoundEvent, recording: Recording | None) -> None:
        self.clips.append((event, recording))
        self._changed.set()

    async def event_traced(self, event: SoundEvent, trace: Trace) -> None:
        self.traces.setdefault(event.id, []).append(trace.embeddings)

    def scores(
        self, microphone_id: str, at: datetime, scores: Mapping[str, float], level_dbfs: float
    ) -> None:
        assert -120 <= level_dbfs <= 0
        self.all_scores.append((microphone_id, at, dict(scores)))
        self._changed.set()

    def level(
        self, microphone_id: str, at: datetime, level_dbfs: float, noise_floor_dbfs: float, gated: bool
    ) -> None:
        assert microphone_id
        self.levels.append((at, level_dbfs, noise_floor_dbfs, gated))
        self._changed.set()

    def status(self, microphone_id: str, status: SourceStatus) -> None:
        self.statuses.append((microphone_id, status))
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something is so that nobody tells of."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.01)


class ArraySource:
    """Plays each array once, as fast as it is taken, and breaks off between them; then stays silent."""

    patience = Patience()

    def __init__(self, *stretches: NDArray[np.float32], block_s: float = 0.1) -> None:
        self._stretches = list(stretches)
        self._block_s = block_s
        self.opened: list[int] = []

    async def blocks(self, sample_rate: int) -> AsyncIterator[AudioBlock]:
        self.opened.append(sample_rate)
        if self._stretches:
            samples = self._stretches.pop(0)
            size = round(self._block_s * sample_rate)
            for start in range(0, len(samples), size):
                piece = samples[start : start + size]
                yield AudioBlock(piece, sample_rate, MORNING + (start + len(piece)) / sample_rate)
            if self._stretches:
                raise SourceError("closed", "the camera closed the connection")
        await asyncio.Event().wait()


def holder_of(model: ClapModel, folder: Path) -> ModelHolder:
    """The real holder with a model that no name stands for."""
    holder = ModelHolder("builtin", device="cpu", cache_dir=folder)
    holder._use(model)
    return holder


def microphone(
    microphone_id: str = "kitchen",
    *,
    labels: tuple[str | tuple[str, float], ...] = ("glass breaking", "alarm"),
    source: SourceSettings | None = None,
    hop_s: float = 0.5,
    enabled: bool = True,
    negatives: tuple[str, ...] = (),
    name: str = "Kitchen",
    recording: RecordingSettings | None = None,
    denoise: bool = False,
) -> Microphone:
    """A microphone with the usual labels."""
    choices = tuple(
        LabelChoice(label=label)
        if isinstance(label, str)
        else LabelChoice(label=label[0], threshold=label[1])
        for label in labels
    )
    return Microphone(
        id=microphone_id,
        settings=MicrophoneSettings(
            name=name,
            source=source or PushSourceSettings(),
            labels=choices,
            hop_s=hop_s,
            enabled=enabled,
            negatives=negatives,
            recording=recording or RecordingSettings(),
            denoise=denoise,
        ),
    )


class Rig:
    """A listener with everything that it needs."""

    def __init__(
        self,
        source: AudioSource,
        folder: Path,
        sink: RememberingSink | None = None,
        model: ClapModel | None = None,
    ) -> None:
        self.source = source
        self.sink = sink or RememberingSink()
        self.counters = Counters()
        self.diary = Diary()
        self.batcher = Batcher()
        # Sound comes as fast as it can here, which is not to be taken for too much of it.
        self.batcher.pace = Pace(clock=lambda: 0.0)
        self.holder = holder_of(model or SpectralModel(), folder)
        self.statuses: list[SourceStatus] = []
        self.listener = self.listen_for()

    def listen_for(self, *labels: str, hop_s: float = 0.5) -> MicrophoneListener:
        settings = microphone(labels=labels or ("glass breaking", "alarm"), hop_s=hop_s).settings
        self.listener = MicrophoneListener(
            "kitchen",
            self.source,
            make_plan(settings, LIBRARY),
            background=LIBRARY.background,
            holder=self.holder,
            batcher=self.batcher,
            sink=self.sink,
            counters=self.counters,
            diary=self.diary,
            on_status=self.statuses.append,
        )
        return self.listener

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.batcher.start()
        task = asyncio.create_task(self.listener.run())
        try:
            yield
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await self.batcher.stop()

    async def until_heard(self, duration_s: float) -> None:
        """Wait until the whole of the first stretch was judged."""
        await self.sink.until(lambda: len(self.sink.levels) >= int(duration_s / 0.5))
        await eventually(lambda: self.listener._judging._judged_s >= duration_s - 0.01)


class FedSource(ArraySource):
    """Gives the sound that the test feeds."""

    def __init__(self) -> None:
        super().__init__()
        self._queue: asyncio.Queue[AudioBlock] = asyncio.Queue()
        self._fed_s = 0.0

    async def blocks(self, sample_rate: int) -> AsyncIterator[AudioBlock]:
        self.opened.append(sample_rate)
        while True:
            yield await self._queue.get()

    def feed(self, samples: NDArray[np.float32], *, rate: int = RATE, after_gap: bool = False) -> None:
        for start in range(0, len(samples), rate // 10):
            piece = samples[start : start + rate // 10]
            self._fed_s += len(piece) / rate
            gap = after_gap and start == 0
            self._queue.put_nowait(AudioBlock(piece, rate, MORNING + self._fed_s, after_gap=gap))


class Live(Rig):
    """A rig whose stream goes on."""

    def __init__(self, folder: Path, model: ClapModel | None = None) -> None:
        self.fed = FedSource()
        super().__init__(self.fed, folder, model=model)

    @asynccontextmanager
    async def listening(self, rate: int = RATE) -> AsyncIterator[None]:
        async with self.running():
            self.fed.feed(room(20, rate=rate), rate=rate)
            await self.judged(20)
            yield

    async def judged(self, until_s: float) -> None:
        await eventually(lambda: self.listener._judging._judged_s >= until_s - 0.01)

    async def testing(self, test: Coroutine[None, None, Finding]) -> asyncio.Task[Finding]:
        """Begin a test; return when it waits for sound."""
        task = asyncio.create_task(test)
        await eventually(
            lambda: (
                task.done()
                or self.listener._hearing._shadow is not None
                or bool(self.listener._judging.withholding.tested)
            )
        )
        return task

    def told(self) -> list[str]:
        return [event.label_id for event in self.sink.started]
