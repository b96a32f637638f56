"""A child process whose output goes to a file and whose end is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path


class ProcessError(Exception):
    """A process did not start, or ended by itself."""


class Process:
    """A program running beside this one.

    Args:
        name: for messages.
        command: program and arguments.
        log: receives its output; kept from start to start.
        environment: added to this process's own.
    """

    def __init__(
        self, name: str, command: list[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._command = command
        self._log = log
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """Whether it is alive."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it; in a process group of its own, so that Ctrl-C reaches only the parent."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )

    async def until(self, ready: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
        """Wait until ``ready`` says so.

        Raises:
            ProcessError: it ended before, or is not ready in time; the message holds the end of its log.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.running:
                    if await ready():
                        return
                    await asyncio.sleep(0.2)
        what = f"is not ready after {timeout_s:.0f} s" if self.running else "ended"
        raise ProcessError(f"{self.name} {what}. The end of its log, {self._log}:\n{self.log_tail()}")

    async def wait(self) -> int:
        """Wait for its end and return its exit status."""
        if self._process is None:
            raise ProcessError(f"{self.name} was not started")
        return await self._process.wait()

    async def stop(self, grace_s: float = 20) -> int:
        """Ask it to end, kill it after ``grace_s``; returns its exit status."""
        if self._process is None:
            return 0
        if self.running:
            self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace_s):
                    await self._process.wait()
            except TimeoutError:
                await self.kill()
        return await self._process.wait()

    async def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self._process is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    def log_tail(self, lines: int = 25) -> str:
        """Return the last lines of its output."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
