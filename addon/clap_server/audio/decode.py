"""Recordings from files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import av.error
import numpy as np

from clap_server.audio.container import open_file, read_frames
from clap_server.audio.resample import Resampler
from clap_server.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_DURATION_UNITS = 1_000_000
"""FFmpeg's, a second (AV_TIME_BASE)."""


def decode(
    source: Path | BinaryIO, sample_rate: int, *, max_duration_s: float | None = None
) -> NDArray[np.float32]:
    """Decode a recording into memory; see ``decode_blocks``.

    Returns:
        ``(n,)`` mono float32 at ``sample_rate``, full scale -1..1, not empty.
    """
    return np.concatenate(list(decode_blocks(source, sample_rate, max_duration_s=max_duration_s)))


def decode_blocks(
    source: Path | BinaryIO, sample_rate: int, *, max_duration_s: float | None = None
) -> Iterator[NDArray[np.float32]]:
    """Decode any recording that FFmpeg reads, as it is consumed.

    Playlists and network addresses inside it are never followed. Blocks.

    Args:
        source: a path, or a file that can be read and seeked.
        sample_rate: wanted rate in Hz.
        max_duration_s: longest recording that is accepted, in seconds.

    Yields:
        ``(n,)`` mono float32 at ``sample_rate``, full scale -1..1, never empty; at least once.

    Raises:
        AudioError: it is no audio, it is too long, or it cannot be opened.
    """
    if not isinstance(source, Path):
        yield from _decode(source, sample_rate, max_duration_s)
        return
    try:
        with source.open("rb") as file:
            yield from _decode(file, sample_rate, max_duration_s)
    except OSError as error:
        raise AudioError(f"Cannot open {source.name}: {error.strerror}.") from error


def _decode(file: BinaryIO, sample_rate: int, max_duration_s: float | None) -> Iterator[NDArray[np.float32]]:
    resampler = Resampler(sample_rate)
    seconds = 0.0
    empty = True
    with open_file(file) as container:
        # What says that it is too long is refused before any work; the count below finds what does not.
        if max_duration_s is not None and (container.duration or 0) / _DURATION_UNITS > max_duration_s + 1:
            raise _too_long(max_duration_s)
        try:
            for samples, rate in read_frames(container):
                seconds += len(samples) / rate
                if max_duration_s is not None and seconds > max_duration_s:
                    raise _too_long(max_duration_s)
                block = resampler.push(samples, rate)
                if len(block):
                    empty = False
                    yield block
        except av.error.FFmpegError as error:
            raise AudioError("The recording breaks off or is damaged: send it again.") from error
    rest = resampler.flush()
    if len(rest):
        yield rest
    elif empty:
        raise AudioError("The recording holds no sound at all: send one that does.")


def _too_long(max_duration_s: float) -> AudioError:
    return AudioError(f"The recording is longer than {max_duration_s:g} s: send a shorter one.")
