"""Playlists of HLS, whose addresses FFmpeg asks without looking at where they lead.

A playlist that is live is loaded again and again while it plays, which FFmpeg does alone: what is looked at
here is what it holds at the start.
"""

from __future__ import annotations

import http.client
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from clap_server.audio.http_get import http_get
from clap_server.audio.redirects import follow_redirects, look_up
from clap_server.audio.source import SourceError
from clap_server.audio.stream_errors import no_answer
from clap_server.audio.url import check_host

if TYPE_CHECKING:
    from collections.abc import Iterator

_BEGINNING = b"#EXTM3U"
_MAX_BYTES = 2_000_000
# One for each quality and language, at most.
_MAX_LISTS = 50
_URI = re.compile(r'[:,]URI=(?:"([^"]*)"|([^",\s]+))')
# The next line, or the URI within, is another playlist.
_LEADS_ON = ("#EXT-X-STREAM-INF", "#EXT-X-MEDIA:", "#EXT-X-I-FRAME-STREAM-INF")


def check_playlist(url: str, timeout_s: float) -> bool:
    """Look at all addresses that a playlist and those in it hold, before FFmpeg asks for them. Blocks.

    Args:
        url: ``http`` or ``https``, not redirected.
        timeout_s: longest time for all of it.

    Returns:
        Whether it is a playlist at all.

    Raises:
        SourceError: it holds an address that nobody may go to, or the server does not answer in time.
    """
    deadline_s = time.monotonic() + timeout_s
    checked: set[str] = set()
    lists, seen = [url], {url}
    while lists:
        remaining_s = deadline_s - time.monotonic()
        if remaining_s <= 0:
            raise no_answer("server", timeout_s)
        here = lists.pop(0)
        if here != url:
            here = follow_redirects(here, remaining_s)
        text = _read(here, remaining_s)
        if text is None:
            if here == url:
                return False
            continue
        for address, leads_on in _addresses(here, text):
            _check(address, checked)
            if leads_on and address not in seen:
                seen.add(address)
                lists.append(address)
        if len(seen) > _MAX_LISTS:
            raise _refused(f"it names more than {_MAX_LISTS} other playlists", "not_usable")
    return True


def _read(url: str, timeout_s: float) -> str | None:
    """The playlist at an address; None if there is none."""
    answer = http_get(url, timeout_s)
    if answer is None:
        return None
    connection, response = answer
    try:
        if response.status != http.client.OK:
            return None
        beginning = response.read(len(_BEGINNING))
        if beginning != _BEGINNING:
            return None
        rest = response.read(_MAX_BYTES)
        if len(rest) == _MAX_BYTES:
            raise _refused("it is too long", "not_usable")
        return (beginning + rest).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _addresses(url: str, text: str) -> Iterator[tuple[str, bool]]:
    """All that a playlist names, and whether that is another playlist."""
    leads_on = False
    try:
        for line in map(str.strip, text.split("\n")):
            if line.startswith("#"):
                leads_on = line.startswith(_LEADS_ON)
                for match in _URI.finditer(line):
                    yield urljoin(url, match[1] or match[2] or ""), leads_on
            elif line:
                yield urljoin(url, line), leads_on
                leads_on = False
    except ValueError:
        raise _refused("an address in it cannot be read", "unsupported_url") from None


def _check(address: str, checked: set[str]) -> None:
    """Refuse an address that leads where nobody may go; each host is looked at once."""
    try:
        parts = urlsplit(address)
        if parts.scheme not in {"http", "https"}:
            raise SourceError("unsupported_url", "an address in it is not an http or https one")
        host = parts.hostname or ""
        if host not in checked:
            check_host(host)
            look_up(host, parts.port)
            checked.add(host)
    except ValueError:
        raise _refused("an address in it cannot be read", "unsupported_url") from None
    except SourceError as error:
        raise _refused(error.reason, error.code) from None


def _refused(reason: str, code: str) -> SourceError:
    return SourceError(code, f"the server's playlist cannot be used ({reason})")
