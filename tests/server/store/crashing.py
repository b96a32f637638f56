"""A store in a process of its own that runs out of disk and is killed: run as a script.

Arguments: the data folder, and how many numbers are reserved ahead. Prints epoch, number and event id of each
change that it announces, then waits for its end.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

from clap_server.listening.events import SoundEvent
from clap_server.store import events
from clap_server.store.folder import DataFolder
from clap_server.store.retention import RetentionPolicy
from clap_server.store.store import Store

WRITTEN = 5
UNWRITTEN = 9


def _event() -> SoundEvent:
    now = datetime.now(UTC)
    return SoundEvent(str(uuid.uuid4()), "hall", "alarm", "Alarm", now, now, None, 0.5, 0.8, 0.9, -12.0)


async def main() -> None:
    store = Store(DataFolder(Path(sys.argv[1])), RetentionPolicy(30, 10**9, 365))
    events.RESERVED_AHEAD = int(sys.argv[2])
    await store.open()
    for index in range(WRITTEN + UNWRITTEN):
        if index == WRITTEN:
            # From here on the kernel lets no file grow.
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        change = await store.events.record("started", _event(), "Hall")
        print(store.events.epoch, change.sequence, change.stored.event.id, flush=True)  # noqa: T201 - to the test
    print("waiting", store.events.unwritten, flush=True)  # noqa: T201 - to the test
    await asyncio.Event().wait()


asyncio.run(main())
