"""A child process whose output goes to a file and whose end is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping


class ProcessError(Exception):
    """A process did not start, or ended by itself."""


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> Callable[[], None]:
    """What a child runs before its program: it is asked to end when the parent ends, however that does.

    Args:
        parent: id of the parent process, which the caller is.
    """

    def tie() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

    return tie


class Activity:
    """Tells a process that works, however slowly, from one that hangs.

    Args:
        log: its output.
        idle_s: for how long it must do nothing.
    """

    LEAST_SHARE = 0.02
    """Of a CPU core: a program that only waits wakes up now and then."""

    def __init__(self, log: Path, idle_s: float) -> None:
        self._log = log
        self._idle_s = idle_s
        self._since = time.monotonic()
        self._done: tuple[int, float] = (0, 0.0)

    def has_stopped(self, pid: int) -> bool:
        """Whether it has done nothing for ``idle_s``; to be asked again and again."""
        now, size, cpu_s = time.monotonic(), self._log.stat().st_size, cpu_seconds(pid)
        old_size, old_cpu_s = self._done
        if size != old_size or cpu_s - old_cpu_s > self.LEAST_SHARE * self._idle_s:
            self._since, self._done = now, (size, cpu_s)
        return now - self._since > self._idle_s


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process and its children that ended have used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it ended
        return 0.0
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


async def together(*jobs: Awaitable[object]) -> None:
    """Wait for all; the first failure ends the others and is raised itself, not in a group."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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
    def log(self) -> Path:
        """The file with its output."""
        return self._log

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
                preexec_fn=end_with(os.getpid()),
            )

    async def until(self, ready: Callable[[], Awaitable[bool]], idle_s: float = 60) -> None:
        """Wait until ``ready`` says so, as long as the process works.

        Args:
            ready: is asked again and again.
            idle_s: give up when it has neither computed nor written anything for so long.

        Raises:
            ProcessError: it ended before, or does nothing any more; the message names its log.
        """
        activity = Activity(self._log, idle_s)
        while self.running:
            if await ready():
                return
            if self._process is not None and activity.has_stopped(self._process.pid):
                raise ProcessError(f"{self.name} does nothing but is not ready; its log is {self._log}")
            await asyncio.sleep(0.2)
        raise ProcessError(f"{self.name} ended by itself; its log is {self._log}")

    async def wait(self) -> int:
        """Wait for its end and return its exit status."""
        if self._process is None:
            raise ProcessError(f"{self.name} was not started")
        return await self._process.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    async def stop(self, grace_s: float = 60) -> int:
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
