"""TCP ports."""

from __future__ import annotations

import asyncio
import socket


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
            message = f"cannot listen on {host}:{port} ({error.strerror}); choose another port with {option}"
            raise PortInUseError(message) from None
