"""For how long the server's event loop is held up, while the server does what it does.

A real server with the built-in model runs in this process, its clients in another. A task on the server's
loop sleeps for 2 ms again and again and notes how late it is woken; besides, the processor time of each
callback is taken. Lateness is what a client feels, and holds what other programs of the machine took;
processor time is the server's own fault, and says which callback it was.

    .venv/server/bin/python -m benchmarks.blocking [--microphones N] [--seconds T]
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import io
import json
import logging
import multiprocessing
import tempfile
import time
import wave
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np

from benchmarks.report import write
from benchmarks.stored import an_event, fill
from clap_server.api.pages import files
from clap_server.api.server import Server
from clap_server.listening.sink import Recording
from clap_server.settings import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

RATE = 16_000
BLOCK_S = 0.1
TICK_S = 0.002
EVENTS = 10_000
NEW_LABELS = 100
TOKEN = "blocking-" + "x" * 32
_HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Watcher:
    """How late callbacks of the running loop come, and which of them work for long."""

    late_s: list[float] = field(default_factory=list)
    longest_s: float = 0.0
    longest: str = ""

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            due = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            self.late_s.append(max(0.0, time.perf_counter() - due))

    def figures(self) -> dict[str, Any]:
        """Milliseconds."""
        late_ms = 1000 * np.array(self.late_s)
        return {
            "late_p99_ms": round(float(np.percentile(late_ms, 99)), 2),
            "late_worst_ms": round(float(late_ms.max()), 2),
            "longest_callback_ms": round(1000 * self.longest_s, 2),
            "longest_callback": self.longest,
        }


def _name(handle: asyncio.Handle) -> str:
    """Of the function where a callback, or the innermost coroutine of a task, is."""
    callback = getattr(handle, "_callback", None)
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return getattr(callback, "__qualname__", None) or type(callback).__qualname__
    inner: Any = task.get_coro()
    names: list[str] = []
    while inner is not None:
        code = getattr(inner, "cr_code", None) or getattr(inner, "ag_code", None)
        if not names or (code is not None and "clap_server" in code.co_filename):
            names.append(inner.__qualname__)
        inner = getattr(inner, "cr_await", None) or getattr(inner, "ag_await", None)
    return " > ".join(names[-2:])


# Named apart because it is asyncio's own: its debug mode measures here too, but no processor time.
_RUN = "_run"


def _count_callbacks(watchers: list[Watcher]) -> None:
    """Have the processor time of all that the loop runs told to the newest watcher."""
    run = getattr(asyncio.Handle, _RUN)

    def timed(handle: asyncio.Handle) -> None:
        if not watchers:
            run(handle)
            return
        watcher = watchers[-1]
        name = _name(handle)
        started = time.thread_time()
        run(handle)
        took_s = time.thread_time() - started
        if took_s > watcher.longest_s:
            watcher.longest_s, watcher.longest = took_s, name

    setattr(asyncio.Handle, _RUN, timed)


# What runs in the clients' process.


def fetch(port: int, method: str, path: str, body: bytes | None = None, kind: str = "") -> bytes:
    """Ask the server."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    headers = _HEADERS | ({"Content-Type": kind} if kind else {})
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status >= 400:
        raise RuntimeError(f"{method} {path}: {answer.status} {content[:500]!r}")
    return content


def push(port: int, names: list[str], seconds: float) -> int:
    """Send noise as so many microphones do, and listen as a page does; returns the messages that came."""
    return asyncio.run(_push(port, names, seconds))


async def _push(port: int, names: list[str], seconds: float) -> int:
    noise = np.random.default_rng(0).normal(0, 1000, 10 * RATE).astype("<i2").tobytes()
    connector = aiohttp.TCPConnector(limit=0)
    base = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession(base, headers=_HEADERS, connector=connector) as session:
        until = time.monotonic() + seconds
        listening = asyncio.create_task(_listen(session, until, topics=["scores", "levels"]))
        await asyncio.gather(*(_send(session, name, noise, until, n) for n, name in enumerate(names)))
        return await listening


