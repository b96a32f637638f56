"""TCP ports."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from pathlib import Path


class PortInUseError(Exception):
    """Another program listens on a port that is needed."""


async def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses at this moment."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        return int(server.sockets[0].getsockname()[1])


def check_port(host: str, port: int, option: str) -> None:
    """Raise PortInUseError, naming the option that chooses another, if ``port`` is taken."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            culprit = listener(port) if error.errno == errno.EADDRINUSE else None
            advice = f"choose another port with {option}"
            if culprit:
                advice = f"{culprit} listens there; end it, or {advice}"
            message = f"cannot listen on {host}:{port} ({error.strerror}): {advice}"
            raise PortInUseError(message) from None


_LISTENS = "0A"
"""State of a socket in the kernel's tables."""
_SHOWN = 100
"""Characters of a command line."""


def listener(port: int) -> str | None:
    """Name the program that listens on a port; None if it is another user's."""
    links = {f"socket:[{inode}]" for inode in _sockets(port)}
    for process in Path("/proc").glob("[0-9]*") if links else ():
        with contextlib.suppress(OSError):
            if any(str(file.readlink()) in links for file in (process / "fd").iterdir()):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                return f"process {process.name} ({command.strip()[:_SHOWN]})"
    return None


def _sockets(port: int) -> set[str]:
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with contextlib.suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found
