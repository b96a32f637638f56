"""Requests that are made here rather than by FFmpeg, which does not tell all of the answer."""

from __future__ import annotations

import base64
import http.client
import ssl
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit
from urllib.request import (
    HTTPDigestAuthHandler,
    HTTPPasswordMgrWithDefaultRealm,
    Request,
    parse_http_list,
    parse_keqv_list,
)


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
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    authorization = None
    if parts.username is not None:
        authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    answer = _request(parts, authorization, timeout_s)
    if answer is None or parts.username is None or answer[1].status != http.client.UNAUTHORIZED:
        return answer
    connection, response = answer
    authorization = _digest(response.headers.get_all("WWW-Authenticate", []), parts, user, password)
    if authorization is None:
        return answer
    connection.close()
    return _request(parts, authorization, timeout_s)


def _digest(challenges: list[str], parts: SplitResult, user: str, password: str) -> str | None:
    """What to answer if a server wants a digest of the password (RFC 7616); None if it does not."""
    url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    passwords = HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, url, user, password)
    for challenge in challenges:
        scheme, _, parameters = challenge.partition(" ")
        if scheme.lower() == "digest":
            try:
                wanted = parse_keqv_list(parse_http_list(parameters))
                answer = HTTPDigestAuthHandler(passwords).get_authorization(Request(url), wanted)  # noqa: S310 - not opened
            except ValueError:  # an algorithm that is not known
                return None
            return f"Digest {answer}" if answer else None
    return None


def _request(
    parts: SplitResult, authorization: str | None, timeout_s: float
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse] | None:
    connection: http.client.HTTPConnection
    if parts.scheme.lower() == "https":
        # As for all streams, certificates are not checked.
        context = ssl._create_unverified_context()  # noqa: S323, SLF001 - the only short way to say it
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=timeout_s, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    headers = {"Authorization": authorization} if authorization is not None else {}
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("GET", target, headers=headers)
        return connection, connection.getresponse()
    except (OSError, ValueError, http.client.HTTPException):
        connection.close()
        return None
