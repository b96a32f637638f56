"""FFmpeg's audio frames as mono numpy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.errors import AudioError

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray


def to_float(samples: NDArray[np.generic]) -> NDArray[np.float32]:
    """Scale PCM of any of FFmpeg's sample types to full scale -1..1; same shape."""
    if samples.dtype.kind == "u":
        half = float(2 ** (8 * samples.dtype.itemsize - 1))
        return ((samples.astype(np.float64) - half) / half).astype(np.float32)
    if samples.dtype.kind == "i":
        full_scale = float(2 ** (8 * samples.dtype.itemsize - 1))
        return (samples.astype(np.float64) / full_scale).astype(np.float32)
    return samples.astype(np.float32)


def frame_to_mono(frame: av.AudioFrame) -> NDArray[np.float32]:
    """Mean of a frame's channels.

    Returns:
        ``(n,)`` float32, full scale -1..1, at the frame's own rate. Values that are not numbers
        (a broken stream can hold them) become silence.

    Raises:
        AudioError: samples of 64-bit integers, which PyAV does not hand over.
    """
    try:
        array = to_float(frame.to_ndarray())
    except ValueError as error:
        raise AudioError(
            f"Samples of the format {frame.format.name} are not supported: use 16 or 32 bits."
        ) from error
    channels = len(frame.layout.channels)
    if not frame.format.is_planar:
        array = array.reshape(-1, channels).T
    mono = array[0] if channels == 1 else array.mean(axis=0, dtype=np.float32)
    clean: NDArray[np.float32] = np.nan_to_num(mono, nan=0.0, posinf=1.0, neginf=-1.0)
    return clean
