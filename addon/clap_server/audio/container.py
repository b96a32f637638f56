"""Opening files from strangers with FFmpeg, so that they can reach nothing but themselves."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, BinaryIO

import av
import av.error
import av.logging

from clap_server.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from av import AudioStream
    from av.container import InputContainer
    from numpy.typing import NDArray

from clap_server.audio.downmix import Downmix
from clap_server.audio.frames import frame_channels

# FFmpeg's own log lines hold addresses with passwords; what matters comes as exceptions.
av.logging.set_level(None)

# Demuxers that open other files or addresses, or read devices.
_REACHING = frozenset(
    {
        "alsa", "applehttp", "avfoundation", "concat", "dash", "dshow", "fbdev", "gdigrab", "hls", "image2",
        "imf", "jack", "kmsgrab", "lavfi", "libcdio", "libdc1394", "openal", "oss", "pulse", "rtp", "rtsp",
        "sap", "sdp", "sndio", "v4l2", "video4linux2", "vobsub", "webm_dash_manifest", "x11grab", "xcbgrab",
    }
)  # fmt: skip
_NO_PROTOCOL = "none"
# What a decoder says of a packet that it cannot make sense of; the next one may be whole.
DAMAGED = (av.error.InvalidDataError, av.error.PatchWelcomeError)
_CHANGES_FORMAT = (
    "The sample rate or the number of channels changes on the way: convert all to one format, such as FLAC."
)
_READABLE = "send an audio or video file that FFmpeg can read, such as WAV, FLAC, MP3, OGG, M4A or MP4"


@cache
def harmless_formats(*also: str) -> str:
    """Names of FFmpeg's demuxers that read only the file they are given, and ``also``."""
    names = {part for name in av.formats_available for part in name.split(",")}
    return ",".join(sorted((names - _REACHING) | set(also)))


def open_file(file: BinaryIO) -> InputContainer:
    """Open a recording that may come from anyone: playlists and all protocols are off.

    Raises:
        AudioError: FFmpeg does not know it, or it has no sound.
    """
    # PyAV prints a traceback of its own over such a file.
    if not file.seek(0, os.SEEK_END):
        raise AudioError("This file is empty: send one with an audio track.")
    file.seek(0)
    options = {"protocol_whitelist": _NO_PROTOCOL, "format_whitelist": harmless_formats()}
    try:
        container = av.open(file, mode="r", options=options, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        raise AudioError(f"This is not audio that can be read: {_READABLE}.") from error
    if not container.streams.audio:
        container.close()
        raise AudioError("This file has no sound in it: send one with an audio track.")
    if not decodable(container):
        container.close()
        raise AudioError(f"This file's sound is in a format that cannot be decoded: {_READABLE}.")
    return container


def read_frames(
    container: InputContainer, downmix: Downmix | None = None
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Decode the first audio track that can be decoded; damaged packets are left out.

    Args:
        container: as ``open_file`` gave it.
        downmix: makes one channel of several, if its notice is wanted.

    Yields:
        ``(n,)`` mono float32 and its rate in Hz.

    Raises:
        AudioError: the file goes on in another format that FFmpeg cannot change to.
        FFmpegError: it breaks off.
    """
    downmix = downmix or Downmix()
    stream = decodable(container)[0]
    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except DAMAGED:
                continue
            for frame in frames:
                yield downmix.mix(frame_channels(frame), frame.sample_rate), frame.sample_rate
    except av.error.PatchWelcomeError as error:
        raise AudioError(_CHANGES_FORMAT) from error


def decodable(container: InputContainer) -> list[AudioStream]:
    """The audio tracks that FFmpeg has a decoder for."""
    # PyAV gives a track without a decoder no codec context, although its types say otherwise.
    return [stream for stream in container.streams.audio if getattr(stream, "codec_context", None)]
