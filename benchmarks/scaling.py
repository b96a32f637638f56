"""What more microphones and more labels cost.

Everything that listens in the server runs here as it does there, with the built-in model: sound is pushed in
real time, brought to the model's rate, looked at and judged. Only the network is left out.

- Loud microphones have all their windows scored. Latency is from the arrival of a window's last sample to
  its scores.
- Idle ones hear a quiet room, of which the gate keeps everything from the model.

Shares are of one core. With ``--plot`` curves are drawn, where there is matplotlib.

    .venv/server/bin/python -m benchmarks.scaling [--streams 1,10,30,100,200] [--seconds T] [--rate HZ]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import RESULTS, write
from clap_server.audio.push import PushFormat
from clap_server.clap.holder import ModelHolder
from clap_server.detection.library import MAX_LABELS, load_library
from clap_server.detection.scoring import LabelScorer
from clap_server.listening.config import LabelChoice, Microphone, MicrophoneSettings, PushSourceSettings
from clap_server.listening.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from numpy.typing import NDArray

    from clap_server.audio.source import SourceStatus
    from clap_server.clap.model import ClapModel
    from clap_server.listening.events import SoundEvent
    from clap_server.listening.sink import Recording
    from clap_server.listening.traces import Trace

BLOCK_S = 0.1
TICK_S = 0.005
LABELS = ("glass breaking", "alarm", "dog barking", "speech", "baby crying")
LOUD, QUIET = 0.05, 0.001


@dataclass
class Sink:
    """Notes when scores come; implements ``ListeningSink``."""

    late_s: list[float] = field(default_factory=list)

    def scores(
        self, microphone_id: str, at: datetime, scores: Mapping[str, float], level_dbfs: float
    ) -> None:
        del microphone_id, level_dbfs
        if scores:
            self.late_s.append(time.time() - at.timestamp())

    def level(
        self, microphone_id: str, at: datetime, level_dbfs: float, noise_floor_dbfs: float, gated: bool
    ) -> None:
        pass

    def status(self, microphone_id: str, status: SourceStatus) -> None:
        pass

    async def event_started(self, event: SoundEvent) -> None:
        pass

    async def event_confirmed(self, event: SoundEvent) -> None:
        pass

    async def event_ended(self, event: SoundEvent, recording: Recording | None) -> None:
        pass

    async def clip_came(self, event: SoundEvent, recording: Recording | None) -> None:
        pass

    async def event_traced(self, event: SoundEvent, trace: Trace) -> None:
        pass


class Streams:
    """Microphones that are pushed sound.

    Args:
        supervisor: has them.
        rate: of the sound, in Hz.
        level: RMS of the noise, full scale 1.
    """

    def __init__(self, supervisor: Supervisor, rate: int, level: float) -> None:
        self._supervisor = supervisor
        self._rate = rate
        noise = np.random.default_rng(0).normal(0, 32767 * level, 10 * rate)
        self._noise = np.clip(noise, -32768, 32767).astype("<i2").tobytes()
        self._pushing: list[asyncio.Task[None]] = []
        self.names: list[str] = []

    async def grow(self, count: int) -> None:
        """Have so many."""
        while len(self.names) < count:
            name = f"m{len(self.names)}"
            settings = MicrophoneSettings(
                name=name,
                source=PushSourceSettings(),
                labels=tuple(LabelChoice(label=label) for label in LABELS),
            )
            await self._supervisor.apply(Microphone(id=name, settings=settings))
            self.names.append(name)
            self._pushing.append(asyncio.create_task(self._push(name, len(self.names))))

    async def stop(self) -> None:
        """Have none any more."""
        for task in self._pushing:
            task.cancel()
        await asyncio.gather(*self._pushing, return_exceptions=True)
        for name in self.names:
            await self._supervisor.remove(name)

    async def _push(self, name: str, number: int) -> None:
        # Microphones are not in step: neither their blocks nor their windows.
        await asyncio.sleep(number * 0.377 % 1)
        pusher = self._supervisor.push_source(name).connect(PushFormat("s16le", self._rate))
        size = 2 * round(BLOCK_S * self._rate)
        started, sent = time.monotonic(), 0
        while True:
            await asyncio.sleep(started + sent * BLOCK_S - time.monotonic())
            first = sent * size % (len(self._noise) - size)
            pusher.feed(self._noise[first : first + size])
            sent += 1

    def count(self) -> dict[str, int]:
        """Windows so far."""
        shots = [self._supervisor.snapshot(name) for name in self.names]
        return {
            "scored": sum(shot.windows_scored for shot in shots),
            "gated": sum(shot.windows_gated for shot in shots),
            "dropped": sum(shot.windows_dropped for shot in shots),
        }


async def _watch(late_s: list[float]) -> None:
    while True:
        due = time.perf_counter() + TICK_S
        await asyncio.sleep(TICK_S)
        late_s.append(max(0.0, time.perf_counter() - due))


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return round(pages * 4096 / 1e6, 1)


async def measure(streams: Streams, sink: Sink, supervisor: Supervisor, seconds: float) -> dict[str, Any]:
    """What goes on for so long."""
    loop_late_s: list[float] = []
    before = streams.count()
    sink.late_s.clear()
    watching = asyncio.create_task(_watch(loop_late_s))
    cpu_s, loop_s, model_s, started = (
        time.process_time(),
        time.thread_time(),
        supervisor.batcher.metrics.busy_s,
        time.monotonic(),
    )
    await asyncio.sleep(seconds)
    wall_s = time.monotonic() - started
    watching.cancel()
    after = streams.count()
    late_ms = 1000 * np.array(sink.late_s)
    return {
        "core_share": round((time.process_time() - cpu_s) / wall_s, 3),
        "loop_share": round((time.thread_time() - loop_s) / wall_s, 3),
        "model_busy": round((supervisor.batcher.metrics.busy_s - model_s) / wall_s, 3),
        **{f"{what}_a_second": round((after[what] - before[what]) / wall_s, 1) for what in after},
        **{
            f"latency_p{q}_ms": round(float(np.percentile(late_ms, q)), 1) if len(late_ms) else None
            for q in (50, 95, 99)
        },
        "loop_late_p99_ms": round(1000 * float(np.percentile(loop_late_s, 99)), 1),
        "window_stride": supervisor.batcher.pace.every,
        "resident_mb": _resident_mb(),
    }


async def with_streams(
    holder: ModelHolder, counts: list[int], seconds: float, rate: int, *, level: float, settle_s: float
) -> dict[str, dict[str, Any]]:
    """Figures by the number of microphones."""
    sink = Sink()
    supervisor = Supervisor(holder, load_library(), sink, media_dir=None)
    await supervisor.start()
    streams = Streams(supervisor, rate, level)
    figures = {}
    try:
        for count in counts:
            await streams.grow(count)
            await asyncio.sleep(settle_s)
            figures[str(count)] = await measure(streams, sink, supervisor, seconds)
            print(f"{count} at {level}: {figures[str(count)]}", flush=True)
        await streams.stop()
    finally:
        await supervisor.stop()
    return figures


def with_labels(model: ClapModel, counts: list[int]) -> dict[str, dict[str, float]]:
    """What labels cost, by their number."""
    library = load_library()
    rows = np.random.default_rng(0).standard_normal((16, model.dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    figures = {}
    for count in counts:
        labels = [library.resolve(f"thing number {number} that falls") for number in range(count)]
        before_mb, started = _resident_mb(), time.perf_counter()
        scorer = LabelScorer(model, labels, library.background)
        made_s = time.perf_counter() - started
        figures[str(count)] = {
            "made_s": round(made_s, 2),
            "made_ms_a_label": round(1000 * made_s / count, 2),
            "score_ms_a_window": round(_score_ms(scorer, rows), 3),
            "more_mb": round(_resident_mb() - before_mb, 1),
        }
        print(f"{count} labels: {figures[str(count)]}", flush=True)
    return figures


def _score_ms(scorer: LabelScorer, rows: NDArray[np.float32]) -> float:
    took = []
    for _ in range(20):
        for row in rows[:4]:
            started = time.perf_counter()
            scorer.scores(row[None])
            took.append(time.perf_counter() - started)
    return 1000 * float(np.median(took))


def _table(figures: dict[str, dict[str, Any]], what: str) -> list[str]:
    columns = list(next(iter(figures.values())))
    return [
        f"| {what} | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
        *(f"| {count} | {' | '.join(map(str, row.values()))} |" for count, row in figures.items()),
        "",
    ]


def _plot(loud: dict[str, dict[str, Any]]) -> None:
    from matplotlib import pyplot as plt

    counts = [int(count) for count in loud]
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.5))
    for axis, name in zip(axes, ("latency_p95_ms", "core_share", "resident_mb"), strict=True):
        axis.plot(counts, [row[name] for row in loud.values()], marker="o")
        axis.set_xlabel("microphones")
        axis.set_title(name)
        axis.set_ylim(bottom=0)
    figure.tight_layout()
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "scaling.svg")


async def run(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All of it."""
    holder = ModelHolder("builtin", device="cpu", cache_dir=folder)
    await holder.start()
    try:
        idle = await with_streams(
            holder,
            [0, *arguments.idle],
            arguments.seconds,
            arguments.rate,
            level=QUIET,
            # The gate has to learn the room first.
            settle_s=arguments.settle,
        )
        loud = await with_streams(
            holder, arguments.streams, arguments.seconds, arguments.rate, level=LOUD, settle_s=6.0
        )
        labels = await asyncio.to_thread(with_labels, holder.model, arguments.labels)
    finally:
        await holder.stop()
    nothing = idle["0"]["core_share"]
    for count, row in idle.items():
        if count != "0":
            row["core_share_of_each"] = round((row["core_share"] - nothing) / int(count), 5)
    return {"loud": loud, "idle": idle, "labels": labels}


