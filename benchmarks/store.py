"""What questions to the store take, with a thousand to a million events in it.

Each is asked of the server's own store, through SQLite and up to objects that the API sends, several times;
the median is told. Opening the database is done once, and checks all of it.

    .venv/server/bin/python -m benchmarks.store [--events N ...] [--rounds R]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.report import write
from benchmarks.stored import an_event, fill
from clap_server.store.database import Database
from clap_server.store.events import EventStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def _questions(store: EventStore, count: int) -> dict[str, Callable[[], Awaitable[object]]]:
    """What is asked, by what it is."""
    middle = count

    async def record() -> None:
        event = an_event("new", datetime.now(UTC), is_over=False)
        await store.record("started", event, "Room 1")

    return {
        "newest 100": store.list,
        "100 from the middle": lambda: store.list(after=middle),
        "newest 100 of a microphone": lambda: store.list(microphone="m1"),
        "newest 100 of a label": lambda: store.list(label="label_7"),
        "newest 100 of both": lambda: store.list(microphone="m1", label="label_7"),
        "none of both": lambda: store.list(microphone="m1", label="label_8"),
        "none of an unknown label": lambda: store.list(label="nothing"),
        "one event": lambda: store.get(f"event-{count // 2:08d}"),
        "500 changes to replay": lambda: store.changes_after(middle),
        "clips for retention": store.microphones_of_clips,
        "retention, nothing to forget": lambda: store.delete_before(datetime.now(UTC) - timedelta(days=9999)),
        "a verdict": lambda: store.set_feedback(f"event-{count // 3:08d}", "correct"),
        "a new event": record,
        "events left open": store.end_open,
    }


async def measure(path: Path, count: int, rounds: int) -> dict[str, float]:
    """Milliseconds, by what is asked."""
    database = Database(path)
    store = EventStore(database)
    started = time.perf_counter()
    await database.open()
    await store.load()
    took_ms = {"opening": 1000 * (time.perf_counter() - started)}
    try:
        for what, ask in _questions(store, count).items():
            took = []
            for _ in range(rounds):
                started = time.perf_counter()
                await ask()
                took.append(time.perf_counter() - started)
            took_ms[what] = 1000 * float(np.median(took))
    finally:
        await store.close()
        await database.close()
    return {what: round(ms, 2) for what, ms in took_ms.items()}


def main() -> None:
    """Run and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    figures = {}
    for count in arguments.events:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clap.db"
            fill(path, count)
            megabytes = round(path.stat().st_size / 1e6, 1)
            figures[str(count)] = asyncio.run(measure(path, count, arguments.rounds)) | {"MB": megabytes}
    counts = list(figures)
    lines = [
        f"| ms | {' | '.join(f'{int(count):,} events' for count in counts)} |",
        f"|---|{'---|' * len(counts)}",
        *(
            f"| {what} | {' | '.join(str(figures[count][what]) for count in counts)} |"
            for what in figures[counts[0]]
        ),
    ]
    write("store", "cpu", {"rounds": arguments.rounds}, figures, "\n".join(lines))


if __name__ == "__main__":
    main()
