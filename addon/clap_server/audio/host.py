"""The host that a stream comes from: whether it is in the home, and whether it answers."""

from __future__ import annotations

import asyncio
import ipaddress
from contextlib import suppress
from dataclasses import dataclass

PROBE_TIMEOUT_S = 2.0
# Names that are only given out within a home or a company; see RFC 6762, RFC 8375 and ICANN's .internal.
_LOCAL_ENDINGS = (".local", ".lan", ".home", ".home.arpa", ".internal", ".localdomain", ".fritz.box")


@dataclass(frozen=True, slots=True)
class Host:
    """Where a server listens.

    Attributes:
        name: host name or address.
        port: of TCP.
    """

    name: str
    port: int

    @property
    def in_home(self) -> bool:
        """Whether it is a neighbour: a private address, or a name without meaning elsewhere."""
        name = self.name.rstrip(".").lower()
        try:
            address = ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return "." not in name or name.endswith(_LOCAL_ENDINGS)
        return address.is_private or address.is_link_local or address.is_loopback

    async def answers(self) -> bool:
        """Open a connection and close it again."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                _, writer = await asyncio.open_connection(self.name, self.port)
        except (OSError, TimeoutError, UnicodeError):
            return False
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return True

    async def wait_until_back(self, *, down: bool, every_s: float) -> None:
        """Return when it answers after it did not.

        Args:
            down: it did not answer before.
            every_s: pause between two connections, in seconds.
        """
        while True:
            await asyncio.sleep(every_s)
            answers = await self.answers()
            if answers and down:
                return
            down = down or not answers