def _counts(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main() -> None:
    """Run and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=_counts, default=[1, 10, 30, 100, 200])
    parser.add_argument("--idle", type=_counts, default=[50, 200])
    parser.add_argument("--labels", type=_counts, default=[5, 50, MAX_LABELS, 1000, 5000])
    parser.add_argument("--seconds", type=float, default=20.0, help="that each is measured")
    parser.add_argument("--settle", type=float, default=20.0, help="before idle ones are measured")
    parser.add_argument("--rate", type=int, default=16_000, help="of the sound that comes, in Hz")
    parser.add_argument("--plot", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(run(arguments, Path(folder)))
    idle = {count: row for count, row in figures["idle"].items() if count != "0"}
    kept = (
        "core_share",
        "core_share_of_each",
        "loop_share",
        "gated_a_second",
        "scored_a_second",
        "resident_mb",
    )
    lines = [
        *_table(figures["loud"], "loud microphones"),
        *_table({count: {name: row[name] for name in kept} for count, row in idle.items()}, "idle ones"),
        *_table(figures["labels"], "labels"),
    ]
    if arguments.plot:
        _plot(figures["loud"])
    parameters = {"model": "builtin", "rate": arguments.rate, "seconds": arguments.seconds}
    write("scaling", "cpu", parameters, figures, "\n".join(lines))


if __name__ == "__main__":
    main()
