"""Networks whose scripts need no token, for what changes nothing and holds no sound of the home."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    Network = IPv4Network | IPv6Network

# A proxy sends these: the other end of the connection then says nothing of who asks.
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
# Browsers tell with them that a page asks. Whoever opens a page on a trusted machine is not its author.
_OF_A_PAGE = ("Origin", "Sec-Fetch-Site", "Referer")


def is_trusted(request: web.Request, address: str, networks: Sequence[Network]) -> bool:
    """Whether a request may do without a token, as far as its origin is concerned.

    A page in a browser on a trusted machine never may: that it was loaded from elsewhere, or that its name
    was made to mean this server (DNS rebinding), cannot be told apart from a page of one's own.

    Args:
        request: without credentials.
        address: of the other end of the connection.
        networks: that are trusted.
    """
    if not networks or any(name in request.headers for name in (*_FORWARDED, *_OF_A_PAGE)):
        return False
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in networks)
