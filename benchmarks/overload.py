"""What happens when there are far more microphones than the machine can serve.

Sound is pushed to all of them in real time, from this process, for some seconds; then all but a few are
removed. Every window that came due must be counted, as scored, gated or dropped.

    .venv/server/bin/python -m benchmarks.overload [--microphones N] [--seconds T] [--model M] [--device D]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.latency import Clocking
from benchmarks.report import write
from clap_server.audio.push import Pusher, PushFormat
from clap_server.clap.holder import ModelHolder
from clap_server.detection.library import load_library
from clap_server.listening.config import LabelChoice, Microphone, MicrophoneSettings, PushSourceSettings
from clap_server.listening.supervisor import Supervisor
from clap_server.synthesis import noise

RATE = 16_000
BLOCK_S = 0.1
HOP_S = 0.5
LEFT = 4
FORMAT = PushFormat("s16le", RATE)


def _loud(seconds: float) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """Noise that the gate lets through."""
    samples = noise(np.random.default_rng(0), RATE, kind="pink", duration_s=seconds)
    return (samples / np.abs(samples).max() * 20_000).astype("<i2")


async def _push(pushers: list[Pusher], seconds: float) -> list[float]:
    """Feed all in real time; returns how late each block was, in seconds."""
    sound = _loud(BLOCK_S * 10)
    size = round(BLOCK_S * RATE)
    started = time.monotonic()
    late_s = []
    for number in range(round(seconds / BLOCK_S)):
        due = started + number * BLOCK_S
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        late_s.append(time.monotonic() - due)
        data = sound[number % 10 * size :][:size].tobytes()
        for count, pusher in enumerate(pushers):
            pusher.feed(data)
            if count % 20 == 0:
                # Clients do not all send at once.
                await asyncio.sleep(0)
    return late_s


async def _until_heard(supervisor: Supervisor, ids: list[str], pushers: list[Pusher]) -> float:
    """Seconds until each of these got another window scored."""
    before = {name: supervisor.snapshot(name).windows_scored for name in ids}
    started = time.monotonic()
    while any(supervisor.snapshot(name).windows_scored == count for name, count in before.items()):
        await _push(pushers, HOP_S)
    return time.monotonic() - started


async def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, float | str | None]:
    """Run and count."""
    holder = ModelHolder(arguments.model, device=arguments.device, cache_dir=folder)
    await holder.start()
    supervisor = Supervisor(holder, load_library(), Clocking(), media_dir=None)
    await supervisor.start()
    ids = [f"m{number}" for number in range(arguments.microphones)]
    try:
        for name in ids:
            settings = MicrophoneSettings(
                name=name, source=PushSourceSettings(), labels=(LabelChoice(label="alarm"),), hop_s=HOP_S
            )
            await supervisor.apply(Microphone(id=name, settings=settings))
        pushers = [supervisor.push_source(name).connect(FORMAT) for name in ids]
        late_s = await _push(pushers, arguments.seconds)
        shots = [supervisor.snapshot(name) for name in ids]
        overload = getattr(supervisor, "overload", None)
        scored = sum(shot.windows_scored for shot in shots)
        dropped = sum(shot.windows_dropped for shot in shots)
        gated = sum(shot.windows_gated for shot in shots)
        for name in ids[LEFT:]:
            await supervisor.remove(name)
        again_s = await _until_heard(supervisor, ids[:LEFT], pushers[:LEFT])
        due = round(arguments.microphones * arguments.seconds / HOP_S)
        return {
            "windows_due": due,
            "scored": scored,
            "scored_a_second": round(scored / arguments.seconds, 1),
            "dropped": dropped,
            "gated": gated,
            "counted_share": round((scored + dropped + gated) / due, 3),
            "least_scored": min(shot.windows_scored for shot in shots),
            "most_scored": max(shot.windows_scored for shot in shots),
            "loop_late_median_s": round(float(np.median(late_s)), 3),
            "loop_late_p95_s": round(float(np.percentile(late_s, 95)), 3),
            "states": ", ".join(sorted({shot.status.code for shot in shots})),
            "overload": overload,
            "heard_again_after_s": round(again_s, 2),
        }
    finally:
        await supervisor.stop()
        await holder.stop()


def main() -> None:
    """Run and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--microphones", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(arguments, Path(folder)))
    table = "\n".join(
        ["| figure | |", "|---|---|", *(f"| {name} | {value} |" for name, value in figures.items())]
    )
    parameters = {
        "model": arguments.model,
        "microphones": arguments.microphones,
        "seconds": arguments.seconds,
        "hop_s": HOP_S,
    }
    write("overload", arguments.device, parameters, figures, table)


if __name__ == "__main__":
    main()
