"""Child processes: waited for as long as they work, told in a sentence when they do not."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from scripts.harness.process import Process, ProcessError, together

if TYPE_CHECKING:
    from pathlib import Path

IDLE_S = 0.5


def program(tmp_path: Path, text: str) -> Process:
    return Process("the program", [sys.executable, "-c", text], tmp_path / "program.log")


async def never() -> bool:
    return False


async def test_program_that_computes_is_waited_for_beyond_the_limit(tmp_path: Path) -> None:
    work = f"import time\nend = time.monotonic() + {3 * IDLE_S}\nwhile time.monotonic() < end: pass"
    process = program(tmp_path, f"{work}\nprint('there', flush=True)\ntime.sleep(60)")

    async def ready() -> bool:
        return "there" in process.log.read_text()

    async with process:
        await process.until(ready, IDLE_S)
        await process.kill()


async def test_program_that_only_writes_is_waited_for_beyond_the_limit(tmp_path: Path) -> None:
    text = "import time\nfor n in range(8): print(n, flush=True); time.sleep(0.25)\ntime.sleep(60)"
    process = program(tmp_path, text)

    async def ready() -> bool:
        return "7" in process.log.read_text()

    async with process:
        await process.until(ready, IDLE_S)
        await process.kill()


async def test_program_that_hangs_is_told_with_the_place_of_its_log(tmp_path: Path) -> None:
    async with program(tmp_path, "import time; time.sleep(60)") as process:
        with pytest.raises(ProcessError) as told:
            await process.until(never, IDLE_S)
        assert str(told.value) == f"the program does nothing but is not ready; its log is {process.log}"
        await process.kill()


async def test_program_that_ends_is_told_with_the_place_of_its_log(tmp_path: Path) -> None:
    async with program(tmp_path, "raise SystemExit(3)") as process:
        with pytest.raises(ProcessError) as told:
            await process.until(never)
        assert str(told.value) == f"the program ended by itself; its log is {process.log}"


async def test_program_that_ignores_the_request_to_end_is_killed(tmp_path: Path) -> None:
    text = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('there', flush=True)"
    process = program(tmp_path, f"{text}\nwhile True: time.sleep(60)")

    async def ready() -> bool:
        return "there" in process.log.read_text()

    await process.start()
    await process.until(ready)
    assert await process.stop(grace_s=0.5) == -signal.SIGKILL


async def test_first_failure_of_jobs_that_run_together_is_raised_itself_and_ends_the_others() -> None:
    ended = asyncio.Event()

    async def fails() -> None:
        raise ProcessError("it broke")

    async def goes_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(ProcessError, match="it broke"):
        await together(goes_on(), fails())
    assert ended.is_set()
