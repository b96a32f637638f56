"""Requests that are made here rather than by FFmpeg, which does not tell all of the answer."""

from __future__ import annotations

import base64
import http.client
import ssl
from urllib.parse import unquote, urlsplit


def http_get(
    url: str, timeout_s: float
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse] | None:
    """Ask a server and read the head of its answer; redirects are not followed. Blocks.

    Args:
        url: ``http`` or ``https``; may hold user name and password.
        timeout_s: longest time for its answer, and later without a byte of it.

    Returns:
        The connection, which the caller closes, and the answer; None if there was no answer by HTTP.
    """
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme.lower() == "https":
        # As for all streams, certificates are not checked.
        context = ssl._create_unverified_context()  # noqa: S323, SLF001 - the only short way to say it
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=timeout_s, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    headers = {}
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("GET", target, headers=headers)
        return connection, connection.getresponse()
    except (OSError, ValueError, http.client.HTTPException):
        connection.close()
        return None
