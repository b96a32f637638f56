"""Raw PCM over HTTP: ``audio/L16;rate=16000`` (RFC 2586) and its kin (RFC 3190).

Rate and channels are only in the content type, of which FFmpeg hands on no more than the name: so the request
is made here.
"""

from __future__ import annotations

import http.client
import re
from typing import TYPE_CHECKING

import av
import av.error

from clap_server.audio.http_get import http_get
from clap_server.audio.source import SourceError
from clap_server.audio.stream_errors import explain

if TYPE_CHECKING:
    from av.container import InputContainer

# FFmpeg's names of the formats, which are big-endian.
_FORMATS = {"audio/l8": "u8", "audio/l16": "s16be", "audio/l24": "s24be"}
_MAX_CHANNELS = 8


class RawPcm:
    """A server's answer; a context manager that gives its sound as a container, and hangs up.

    Args:
        connection: that it comes by.
        response: the answer.
        timeout_s: longest time without sound, in seconds.
    """

    def __init__(
        self,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        timeout_s: float,
    ) -> None:
        self._connection = connection
        self._response = response
        self._timeout_s = timeout_s

    def __enter__(self) -> InputContainer:
        content = self._response.headers
        rate = _number(content.get_param("rate"))
        channels = _number(content.get_param("channels", "1"))
        if not rate or not 1 <= channels <= _MAX_CHANNELS:
            self._connection.close()
            raise SourceError(
                "not_usable",
                f"the server does not say how its {content.get_content_type()} is to be read: "
                "let it send a content type such as audio/L16;rate=16000;channels=1",
            )
        options = {"sample_rate": str(rate), "ch_layout": f"{channels}c"}
        try:
            return av.open(self, mode="r", format=_FORMATS[content.get_content_type()], options=options)
        except av.error.FFmpegError as error:
            self._connection.close()
            raise explain(error, "server", self._timeout_s) from None

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def read(self, size: int) -> bytes:
        """For FFmpeg: what has come; nothing at the end, or when it breaks off."""
        try:
            return self._response.read1(size)
        except (OSError, http.client.HTTPException):
            return b""


def request_raw_pcm(url: str, timeout_s: float) -> RawPcm | None:
    """Ask a server once more for its sound. Blocks.

    Args:
        url: ``http`` or ``https``.
        timeout_s: longest time for its answer, and later without sound.

    Returns:
        None if it does not answer with raw PCM.
    """
    answer = http_get(url, timeout_s)
    if answer is None:
        return None
    connection, response = answer
    if response.status != http.client.OK or response.headers.get_content_type() not in _FORMATS:
        connection.close()
        return None
    return RawPcm(connection, response, timeout_s)


def _number(parameter: object) -> int:
    """The value of a parameter of the content type; 0 if it is no number."""
    match = re.fullmatch(r"[0-9]{1,6}", str(parameter))
    return int(match[0]) if match else 0
