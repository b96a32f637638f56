"""A picture of a sound."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEIGHT = 256
MAX_WIDTH = 1200
FFT_SIZE = 2048
LOWEST_HZ = 50.0
RANGE_DB = 80.0
# Dark to bright, readable for colour-blind people too: each step is brighter than the one before.
_COLOURS = np.array(
    [(8, 8, 32), (56, 20, 96), (136, 34, 106), (212, 72, 66), (250, 150, 40), (252, 240, 160)], np.float64
)


def spectrogram(samples: NDArray[np.float32], sample_rate: int) -> bytes:
    """Draw the spectrogram, time to the right, frequency upwards on a logarithmic axis.

    Args:
        samples: ``(n,)``, full scale -1..1.
        sample_rate: in Hz.

    Returns:
        A PNG, ``HEIGHT`` pixels high, from 50 Hz to half the sample rate, brightest at the loudest.
    """
    power = _powers(samples)
    bins = np.geomspace(LOWEST_HZ, sample_rate / 2, HEIGHT) * FFT_SIZE / sample_rate
    below = np.clip(bins.astype(int), 0, FFT_SIZE // 2 - 1)
    share = np.clip(bins - below, 0, 1)[:, None]
    rows = power[below] * (1 - share) + power[below + 1] * share
    level_db = 10 * np.log10(rows + 1e-12)
    brightness = np.clip((level_db - level_db.max()) / RANGE_DB + 1, 0, 1)[::-1]
    steps = np.linspace(0, 1, len(_COLOURS))
    picture = np.stack([np.interp(brightness, steps, channel) for channel in _COLOURS.T], axis=-1)
    file = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8), "RGB").save(file, "PNG", optimize=True)
    return file.getvalue()


def _powers(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Power of each bin and frame, ``(FFT_SIZE / 2 + 1, frames)``; frames are spread over the whole sound."""
    window = np.hanning(FFT_SIZE)
    padded = np.pad(samples, FFT_SIZE // 2)
    count = int(np.clip(len(samples) * 4 // FFT_SIZE, 1, MAX_WIDTH))
    starts = np.linspace(0, len(padded) - FFT_SIZE, count).astype(int)
    return np.stack(
        [np.abs(np.fft.rfft(padded[start : start + FFT_SIZE] * window)) ** 2 for start in starts], axis=1
    )
