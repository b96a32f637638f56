"""`scripts/run --server-only`, below the installation: a real server that ends with its terminal."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import aiohttp

from scripts.demo.run import token_command
from scripts.harness.configuration import REPOSITORY
from scripts.harness.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S = 100

IN_A_TERMINAL = """
import fcntl, os, signal, sys, termios
# Whoever runs the tests may ignore it, as nohup does.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Python that a closed terminal tells of its end."""


@contextmanager
def server_in_a_terminal(data: Path, port: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start it as a terminal does; yields it and the terminal."""
    terminal, its_end = os.openpty()
    arguments = ["-m", "scripts.demo", "--server-only", "--port", str(port), "--data", str(data)]
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, *arguments],
        cwd=REPOSITORY,
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        start_new_session=True,
    )
    os.close(its_end)
    try:
        yield process, terminal
    finally:
        process.kill()
        process.wait()


async def answers(port: int) -> bool:
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/health") as response,
        ):
            return bool((await response.json())["status"] == "ok")
    except aiohttp.ClientError:
        return False


async def until_it_answers(port: int, *, wanted: bool) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await answers(port) != wanted:
            await asyncio.sleep(0.1)


async def test_data_folder_is_the_one_that_was_named_and_its_token_is_found_there(tmp_path: Path) -> None:
    data, port = tmp_path / "my data", await free_port()
    with server_in_a_terminal(data, port) as (_, terminal):
        await until_it_answers(port, wanted=True)
        assert {"token", "server_id", "clap.db", "media"} <= {path.name for path in data.iterdir()}
        script, *arguments = shlex.split(token_command(data))
        assert script == str(REPOSITORY / "scripts" / "clap-server")
        command = [sys.executable, "-m", "clap_server", *arguments]
        printed = await asyncio.to_thread(subprocess.check_output, command, text=True)
        assert printed == (data / "token").read_text()
        assert token_command(data) in os.read(terminal, 100_000).decode()
        os.close(terminal)
        await until_it_answers(port, wanted=False)


async def test_server_ends_when_its_terminal_is_closed(tmp_path: Path) -> None:
    port = await free_port()
    with server_in_a_terminal(tmp_path / "data", port) as (process, terminal):
        await until_it_answers(port, wanted=True)
        os.close(terminal)
        assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0
        assert not await answers(port)


async def test_server_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    port = await free_port()
    with server_in_a_terminal(tmp_path / "data", port) as (process, terminal):
        await until_it_answers(port, wanted=True)
        process.kill()
        await until_it_answers(port, wanted=False)
        os.close(terminal)
