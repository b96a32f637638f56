"""Networks whose scripts need no token, for what changes nothing and holds no sound of the home."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    Network = IPv4Network | IPv6Network

# A proxy sends these: the other end of the connection then says nothing of who asks.
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
# Browsers send these, over plain HTTP at least the last. Whoever opens a page on a trusted machine is not its
# author.
_OF_A_PAGE = ("Origin", "Sec-Fetch-Site", "Referer", "Accept-Language")
# Names that nobody can have in the public DNS, and so make mean this server (RFC 6762, RFC 8375, ICANN's
# `.internal`; the others are what routers use).
_OF_A_HOME = ("local", "home.arpa", "internal", "lan", "home", "localdomain", "localhost")


def is_trusted(request: web.Request, address: str, networks: Sequence[Network]) -> bool:
    """Whether a request may do without a token, as far as its origin is concerned.

    A page in a browser on a trusted machine never may: whether it was loaded from elsewhere cannot be told. A
    server that is asked for by a public name is not trusted with it either: that may be the name of a page
    that was made to mean this server (DNS rebinding), or of a proxy that anybody may use.

    Args:
        request: without credentials.
        address: of the other end of the connection.
        networks: that are trusted.
    """
    if not networks or any(name in request.headers for name in (*_FORWARDED, *_OF_A_PAGE)):
        return False
    if not _is_of_a_home(request.host):
        return False
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in networks)


def _is_of_a_home(host: str) -> bool:
    """Whether the header ``Host`` has an address, or a name that only a home's own network knows."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        name = name.rstrip(".")
        return "." not in name or name.endswith(tuple(f".{suffix}" for suffix in _OF_A_HOME))
    return True
