"""Whole recordings into memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import av.error
import numpy as np

from clap_server.audio.container import open_file, read_frames
from clap_server.audio.resample import Resampler
from clap_server.errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def decode(
    source: Path | BinaryIO, sample_rate: int, *, max_duration_s: float | None = None
) -> NDArray[np.float32]:
    """Decode any recording that FFmpeg reads.

    Playlists and network addresses inside it are never followed. Blocks.

    Args:
        source: a path, or a file that can be read and seeked.
        sample_rate: wanted rate in Hz.
        max_duration_s: longest recording that is accepted, in seconds.

    Returns:
        ``(n,)`` mono float32 at ``sample_rate``, full scale -1..1.

    Raises:
        AudioError: it is no audio, it is too long, or it cannot be opened.
    """
    if not isinstance(source, Path):
        return _decode(source, sample_rate, max_duration_s)
    try:
        with source.open("rb") as file:
            return _decode(file, sample_rate, max_duration_s)
    except OSError as error:
        raise AudioError(f"Cannot open {source.name}: {error.strerror}.") from error


def _decode(file: BinaryIO, sample_rate: int, max_duration_s: float | None) -> NDArray[np.float32]:
    resampler = Resampler(sample_rate)
    parts: list[NDArray[np.float32]] = []
    seconds = 0.0
    with open_file(file) as container:
        try:
            for samples, rate in read_frames(container):
                seconds += len(samples) / rate
                if max_duration_s is not None and seconds > max_duration_s:
                    raise AudioError(
                        f"The recording is longer than {max_duration_s:g} s: send a shorter one."
                    )
                parts.append(resampler.push(samples, rate))
        except av.error.FFmpegError as error:
            raise AudioError("The recording breaks off or is damaged: send it again.") from error
    parts.append(resampler.flush())
    decoded = np.concatenate(parts)
    if not decoded.size:
        raise AudioError("The recording holds no sound at all: send one that does.")
    return decoded
