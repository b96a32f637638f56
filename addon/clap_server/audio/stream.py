"""Sound pulled from a camera or a server: RTSP(S) and HTTP(S)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import av.error
from av.stream import Discard

from clap_server.audio.container import decodable
from clap_server.audio.frames import frame_channels
from clap_server.audio.host import Host
from clap_server.audio.http_stream import HttpOpener
from clap_server.audio.player import Player
from clap_server.audio.redirects import look_up
from clap_server.audio.rtsp import RtspOpener
from clap_server.audio.source import Patience, SourceError
from clap_server.audio.stream_errors import (
    broke_off,
    changed_format,
    ended,
    explain,
    no_audio_track,
    no_decoder,
)
from clap_server.audio.threaded import Feed, blocks_from_thread
from clap_server.audio.tracks import first_sounding
from clap_server.audio.url import check_url, play_url, redact_url
from clap_server.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from av import AudioFrame, AudioStream, Packet
    from av.container import InputContainer

    from clap_server.audio.block import AudioBlock

# How long connecting may take.
OPEN_TIMEOUT_S = 10.0
# Icecast and HLS send many seconds at once; a finite recording must not rush through.
_LEAD_S = 12.0
_DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


class StreamSource:
    """A stream of the network, opened once.

    Of a camera's tracks only sound is asked for; of other streams only sound is decoded. Certificates are
    not checked, because cameras sign their own.

    Args:
        url: ``rtsp``, ``rtsps``, ``http`` or ``https``; may hold user name and password.

    Raises:
        SourceError: ``unsupported_url``; the address is not one of these.
    """

    def __init__(self, url: str) -> None:
        check_url(url)
        parts = urlsplit(url)
        scheme = parts.scheme.lower()
        self._url = url
        self.host = Host(parts.hostname or "", parts.port or _DEFAULT_PORTS[scheme])
        opener = RtspOpener if scheme in ("rtsp", "rtsps") else HttpOpener
        self._opener: RtspOpener | HttpOpener = opener(play_url(url), OPEN_TIMEOUT_S)
        self._patience = Patience()

    def __repr__(self) -> str:
        return f"StreamSource({redact_url(self._url)!r})"

    @property
    def patience(self) -> Patience:
        """See ``AudioSource``."""
        return self._patience

    def blocks(self, sample_rate: int) -> AsyncGenerator[AudioBlock, None]:
        """See ``AudioSource``."""
        name = f"stream {self.host.name}"
        return blocks_from_thread(self._produce, sample_rate, name=name, lead_s=_LEAD_S)

    def _produce(self, feed: Feed) -> None:
        look_up(self.host.name, self.host.port)
        with self._opener.open(feed) as container:
            self._patience = self._opener.patience(container)
            if not container.streams.audio:
                raise no_audio_track(self._opener.who)
            tracks = decodable(container)
            if not tracks:
                raise no_decoder(self._opener.who)
            for stream in container.streams:
                if stream not in tracks:
                    stream.discard = Discard.all
            player = Player(feed, in_time=self._opener.sends_in_time(container))
            self._play(first_sounding(self._packets(container, tracks, feed), tracks), player, feed)

    def _play(self, frames: Iterator[AudioFrame], player: Player, feed: Feed) -> None:
        try:
            for frame in frames:
                if feed.closed():
                    return
                player.play(frame_channels(frame), frame.sample_rate, frame.time)
        except av.error.FFmpegError as error:
            raise explain(error, self._opener.who, OPEN_TIMEOUT_S) from None
        except SourceError:
            raise
        except AudioError as error:
            raise SourceError("not_usable", f"the stream cannot be used: {error}") from error
        finally:
            player.finish()
        if not feed.closed():
            raise ended(self._opener.who)

    def _packets(
        self, container: InputContainer, tracks: Sequence[AudioStream], feed: Feed
    ) -> Iterator[Packet[AudioStream] | None]:
        """Packets of the tracks until the stream ends or nobody listens; None when none came for a moment.

        Raises:
            SourceError: it breaks off.
        """
        opened_s = time.monotonic()
        heard = False
        while not feed.closed():
            try:
                for packet in container.demux(*tracks):
                    heard = True
                    yield cast("Packet[AudioStream]", packet)
                    if feed.closed():
                        return
            except av.error.ExitError:
                error = self._opener.waited(time.monotonic() - opened_s, heard)
                if error is not None:
                    raise error from None
                yield None
            except av.error.PatchWelcomeError:
                raise changed_format(self._opener.who) from None
            except av.error.FFmpegError as error:
                raise broke_off(error, self._opener.who, OPEN_TIMEOUT_S) from None
            else:
                return
