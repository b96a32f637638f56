"""Seconds from a break in the stream to the state change in Home Assistant, on real parts.

A real Home Assistant and a real server with the built-in model; a client pushes sound in real time, so
the moment at which the first sample of each break enters the stream is known exactly.

    .venv/server/bin/python -m benchmarks.sound_to_sensor [--breaks N]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import numpy as np

from benchmarks.report import write
from scripts.harness.flows import add_server, adopt_microphone
from scripts.harness.home_assistant import HomeAssistantProcess
from scripts.harness.ports import free_port
from scripts.harness.recorder import Change, StateRecorder
from scripts.harness.scene import SAMPLE_RATE, make_scene
from scripts.harness.server import ServerProcess

if TYPE_CHECKING:
    from scripts.harness.scene import Scene

BLOCK_S = 0.02
SCENE_S = 12.0
ENTITY = "binary_sensor.bench_glass_breaking"


async def push(socket: aiohttp.ClientWebSocketResponse, scene: Scene) -> float:
    """Send a scene in real time; returns the Unix time at which the break's first sample was due."""
    pcm = (scene.samples * 32767).astype("<i2")
    size = round(BLOCK_S * SAMPLE_RATE)
    started = time.time()
    for first in range(0, len(pcm), size):
        # A real microphone delivers a block when its last sample has been heard.
        await asyncio.sleep(max(0.0, started + (first + size) / SAMPLE_RATE - time.time()))
        await socket.send_bytes(pcm[first : first + size].tobytes())
    return started + scene.break_s


@dataclass
class Tally:
    """What came of the breaks.

    Attributes:
        delays_s: of the breaks that were seen.
        missed: breaks without a state change.
        early: state changes before a break, by other sounds.
        real: whether recorded glass broke.
    """

    delays_s: list[float] = field(default_factory=list)
    missed: int = 0
    early: int = 0
    real: bool = False


async def measure(session: aiohttp.ClientSession, folder: Path, breaks: int) -> Tally:
    """Run both programs and break glass ``breaks`` times."""
    server = ServerProcess(
        session, folder / "server", host="127.0.0.1", port=await free_port(), options=("--model", "builtin")
    )
    home_assistant = HomeAssistantProcess(session, folder / "ha", host="127.0.0.1", port=await free_port())
    home_assistant.prepare([])
    tally = Tally()
    rng = np.random.default_rng(0)
    try:
        await asyncio.gather(server.start_and_wait(), home_assistant.start_and_wait())
        api = home_assistant.api
        await add_server(api, {"host": "127.0.0.1", "port": server.port, "token": server.token})
        await adopt_microphone(api, server, "bench", {"type": "push"})
        async with StateRecorder(api) as recorder:
            url = f"{server.url}/api/microphones/bench/audio"
            async with session.ws_connect(url, headers={"Authorization": f"Bearer {server.token}"}) as socket:
                await socket.send_json({"format": "s16le", "sample_rate": SAMPLE_RATE, "channels": 1})
                for number in range(breaks):
                    # At any place between two windows.
                    break_s = 5 + float(rng.uniform(0, 0.5))
                    scene = make_scene(number, break_s=break_s, duration_s=SCENE_S)
                    tally.real = scene.real
                    seen = len(recorder.of(ENTITY))
                    broke_at = await push(socket, scene)
                    changes = [change for change in recorder.of(ENTITY)[seen:] if turned_on(change)]
                    tally.early += sum(change.heard_at < broke_at for change in changes)
                    delays_s = [
                        change.heard_at - broke_at for change in changes if change.heard_at >= broke_at
                    ]
                    if delays_s:
                        tally.delays_s.append(delays_s[0])
                    else:
                        tally.missed += 1
                    outcome = f"{delays_s[0]:.2f} s" if delays_s else "missed"
                    print(f"{number + 1}/{breaks}: {outcome}", flush=True)
    finally:
        await asyncio.gather(server.stop(), home_assistant.stop())
    return tally


def turned_on(change: Change) -> bool:
    """Whether a sensor turned on."""
    return change.new == "on" and change.old != "on"


async def main() -> None:
    """Run the benchmark and print and store the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--breaks", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        async with aiohttp.ClientSession() as session:
            tally = await measure(session, Path(folder), arguments.breaks)
    delays_s = np.array(tally.delays_s or [np.nan])
    glass = "recorded" if tally.real else "synthesised"
    figures = {
        "median_s": round(float(np.median(delays_s)), 3),
        "p95_s": round(float(np.percentile(delays_s, 95)), 3),
        "max_s": round(float(delays_s.max()), 3),
        "seen": len(tally.delays_s),
        "missed": tally.missed,
        "turned_on_before_a_break": tally.early,
    }
    table = "| figure | value |\n|---|---|\n" + "\n".join(
        f"| {name} | {value} |" for name, value in figures.items()
    )
    parameters = {"model": "builtin", "breaks": arguments.breaks, "glass": glass}
    write("sound_to_sensor", "cpu", parameters, figures | {"delays_s": tally.delays_s}, table)


if __name__ == "__main__":
    asyncio.run(main())
