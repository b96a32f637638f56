"""Addresses of streams."""

from __future__ import annotations

from yarl import URL

STREAM_SCHEMES = frozenset({"rtsp", "rtsps", "http", "https"})


def is_stream_url(url: str) -> bool:
    """Whether it is an absolute rtsp(s) or http(s) address with a host."""
    try:
        parsed = URL(url)
    except ValueError:
        return False
    return parsed.scheme in STREAM_SCHEMES and bool(parsed.host)
