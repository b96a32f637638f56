"""Clips into bytes that a browser plays."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

import av
import numpy as np
import soxr

from clap_server.errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ClipFormat = Literal["flac", "mp3"]

# What MPEG-1 and MPEG-2 layer III know; FLAC keeps the rate it is given.
_MP3_RATES_HZ = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_MP3_BIT_RATE = 96_000
_CHUNK = 4096


def encode(samples: NDArray[np.float32], sample_rate: int, fmt: ClipFormat) -> bytes:
    """Encode mono sound: FLAC with 16 bits without loss, MP3 with 96 kbit/s.

    Blocks. MP3 is resampled where it does not know the rate.

    Args:
        samples: ``(n,)``, full scale -1..1; louder is clipped.
        sample_rate: in Hz.
        fmt: ``flac`` or ``mp3``.

    Raises:
        AudioError: there are no samples, or the format is not known.
    """
    if fmt not in ("flac", "mp3"):
        raise AudioError(f"Clips cannot be encoded as {fmt}: ask for flac or mp3.")
    if not samples.size:
        raise AudioError("There is no sound to encode.")
    if fmt == "mp3" and sample_rate not in _MP3_RATES_HZ:
        wanted = next((rate for rate in _MP3_RATES_HZ if rate >= sample_rate), _MP3_RATES_HZ[-1])
        samples = soxr.resample(samples, sample_rate, wanted)
        sample_rate = wanted
    pcm = np.round(np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)
    output = io.BytesIO()
    with av.open(output, mode="w", format=fmt) as container:
        stream = container.add_stream(fmt, rate=sample_rate, layout="mono")
        if fmt == "mp3":
            stream.bit_rate = _MP3_BIT_RATE
        for start in range(0, len(pcm), _CHUNK):
            frame = av.AudioFrame.from_ndarray(pcm[None, start : start + _CHUNK], format="s16", layout="mono")
            frame.sample_rate = sample_rate
            frame.pts = start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return output.getvalue()