async def _send(session: aiohttp.ClientSession, name: str, noise: bytes, until: float, number: int) -> None:
    size = round(BLOCK_S * RATE) * 2
    # Microphones do not send in step.
    await asyncio.sleep(BLOCK_S * (number % 10) / 10)
    async with session.ws_connect(f"/api/microphones/{name}/audio") as socket:
        await socket.send_json({"format": "s16le", "sample_rate": RATE})
        started = time.monotonic()
        sent = 0
        while (now := time.monotonic()) < until:
            await asyncio.sleep(started + sent * BLOCK_S - now)
            first = sent * size % (len(noise) - size)
            await socket.send_bytes(noise[first : first + size])
            sent += 1


async def _listen(session: aiohttp.ClientSession, until: float, **wanted: Any) -> int:
    count = 0
    async with session.ws_connect("/api/ws", max_msg_size=0) as socket:
        await socket.receive_json()
        await socket.send_json({"type": "subscribe", **wanted})
        while (left := until - time.monotonic()) > 0:
            try:
                await socket.receive(left)
            except TimeoutError:
                break
            count += 1
    return count


def replay(port: int, changes: int) -> int:
    """Read all events as Home Assistant does that was away for long."""
    return asyncio.run(_replay(port, changes))


async def _replay(port: int, changes: int) -> int:
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=_HEADERS) as session,
        session.ws_connect("/api/ws", max_msg_size=0) as socket,
    ):
        await socket.receive_json()
        await socket.send_json({"type": "subscribe", "after": 0})
        count = 0
        while (message := await socket.receive_json())["type"] != "replayed":
            count += message["type"] == "event"
    if count < changes:
        raise RuntimeError(f"{count} of {changes} changes were replayed")
    return count


