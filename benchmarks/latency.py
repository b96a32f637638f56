"""Seconds from a break in the stream to the event, through the real listening stack.

Sound is pushed in real time, 20 ms at a time, so the moment at which the first sample of each break
enters is known. The scenes are synthesised (people talk, a radio plays, dishes clink, glass breaks), so
the figures can be had on any machine. What Home Assistant adds is measured by sound_to_sensor.py.

    .venv/server/bin/python -m benchmarks.latency [--breaks N] [--microphones N] [--model M] [--device D]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.report import write
from clap_server.audio.push import PushFormat
from clap_server.clap.holder import ModelHolder
from clap_server.detection.library import load_library
from clap_server.listening.config import LabelChoice, Microphone, MicrophoneSettings, PushSourceSettings
from clap_server.listening.supervisor import Supervisor
from clap_server.synthesis import demo_scene

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from clap_server.audio.source import SourceStatus
    from clap_server.listening.events import SoundEvent
    from clap_server.listening.sink import Recording
    from clap_server.listening.traces import Trace

BLOCK_S = 0.02
SECONDS_A_BREAK = 12.0
LABEL = "glass_breaking"
# A detection later than this is of something else.
LATEST_S = 4.0
LABELS = (LABEL, "alarm", "explosion")


class Clocking:
    """A sink that notes when each event was told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, float]] = []

    async def event_started(self, event: SoundEvent) -> None:
        """Note the time."""
        self.heard.append((event.microphone_id, event.label_id, time.time()))

    async def event_confirmed(self, event: SoundEvent) -> None:
        """What the model heard first has been counted."""

    async def event_ended(self, event: SoundEvent, recording: Recording | None) -> None:
        """Not measured."""

    async def clip_came(self, event: SoundEvent, recording: Recording | None) -> None:
        """Not measured."""

    async def event_traced(self, event: SoundEvent, trace: Trace) -> None:
        """Not measured."""

    def scores(
        self, microphone_id: str, at: datetime, scores: Mapping[str, float], level_dbfs: float
    ) -> None:
        """Not measured."""

    def level(
        self, microphone_id: str, at: datetime, level_dbfs: float, noise_floor_dbfs: float, gated: bool
    ) -> None:
        """Not measured."""

    def status(self, microphone_id: str, status: SourceStatus) -> None:
        """Not measured."""


async def play(supervisor: Supervisor, microphone_id: str, seed: int, breaks: int) -> list[float]:
    """Push a scene in real time; returns the Unix times of its breaks."""
    scene = demo_scene(np.random.default_rng(seed), duration_s=SECONDS_A_BREAK * breaks, breaks=breaks)
    pusher = supervisor.push_source(microphone_id).connect(PushFormat("f32le", scene.sample_rate))
    size = round(BLOCK_S * scene.sample_rate)
    # Microphones do not run in step.
    await asyncio.sleep(float(np.random.default_rng(seed).uniform(0, 1)))
    started = time.time()
    for first in range(0, len(scene.samples), size):
        # A real microphone delivers a block when its last sample has been heard.
        await asyncio.sleep(max(0.0, started + (first + size) / scene.sample_rate - time.time()))
        pusher.feed(scene.samples[first : first + size].tobytes())
    pusher.close()
    await asyncio.sleep(LATEST_S)
    return [started + at_s for at_s in scene.breaks_s]


async def measure(arguments: argparse.Namespace, folder: Path) -> tuple[list[float], int, int, str]:
    """Returns the delays of the breaks that were heard, how many were missed, false events, the device."""
    sink = Clocking()
    holder = ModelHolder(arguments.model, device=arguments.device, cache_dir=folder)
    await holder.start()
    supervisor = Supervisor(holder, load_library(), sink, media_dir=None)
    await supervisor.start()
    ids = [f"m{number}" for number in range(arguments.microphones)]
    try:
        for microphone_id in ids:
            settings = MicrophoneSettings(
                name=microphone_id,
                source=PushSourceSettings(),
                labels=tuple(LabelChoice(label=label) for label in LABELS),
                hop_s=arguments.hop,
            )
            await supervisor.apply(Microphone(id=microphone_id, settings=settings))
        plays = (
            play(supervisor, microphone_id, seed, arguments.breaks) for seed, microphone_id in enumerate(ids)
        )
        broke = dict(zip(ids, await asyncio.gather(*plays), strict=True))
        dropped = supervisor.batcher.metrics.dropped
    finally:
        await supervisor.stop()
        await holder.stop()
    if dropped:
        print(f"{dropped} windows were dropped: the machine is too slow for this many microphones")
    delays: list[float] = []
    rest = list(sink.heard)
    for microphone_id, moments in broke.items():
        for moment in moments:
            for event in rest:
                if event[:2] == (microphone_id, LABEL) and 0 <= event[2] - moment <= LATEST_S:
                    delays.append(event[2] - moment)
                    rest.remove(event)
                    break
    total = arguments.breaks * arguments.microphones
    return delays, total - len(delays), len(rest), holder.model.device


def main() -> None:
    """Run and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--breaks", type=int, default=20, help="for each microphone; 12 s each")
    parser.add_argument("--microphones", type=int, default=1)
    parser.add_argument("--hop", type=float, default=0.5)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        delays, missed, others, device = asyncio.run(measure(arguments, Path(folder)))
    figures = {
        "breaks": arguments.breaks * arguments.microphones,
        "missed": missed,
        "other_events": others,
        "median_s": round(float(np.median(delays)), 3) if delays else None,
        "p95_s": round(float(np.percentile(delays, 95)), 3) if delays else None,
        "delays_s": [round(delay, 3) for delay in delays],
    }
    table = (
        "| breaks | missed | other events | median s | p95 s |\n|---|---|---|---|---|\n"
        f"| {figures['breaks']} | {missed} | {others} | {figures['median_s']} | {figures['p95_s']} |"
    )
    parameters = {
        "model": arguments.model,
        "microphones": arguments.microphones,
        "hop_s": arguments.hop,
        "scenes": "synthesised",
    }
    write("latency", device, parameters, figures, table)


if __name__ == "__main__":
    main()
