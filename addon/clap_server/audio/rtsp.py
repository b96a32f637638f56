"""Connecting to cameras by RTSP."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

import av
import av.error

from clap_server.audio.source import Patience
from clap_server.audio.stream_errors import explain, no_answer, no_audio_track, no_transport, udp_is_lost

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from av.container import InputContainer

    from clap_server.audio.source import SourceError
    from clap_server.audio.threaded import Feed

# Packets come many times a second and an interrupted read goes on where it was, so that the thread can look
# up now and then.
_POLL_S = 0.5
_BUSY_ATTEMPTS = 3
_BUSY_PAUSE_S = 0.5
# The session is set up, and the first packet of a camera that sends follows at once.
_UDP_WAIT_S = 10.0
# What FFmpeg may open while it plays: never files, pipes, devices or wrappers around them.
_PROTOCOLS = {"rtsp": "tcp", "rtsps": "tls,tcp"}
_UDP = {"rtsp_transport": "udp", "protocol_whitelist": "tcp,udp,rtp"}
# FFmpeg would wait for the first packet of every track, and some tracks never send.
_OPTIONS = {
    "rtsp_transport": "tcp",
    "allowed_media_types": "audio",
    "max_ts_probe": "0",
    "analyzeduration": "2000000",
}


class RtspOpener:
    """Connects to one camera: over TCP, and over UDP if it refuses that.

    Args:
        url: ``rtsp`` or ``rtsps``.
        open_timeout_s: how long connecting may take, in seconds.
    """

    who = "camera"

    def __init__(self, url: str, open_timeout_s: float) -> None:
        self._url = url
        self._scheme = url.partition(":")[0].lower()
        self._open_timeout_s = open_timeout_s
        self._over_udp = False

    def open(self, feed: Feed) -> AbstractContextManager[InputContainer]:
        """Connect and ask for all audio tracks; the context manager hangs up. Blocks.

        Raises:
            SourceError: with the reason.
        """
        # Errors are raised "from None" here: FFmpeg's hold the address with its password.
        self._over_udp = False
        started_s = time.monotonic()
        try:
            try:
                return self.open_with({}, self._open_timeout_s)
            except av.error.FFmpegError as error:
                if error.errno != errno.EPROTONOSUPPORT or self._scheme != "rtsp":
                    raise
            self._over_udp = True
            return self._open_again(_UDP, self._open_timeout_s, feed)
        except av.error.FFmpegError as error:
            if error.errno == errno.EPROTONOSUPPORT:
                raise no_transport() from None
            if time.monotonic() - started_s >= self._open_timeout_s:
                # FFmpeg gives all sorts of errors for a conversation that was cut short.
                raise no_answer(self.who, self._open_timeout_s) from None
            if _may_lack_audio(error) and self._lacks_audio(feed):
                raise no_audio_track(self.who) from None
            raise explain(error, self.who, self._open_timeout_s) from None

    def patience(self, container: InputContainer) -> Patience:
        """How long the sound of this connection may stay away."""
        del container
        return Patience()

    def sends_in_time(self, container: InputContainer) -> bool:
        """Whether sound is sent as it is recorded."""
        del container
        return True

    def waited(self, seconds: float, heard: bool) -> SourceError | None:
        """What is wrong when a read was interrupted; None: go on reading.

        Args:
            seconds: since it was opened.
            heard: whether sound came in them.
        """
        if self._over_udp and not heard and seconds >= _UDP_WAIT_S:
            return udp_is_lost(_UDP_WAIT_S)
        return None

    def open_with(self, more_options: dict[str, str], timeout_s: float) -> InputContainer:
        """Connect with these options of FFmpeg besides ours."""
        return av.open(
            self._url,
            mode="r",
            format="rtsp",
            options={"protocol_whitelist": _PROTOCOLS[self._scheme], **_OPTIONS, **more_options},
            metadata_errors="replace",
            timeout=(timeout_s, _POLL_S),
        )

    def _lacks_audio(self, feed: Feed) -> bool:
        """Ask the camera what it has, without playing: servers answer in many ways to a play of nothing."""
        try:
            with self._open_again({"initial_pause": "1"}, self._open_timeout_s / 2, feed) as container:
                return not container.streams.audio
        except av.error.FFmpegError:
            return False

    def _open_again(self, more_options: dict[str, str], timeout_s: float, feed: Feed) -> InputContainer:
        """Connect right after an attempt, with whose end the camera may still be busy."""
        for _ in range(_BUSY_ATTEMPTS):
            try:
                return self.open_with(more_options, timeout_s)
            except av.error.HTTPServerError:
                if feed.wait(_BUSY_PAUSE_S):
                    raise
        return self.open_with(more_options, timeout_s)


def _may_lack_audio(error: av.error.FFmpegError) -> bool:
    clear = (
        av.error.HTTPUnauthorizedError,
        av.error.HTTPForbiddenError,
        av.error.HTTPNotFoundError,
        av.error.ConnectionRefusedError,
        av.error.ExitError,
    )
    return not isinstance(error, clear)
