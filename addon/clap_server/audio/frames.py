"""FFmpeg's audio frames and raw PCM as arrays of full scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.errors import AudioError

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray


def to_float(samples: NDArray[np.generic]) -> NDArray[np.float32]:
    """Scale PCM of any of FFmpeg's sample types to full scale -1..1; same shape.

    All sound enters here. A broken stream can hold any value: what is out of range is clipped, and what is
    not a number becomes silence.
    """
    if samples.dtype.kind in "ui":
        half = float(2 ** (8 * samples.dtype.itemsize - 1))
        centre = half if samples.dtype.kind == "u" else 0.0
        return ((samples.astype(np.float64) - centre) / half).astype(np.float32)
    clipped: NDArray[np.float32] = np.nan_to_num(np.clip(samples, -1.0, 1.0), nan=0.0).astype(np.float32)
    return clipped


def frame_channels(frame: av.AudioFrame) -> NDArray[np.float32]:
    """Take the samples out of a frame.

    Returns:
        ``(channels, n)`` float32, full scale -1..1, at the frame's own rate.

    Raises:
        AudioError: samples of 64-bit integers, which PyAV does not hand over; or no sample rate.
    """
    if frame.sample_rate < 1:
        raise AudioError("The sound has no sample rate: encode it again.")
    try:
        array = to_float(frame.to_ndarray())
    except ValueError as error:
        raise AudioError(
            f"Samples of the format {frame.format.name} are not supported: use 16 or 32 bits."
        ) from error
    if frame.format.is_planar:
        return array
    return array.reshape(-1, len(frame.layout.channels)).T
