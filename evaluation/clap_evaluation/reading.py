"""Recordings of any length, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import av.error

from clap_server.audio.container import open_file, read_frames
from clap_server.audio.resample import Resampler
from clap_server.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except ValueError as error:  # a character that no path can hold, such as NUL
        raise AudioError("Its name cannot be that of a file: correct the manifest.") from error


def read_blocks(path: Path, sample_rate: int) -> Iterator[NDArray[np.float32]]:
    """Decode a recording as it is consumed, so that a whole night fits into memory. Blocks.

    Args:
        path: of the recording.
        sample_rate: wanted rate in Hz.

    Yields:
        ``(n,)`` mono float32, full scale -1..1, never empty; at least once.

    Raises:
        AudioError: it is missing, cannot be opened, is no audio, or breaks off.
    """
    resampler = Resampler(sample_rate)
    any_sound = False
    try:
        with _open(path) as file, open_file(file) as container:
            for samples, rate in read_frames(container):
                block = resampler.push(samples, rate)
                if len(block):
                    any_sound = True
                    yield block
    except av.error.FFmpegError as error:
        raise AudioError("The recording breaks off or is damaged.") from error
    except FileNotFoundError as error:
        raise AudioError("The file is missing: paths are relative to the manifest.") from error
    except OSError as error:
        raise AudioError(f"It cannot be opened: {error.strerror}.") from error
    rest = resampler.flush()
    if len(rest):
        any_sound = True
        yield rest
    if not any_sound:
        raise AudioError("The recording holds no sound at all.")
