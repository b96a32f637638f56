"""Connecting to servers by HTTP: internet radio, cameras, HLS."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

import av
import av.error

from clap_server.audio.container import harmless_formats
from clap_server.audio.hls import check_playlist
from clap_server.audio.raw_pcm import request_raw_pcm
from clap_server.audio.redirects import follow_redirects
from clap_server.audio.source import Patience
from clap_server.audio.stream_errors import explain, no_answer, no_segment

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from av.container import InputContainer

    from clap_server.audio.source import SourceError
    from clap_server.audio.threaded import Feed

# HLS delivers a whole segment at once and nothing until the next: ten seconds are usual, thirty happen.
_HLS_SILENCE_S = 60.0
_SILENCE_S = 20.0
# What FFmpeg may open while it plays: never files, pipes, devices or wrappers around them.
_PROTOCOLS = "http,https,tls,tcp,crypto,httpproxy"
# Live HLS starts at its newest segment. Segments may have any name: protocols and formats are limited. No
# redirect is followed unseen, but those within a playlist.
_OPTIONS = {
    "live_start_index": "-1",
    "analyzeduration": "2000000",
    "extension_picky": "0",
    "max_redirects": "0",
}
# What FFmpeg says of what it does not know, and of a format that it may not read.
_NOT_PLAYED = (av.error.InvalidDataError, av.error.ArgumentError)


class HttpOpener:
    """Connects to one server.

    Args:
        url: ``http`` or ``https``.
        open_timeout_s: how long connecting may take, in seconds.
    """

    who = "server"

    def __init__(self, url: str, open_timeout_s: float) -> None:
        self._url = url
        self._open_timeout_s = open_timeout_s

    def open(self, feed: Feed) -> AbstractContextManager[InputContainer]:
        """Connect; the context manager hangs up. Blocks.

        Raises:
            SourceError: with the reason.
        """
        del feed
        # Errors are raised "from None" here: FFmpeg's hold the address with its password.
        started_s = time.monotonic()
        url = self._url
        try:
            try:
                return self._open(url)
            except av.error.OSError as error:
                # What FFmpeg says of a redirect, among other things.
                if error.errno == errno.EIO:
                    url = follow_redirects(url, self._open_timeout_s)
                if url == self._url:
                    raise
                return self._open(url)
        except av.error.FFmpegError as error:
            if time.monotonic() - started_s >= self._open_timeout_s:
                # FFmpeg gives all sorts of errors for a conversation that was cut short.
                raise no_answer(self.who, self._open_timeout_s) from None
            if isinstance(error, _NOT_PLAYED):
                other = self._open_other(url)
                if other is not None:
                    return other
            raise explain(error, self.who, self._open_timeout_s) from None

    def patience(self, container: InputContainer) -> Patience:
        """How long the sound of this connection may stay away."""
        return Patience(silence_s=_HLS_SILENCE_S if _is_hls(container) else _SILENCE_S)

    def sends_in_time(self, container: InputContainer) -> bool:
        """Whether sound is sent as it is recorded, and not segment by segment."""
        return not _is_hls(container)

    def waited(self, seconds: float, heard: bool) -> SourceError | None:
        """What is wrong when a read was interrupted: HTTP cannot go on reading where it was."""
        del seconds, heard
        return no_answer(self.who, _HLS_SILENCE_S)

    def _open_other(self, url: str) -> AbstractContextManager[InputContainer] | None:
        """Connect to what FFmpeg alone does not play: raw PCM, and playlists that were looked at."""
        pcm = request_raw_pcm(url, _SILENCE_S)
        if pcm is not None:
            return pcm
        if not check_playlist(url, self._open_timeout_s):
            return None
        try:
            return self._open(url, "hls")
        except av.error.FFmpegError as error:
            raise no_segment(explain(error, self.who, self._open_timeout_s)) from None

    def _open(self, url: str, *more_formats: str) -> InputContainer:
        return av.open(
            url,
            mode="r",
            options={
                "protocol_whitelist": _PROTOCOLS,
                "format_whitelist": harmless_formats(*more_formats),
                **_OPTIONS,
            },
            metadata_errors="replace",
            timeout=(self._open_timeout_s, _HLS_SILENCE_S),
        )


def _is_hls(container: InputContainer) -> bool:
    return container.format.name == "hls"
