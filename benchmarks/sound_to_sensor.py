"""Seconds from a break in the stream to the state change in Home Assistant, on real parts.

A real Home Assistant and a real server with the built-in model; a client pushes sound in real time, so
the moment at which the first sample of each break enters the stream is known exactly.

    .venv/server/bin/python -m benchmarks.sound_to_sensor [--breaks N] [--output FILE.json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import numpy as np

from scripts.demo.home_assistant import HomeAssistantProcess, free_port
from scripts.demo.recorder import Change, StateRecorder
from scripts.demo.run import adopt_microphone
from scripts.demo.server import ServerProcess
from tests.e2e.scene import SAMPLE_RATE, make_scene

if TYPE_CHECKING:
    from tests.e2e.scene import Scene

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


async def measure(session: aiohttp.ClientSession, folder: Path, breaks: int) -> tuple[list[float], int, bool]:
    """Return the delays in seconds of the breaks that were seen, how many were missed, whether real glass."""
    server = ServerProcess(
        session, folder / "server", host="127.0.0.1", port=await free_port(), options=("--model", "builtin")
    )
    home_assistant = HomeAssistantProcess(session, folder / "ha", host="127.0.0.1", port=await free_port())
    home_assistant.prepare([])
    delays: list[float] = []
    missed = 0
    rng = np.random.default_rng(0)
    real = False
    try:
        await asyncio.gather(server.start_and_wait(), home_assistant.start_and_wait())
        await home_assistant.add_server({"host": "127.0.0.1", "port": server.port, "token": server.token})
        await adopt_microphone(home_assistant, server, "bench", {"type": "push"})
        async with StateRecorder(home_assistant) as recorder:
            url = f"{server.url}/api/microphones/bench/audio"
            async with session.ws_connect(url, headers={"Authorization": f"Bearer {server.token}"}) as socket:
                await socket.send_json({"format": "s16le", "sample_rate": SAMPLE_RATE, "channels": 1})
                for number in range(breaks):
                    # At any place between two windows.
                    break_s = 4 + float(rng.uniform(0, 0.5))
                    scene = make_scene(number, break_s=break_s, duration_s=SCENE_S)
                    real = scene.real
                    seen = len(recorder.of(ENTITY))
                    broke_at = await push(socket, scene)
                    on = [change for change in recorder.of(ENTITY)[seen:] if turned_on(change)]
                    if on:
                        delays.append(on[0].heard_at - broke_at)
                    else:
                        missed += 1
                    print(f"{number + 1}/{breaks}: {f'{delays[-1]:.2f} s' if on else 'missed'}", flush=True)
    finally:
        await asyncio.gather(server.stop(), home_assistant.stop())
    return delays, missed, real


def turned_on(change: Change) -> bool:
    """Whether a sensor turned on."""
    return change.new == "on" and change.old != "on"


async def main() -> None:
    """Run the benchmark and print and store the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--breaks", type=int, default=20)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        async with aiohttp.ClientSession() as session:
            delays, missed, real = await measure(session, Path(folder), arguments.breaks)
    result = {
        "benchmark": "sound_to_sensor",
        "date": datetime.now(tz=UTC).date().isoformat(),
        "glass": "recordings" if real else "synthesised",
        "breaks": arguments.breaks,
        "missed": missed,
        "median_s": round(float(np.median(delays)), 3) if delays else None,
        "p95_s": round(float(np.percentile(delays, 95)), 3) if delays else None,
        "delays_s": [round(delay, 3) for delay in delays],
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    asyncio.run(main())