class Bench:
    """The server with what is done to it.

    Args:
        server: that runs.
        pool: where clients run.
        microphones: for the broadcast.
        seconds: of it.
    """

    def __init__(self, server: Server, pool: ProcessPoolExecutor, microphones: int, seconds: float) -> None:
        self._server = server
        self._pool = pool
        self._microphones = microphones
        self._seconds = seconds

    async def _client(self, work: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, work, self._server.port, *arguments)

    async def get(self, *paths: str) -> None:
        """Fetch one after the other."""
        for path in paths:
            await self._client(fetch, "GET", path)

    async def put(self, name: str, labels: list[str], source: dict[str, Any]) -> None:
        """Add a microphone."""
        body = {"name": name, "source": source, "labels": [{"label": label} for label in labels]}
        content = json.dumps(body).encode()
        await self._client(fetch, "PUT", f"/api/microphones/{name}", content, "application/json")

    async def nothing(self) -> None:
        """Wait."""
        await asyncio.sleep(3)

    async def described(self) -> None:
        """The OpenAPI document and the page that shows it."""
        await self.get("/api/openapi.json", "/docs", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css")

    async def asked(self) -> None:
        """What a page and Prometheus ask for."""
        for _ in range(3):
            await self.get("/api/info", "/api/labels", "/api/microphones", "/metrics", "/health")

    async def listed(self) -> None:
        """Events, a page of the longest."""
        for _ in range(3):
            await self.get("/api/events?limit=1000", "/api/events?limit=1000&after=0&label=glass_breaking")

    async def replayed(self) -> None:
        """All changes again."""
        await self._client(replay, EVENTS)

    async def recorded(self) -> None:
        """A recording of half a minute is written, and fetched as FLAC, MP3 and picture."""
        store = self._server.context.store
        event = an_event("recorded", datetime.now(UTC), is_over=True)
        samples = np.random.default_rng(0).normal(0, 0.1, 30 * 48_000).astype(np.float32)
        await store.events.record("started", event, "Hall")
        await store.clips.save(event, Recording(samples, 48_000, event.started_at))
        await store.events.record("ended", event, "Hall")
        base = f"/api/events/{event.id}"
        await self.get(f"{base}/clip.flac", f"{base}/clip.mp3", f"{base}/spectrogram.png")

    async def classified(self) -> None:
        """Two minutes of sound are uploaded."""
        body, kind = _upload(120, "glass breaking, alarm, dog barking, speech, normal")
        await self._client(fetch, "POST", "/api/classify", body, kind)

    async def worded(self) -> None:
        """A microphone with labels that nobody ever named."""
        labels = [f"a red thing number {n} that falls" for n in range(NEW_LABELS)]
        await self.put("worded", labels, {"type": "push"})

    async def checked(self) -> None:
        """The same, but only asked what they mean."""
        labels = [{"label": f"a blue thing number {n} that falls"} for n in range(NEW_LABELS)]
        body = {"settings": {"name": "checked", "source": {"type": "push"}, "labels": labels}}
        content = json.dumps(body).encode()
        await self._client(fetch, "POST", "/api/microphones/check", content, "application/json")

    async def added(self) -> None:
        """Microphones with labels of the library."""
        for number in range(3):
            await self.put(f"added{number}", ["glass breaking", "alarm", "dog barking"], {"type": "push"})

    async def broadcast(self) -> None:
        """Many microphones at once, and a client that takes all that is told of them."""
        names = [f"m{number}" for number in range(self._microphones)]
        for name in names:
            await self.put(name, ["glass breaking", "alarm", "dog barking", "speech"], {"type": "push"})
        await self._client(push, names, self._seconds)

    async def page(self) -> None:
        """All files of the page."""
        await self.get(*(address for address, _ in files()))


def _upload(seconds: int, labels: str) -> tuple[bytes, str]:
    """A form as a browser sends it, and its content type."""
    noise = np.random.default_rng(0).normal(0, 3000, seconds * RATE).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(RATE)
        recording.writeframes(noise.tobytes())
    mark = "blocking"
    head = f'--{mark}\r\nContent-Disposition: form-data; name="audio"; filename="noise.wav"\r\n\r\n'
    rest = f'\r\n--{mark}\r\nContent-Disposition: form-data; name="labels"\r\n\r\n{labels}\r\n--{mark}--\r\n'
    return head.encode() + file.getvalue() + rest.encode(), f"multipart/form-data; boundary={mark}"


async def measure(folder: Path, microphones: int, seconds: float) -> dict[str, dict[str, Any]]:
    """Do everything in turn, each with a watcher of its own."""
    data = folder / "data"
    data.mkdir()
    fill(data / "clap.db", EVENTS)
    watchers: list[Watcher] = []
    _count_callbacks(watchers)
    settings = ServerSettings(
        host="127.0.0.1", port=0, data=data, token=TOKEN, model="builtin", device="cpu", log_level="error"
    )
    server = Server(settings)
    await server.start()
    figures = {}
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            bench = Bench(server, pool, microphones, seconds)
            # The clients' process starts, which is none of the server's work.
            await bench.get("/health")
            for what, work in (
                ("nothing", bench.nothing),
                ("OpenAPI document and page", bench.described),
                ("info, labels, microphones, metrics", bench.asked),
                (f"lists of {EVENTS:,} events", bench.listed),
                (f"replay of {2 * EVENTS:,} changes", bench.replayed),
                ("recording written, MP3, picture", bench.recorded),
                ("upload classified", bench.classified),
                (f"{NEW_LABELS} new labels embedded", bench.worded),
                (f"{NEW_LABELS} new labels checked", bench.checked),
                ("microphone added", bench.added),
                (f"{microphones} microphones told of", bench.broadcast),
                ("files of the page", bench.page),
            ):
                watcher = Watcher()
                watchers.append(watcher)
                watching = asyncio.create_task(watcher.run())
                await work()
                await asyncio.sleep(0.2)
                watching.cancel()
                watchers.clear()
                figures[what] = watcher.figures()
                print(what, figures[what], flush=True)
    finally:
        await server.stop()
    return figures


def main() -> None:
    """Run and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--microphones", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0, help="that these are heard")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(Path(folder), arguments.microphones, arguments.seconds))
    lines = [
        "| while | late, p99, ms | late, worst, ms | longest callback, ms of processor time | that is |",
        "|---|---|---|---|---|",
        *(f"| {what} | {' | '.join(map(str, row.values()))} |" for what, row in figures.items()),
    ]
    write("blocking", "cpu", {"model": "builtin", **vars(arguments)}, figures, "\n".join(lines))


if __name__ == "__main__":
    main()
