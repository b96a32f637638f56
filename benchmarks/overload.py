"""What happens when there are far more microphones than the machine can serve.

A real server is pushed loud noise for all of them in real time over WebSockets; then all clients but a few
leave. Every window that came due must be counted, as scored, gated or dropped. Clients and server share the
machine, as nobody else does: compare figures of one machine only.

    .venv/server/bin/python -m benchmarks.overload [--microphones N] [--seconds T]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from benchmarks.report import write

RATE = 16_000
BLOCK_S = 0.1
HOP_S = 0.5
LEFT = 4
TOKEN = "overload-" + "x" * 32
_SERVE = "import sys; from clap_server.cli import main; sys.exit(main())"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Client:
    """Asks the server."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self._base = base

    async def get(self, path: str) -> Any:
        """An answer of JSON."""
        async with self._session.get(self._base + path) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def add(self, name: str) -> None:
        """Add a microphone that takes pushed sound."""
        body = {"name": name, "source": {"type": "push"}, "labels": [{"label": "alarm"}], "hop_s": HOP_S}
        async with self._session.put(f"{self._base}/api/microphones/{name}", json=body) as answer:
            answer.raise_for_status()

    async def push(self, name: str, sound: bytes, until: float) -> None:
        """Send sound in real time, as a microphone does."""
        size = round(BLOCK_S * RATE) * 2
        async with self._session.ws_connect(f"{self._base}/api/microphones/{name}/audio") as connection:
            await connection.send_json({"format": "s16le", "sample_rate": RATE})
            started = time.monotonic()
            number = 0
            while (now := time.monotonic()) < until:
                await asyncio.sleep(started + number * BLOCK_S - now)
                first = number * size % (len(sound) - size)
                await connection.send_bytes(sound[first : first + size])
                number += 1

    async def health_s(self, until: float) -> list[float]:
        """How long /health takes."""
        took = []
        while time.monotonic() < until:
            started = time.monotonic()
            await self.get("/health")
            took.append(time.monotonic() - started)
            await asyncio.sleep(0.2)
        return took

    async def counts(self) -> dict[str, dict[str, Any]]:
        """Microphones by id."""
        return {entry["id"]: entry for entry in (await self.get("/api/microphones"))["microphones"]}


def _counted(microphone: dict[str, Any]) -> int:
    return int(microphone["windows_scored"] + microphone["windows_gated"] + microphone["windows_dropped"])


async def measure(client: Client, microphones: int, seconds: float) -> dict[str, Any]:
    """Run and count."""
    noise = np.random.default_rng(0).normal(0, 4000, 10 * RATE).astype("<i2").tobytes()
    ids = [f"m{number}" for number in range(microphones)]
    for name in ids:
        await client.add(name)
    until = time.monotonic() + seconds
    stays_until = until + 60
    staying = [asyncio.create_task(client.push(name, noise, stays_until)) for name in ids[:LEFT]]
    pushing = [asyncio.create_task(client.push(name, noise, until)) for name in ids[LEFT:]]
    health_s = await client.health_s(until)
    during = await client.counts()
    info = await client.get("/api/info")
    await asyncio.gather(*pushing)
    left_at = time.monotonic()
    before = {name: during[name]["windows_scored"] for name in ids[:LEFT]}
    again_s = None
    while again_s is None and time.monotonic() < stays_until:
        now = await client.counts()
        if all(now[name]["windows_scored"] > count + 2 for name, count in before.items()):
            again_s = time.monotonic() - left_at
        await asyncio.sleep(0.2)
    for task in staying:
        task.cancel()
    await asyncio.gather(*staying, return_exceptions=True)
    await asyncio.sleep(6)
    after = await client.counts()
    due = (microphones - LEFT) * round(seconds / HOP_S)
    counted = sum(_counted(after[name]) for name in ids[LEFT:])
    scored = [during[name]["windows_scored"] for name in ids]
    return {
        "windows_due": due,
        "counted_share": round(counted / due, 3),
        "scored_a_second": round(sum(scored) / seconds, 1),
        "least_scored": min(scored),
        "most_scored": max(scored),
        "health_median_s": round(float(np.median(health_s)), 3),
        "health_p95_s": round(float(np.percentile(health_s, 95)), 3),
        "codes": ", ".join(sorted({entry["status"]["code"] for entry in during.values()})),
        "overload": info.get("overload"),
        "others_heard_again_after_s": None if again_s is None else round(again_s, 1),
    }


async def run(microphones: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Start a server and measure it."""
    port = _free_port()
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _SERVE, "serve", "--host", "127.0.0.1", "--port", str(port)),
        *("--data", str(folder), "--model", "builtin", "--device", "cpu", "--log-level", "error"),
        env={**os.environ, "CLAP_TOKEN": TOKEN},
    )
    try:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
            client = Client(session, f"http://127.0.0.1:{port}")
            while True:
                try:
                    if (await client.get("/health"))["status"] == "ok":
                        break
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.2)
            return await measure(client, microphones, seconds)
    finally:
        server.terminate()
        await server.wait()


def main() -> None:
    """Run and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--microphones", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=40.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(run(arguments.microphones, arguments.seconds, Path(folder)))
    lines = ["| figure | |", "|---|---|", *(f"| {name} | {value} |" for name, value in figures.items())]
    parameters = {"model": "builtin", "hop_s": HOP_S, **vars(arguments)}
    write("overload", "cpu", parameters, figures, "\n".join(lines))


if __name__ == "__main__":
    main()
