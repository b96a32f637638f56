"""Sound pulled from a camera or a server: RTSP(S) and HTTP(S)."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import av
import av.error
from av.stream import Discard

from clap_server.audio.container import harmless_formats
from clap_server.audio.frames import frame_to_mono
from clap_server.audio.source import SourceError
from clap_server.audio.stream_errors import ended, explain, no_answer, no_audio_track
from clap_server.audio.threaded import Feed, blocks_from_thread
from clap_server.audio.url import check_url, redact_url
from clap_server.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from av import AudioStream, Packet
    from av.container import InputContainer

    from clap_server.audio.block import AudioBlock

OPEN_TIMEOUT_S = 10.0
# RTSP packets come many times a second and an interrupted read goes on where it was, so that the thread can
# look up now and then. HTTP cannot be resumed, and the next HLS segment may take its time.
_RTSP_POLL_S = 0.5
_HTTP_READ_TIMEOUT_S = 20.0
_PROBES = 3
_PROBE_PAUSE_S = 0.5
# Icecast and HLS send many seconds at once; a finite recording must not rush through.
_LEAD_S = 12.0

# What FFmpeg may open while it plays: never files, pipes, devices or wrappers around them.
_PROTOCOLS = {
    "rtsp": "tcp",
    "rtsps": "tls,tcp",
    "http": "http,https,tls,tcp,crypto,httpproxy",
    "https": "http,https,tls,tcp,crypto,httpproxy",
}
_RTSP_OPTIONS = {"rtsp_transport": "tcp", "allowed_media_types": "audio"}
# Live HLS starts at its newest segment.
_HTTP_OPTIONS = {"live_start_index": "-1", "analyzeduration": "2000000"}
_DAMAGED = (av.error.InvalidDataError, av.error.PatchWelcomeError)


class StreamSource:
    """A stream of the network, opened once.

    Of a camera's tracks only sound is asked for; of other streams only sound is decoded. Certificates are
    not checked, because cameras sign their own.

    Args:
        url: ``rtsp``, ``rtsps``, ``http`` or ``https``; may hold user name and password.
        open_timeout_s: how long connecting may take, in seconds.

    Raises:
        SourceError: ``unsupported_url``; the address is not one of these.
    """

    def __init__(self, url: str, *, open_timeout_s: float = OPEN_TIMEOUT_S) -> None:
        check_url(url)
        parts = urlsplit(url)
        self._url = url
        self._host = parts.hostname or ""
        self._port = parts.port
        self._scheme = parts.scheme.lower()
        self._rtsp = self._scheme in ("rtsp", "rtsps")
        self._who = "camera" if self._rtsp else "server"
        self._open_timeout_s = open_timeout_s

    def __repr__(self) -> str:
        return f"StreamSource({redact_url(self._url)!r})"

    def blocks(self, sample_rate: int) -> AsyncGenerator[AudioBlock, None]:
        """See ``AudioSource``."""
        return blocks_from_thread(self._produce, sample_rate, name=f"stream {self._host}", lead_s=_LEAD_S)

    def _produce(self, feed: Feed) -> None:
        self._look_up_host()
        container = self._open(feed)
        try:
            if not container.streams.audio:
                raise no_audio_track(self._who)
            self._play(container, feed)
        finally:
            container.close()

    def _play(self, container: InputContainer, feed: Feed) -> None:
        for stream in container.streams:
            if stream.index != container.streams.audio[0].index:
                stream.discard = Discard.all
        for packet in self._packets(container, feed):
            try:
                frames = packet.decode()
            except _DAMAGED:
                continue
            except av.error.FFmpegError as error:
                raise explain(error, self._who, self._open_timeout_s) from None
            for frame in frames:
                if feed.closed():
                    return
                try:
                    feed.push(frame_to_mono(frame), frame.sample_rate)
                except AudioError as error:
                    raise SourceError("not_usable", f"the stream cannot be used: {error}") from error
        if not feed.closed():
            raise ended(self._who)

    def _packets(self, container: InputContainer, feed: Feed) -> Iterator[Packet[AudioStream]]:
        """Audio packets until the stream ends or nobody listens; whether they stall is decided elsewhere."""
        stream = container.streams.audio[0]
        while not feed.closed():
            try:
                for packet in container.demux(stream):
                    yield packet
                    if feed.closed():
                        return
            except av.error.ExitError as error:
                if not self._rtsp:
                    raise explain(error, self._who, _HTTP_READ_TIMEOUT_S) from None
            except av.error.FFmpegError as error:
                raise explain(error, self._who, self._open_timeout_s) from None
            else:
                return

    def _look_up_host(self) -> None:
        # FFmpeg reports an unknown name as a bare input/output error.
        try:
            socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise SourceError(
                "host_not_found", f"no host named {self._host} is known: check the address"
            ) from None

    def _open(self, feed: Feed) -> InputContainer:
        # Errors are raised "from None" here: FFmpeg's hold the address with its password.
        started_s = time.monotonic()
        try:
            return self._open_with({}, self._open_timeout_s)
        except av.error.FFmpegError as error:
            if time.monotonic() - started_s >= self._open_timeout_s:
                # FFmpeg gives all sorts of errors for a conversation that was cut short.
                raise no_answer(self._who, self._open_timeout_s) from None
            if self._rtsp and _may_lack_audio(error) and self._lacks_audio(feed):
                raise no_audio_track(self._who) from None
            raise explain(error, self._who, self._open_timeout_s) from None

    def _open_with(self, more_options: dict[str, str], timeout_s: float) -> InputContainer:
        options = {
            "protocol_whitelist": _PROTOCOLS[self._scheme],
            **(
                _RTSP_OPTIONS
                if self._rtsp
                else {**_HTTP_OPTIONS, "format_whitelist": harmless_formats("hls")}
            ),
            **more_options,
        }
        return av.open(
            self._url,
            mode="r",
            format="rtsp" if self._rtsp else None,
            options=options,
            metadata_errors="replace",
            timeout=(timeout_s, _RTSP_POLL_S if self._rtsp else _HTTP_READ_TIMEOUT_S),
        )

    def _lacks_audio(self, feed: Feed) -> bool:
        """Ask the camera what it has, without playing: servers answer in many ways to a play of nothing."""
        for _ in range(_PROBES):
            try:
                with self._open_with({"initial_pause": "1"}, self._open_timeout_s / 2) as container:
                    return not container.streams.audio
            except av.error.HTTPServerError:  # still busy with the end of the first attempt
                if feed.wait(_PROBE_PAUSE_S):
                    return False
            except av.error.FFmpegError:
                return False
        return False


def _may_lack_audio(error: av.error.FFmpegError) -> bool:
    clear = (
        av.error.HTTPUnauthorizedError,
        av.error.HTTPForbiddenError,
        av.error.HTTPNotFoundError,
        av.error.ConnectionRefusedError,
        av.error.ExitError,
    )
    return not isinstance(error, clear)
