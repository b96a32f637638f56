"""Where a server sends its listeners on to.

FFmpeg follows a redirect wherever it leads, also to addresses that nobody could have typed in. So it follows
none, and each step is looked at here.
"""

from __future__ import annotations

import socket
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

from clap_server.audio.http_get import http_get
from clap_server.audio.source import SourceError
from clap_server.audio.url import check_url, keeps_secrets

MAX_STEPS = 5
_REDIRECTS = frozenset(
    {
        HTTPStatus.MOVED_PERMANENTLY,
        HTTPStatus.FOUND,
        HTTPStatus.SEE_OTHER,
        HTTPStatus.TEMPORARY_REDIRECT,
        HTTPStatus.PERMANENT_REDIRECT,
    }
)


def look_up(host: str, port: int | None) -> None:
    """Find a host, and refuse one that keeps a cloud's secrets, whatever name it hides behind. Blocks.

    Raises:
        SourceError: ``host_not_found`` or ``unsupported_url``.
    """
    try:
        # FFmpeg reports an unknown name as a bare input/output error.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise SourceError("host_not_found", f"no host named {host} is known: check the address") from None
    if any(keeps_secrets(str(address[0])) for *_, address in found):
        raise SourceError("unsupported_url", f"{host} has a link-local address: name a host of your network")


def follow_redirects(url: str, timeout_s: float) -> str:
    """The address at which a server's answer is to be had in the end. Blocks.

    Args:
        url: ``http`` or ``https``.
        timeout_s: longest time for each step.

    Returns:
        ``url`` itself if it is not redirected, or if the server does not answer.

    Raises:
        SourceError: it leads to an address that cannot be used, or on and on.
    """
    for _ in range(MAX_STEPS):
        answer = http_get(url, timeout_s)
        if answer is None:
            return url
        connection, response = answer
        connection.close()
        location = response.headers.get("Location")
        if response.status not in _REDIRECTS or location is None:
            return url
        url = _step(url, location)
    raise SourceError(
        "refused_by_server", f"the server sends on more than {MAX_STEPS} times: check the address"
    )


def _step(url: str, location: str) -> str:
    try:
        onward = urljoin(url, location)
        check_url(onward)
        parts = urlsplit(onward)
        if parts.scheme not in {"http", "https"}:
            raise SourceError("unsupported_url", "it is not an http or https address")
        look_up(parts.hostname or "", parts.port)
    except ValueError:
        raise _refused("it cannot be read", "unsupported_url") from None
    except SourceError as error:
        raise _refused(error.reason, error.code) from None
    return onward


def _refused(reason: str, code: str) -> SourceError:
    return SourceError(code, f"the server sends on to an address that cannot be used ({reason})")
