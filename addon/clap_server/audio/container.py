"""Opening files from strangers with FFmpeg, so that they can reach nothing but themselves."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, BinaryIO

import av
import av.error
import av.logging

from clap_server.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from av.container import InputContainer
    from numpy.typing import NDArray

from clap_server.audio.frames import frame_to_mono

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
    options = {"protocol_whitelist": _NO_PROTOCOL, "format_whitelist": harmless_formats()}
    try:
        container = av.open(file, mode="r", options=options, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        raise AudioError("This is not audio that can be read: send WAV, FLAC, MP3, OGG or M4A.") from error
    if not container.streams.audio:
        container.close()
        raise AudioError("This file has no sound in it: send one with an audio track.")
    return container


def read_frames(container: InputContainer) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Decode the first audio track; damaged packets are left out.

    Yields:
        ``(n,)`` mono float32 and its rate in Hz.
    """
    stream = container.streams.audio[0]
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue
        for frame in frames:
            yield frame_to_mono(frame), frame.sample_rate
