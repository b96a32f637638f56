"""What the demo is doing, one line a step."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SPINNER = "|/-\\"
TICK_S = 0.2


@contextlib.asynccontextmanager
async def step(text: str) -> AsyncIterator[None]:
    """Show what is being done and how long it takes: counting on a terminal, else once at its end."""
    began = time.monotonic()
    terminal = sys.stderr.isatty()
    head = f"\033[1m==>\033[0m {text}:" if terminal else f"==> {text}:"
    print(head, end=" ", flush=True, file=sys.stderr)
    counting = asyncio.create_task(_count(head, began)) if terminal else None
    try:
        yield
    except BaseException:
        print(file=sys.stderr, flush=True)
        raise
    else:
        line = f"{time.monotonic() - began:.0f} s"
        print(f"\r{head} {line}\033[K" if terminal else line, file=sys.stderr, flush=True)
    finally:
        if counting is not None:
            counting.cancel()


async def _count(head: str, began: float) -> None:
    for sign in itertools.cycle(SPINNER):
        seconds = f"{sign} {time.monotonic() - began:.0f} s"
        print(f"\r{head} {seconds}\033[K", end="", flush=True, file=sys.stderr)
        await asyncio.sleep(TICK_S)
