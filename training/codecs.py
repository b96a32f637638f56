"""What codecs of cameras and telephones do to a sound: real ones, there and back in memory."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Literal, cast

import av
import numpy as np
import soxr
from scipy import signal

from clap_server.audio.frames import frame_channels

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PCM_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Codec:
    """A codec and how it is set.

    Attributes:
        name: FFmpeg's name of the encoder.
        sample_rate: at which it is fed, in Hz.
        bit_rate: in bit/s; 0 where the codec has but one.
        share: how often it is drawn, against the others.
    """

    name: str
    sample_rate: int
    bit_rate: int
    share: float


CODECS: tuple[Codec, ...] = (
    # Cheap cameras: G.711 of 8 kHz.
    Codec("pcm_mulaw", 8_000, 0, 1.5),
    Codec("pcm_alaw", 8_000, 0, 1.5),
    Codec("g722", 16_000, 0, 0.5),
    # Most others, at 16 kHz as a rule.
    *(Codec("aac", 8_000, rate, 0.3) for rate in (16_000, 32_000)),
    *(Codec("aac", 16_000, rate, 0.7) for rate in (16_000, 24_000, 32_000, 64_000)),
    *(Codec("aac", 32_000, rate, 0.3) for rate in (24_000, 32_000, 48_000)),
    *(Codec("aac", 48_000, rate, 0.3) for rate in (32_000, 48_000, 64_000)),
    # WebRTC.
    *(Codec("libopus", 16_000, rate, 0.3) for rate in (12_000, 16_000, 24_000)),
    *(Codec("libopus", 48_000, rate, 0.3) for rate in (12_000, 16_000, 24_000, 32_000, 48_000)),
)
_FORMATS = {"aac": "fltp"}
_OPTIONS = {"aac": {"aac_coder": "fast"}}


def draw(rng: np.random.Generator) -> Codec:
    """One of ``CODECS`` by their shares."""
    shares = np.array([codec.share for codec in CODECS])
    return CODECS[int(rng.choice(len(CODECS), p=shares / shares.sum()))]


def _context(codec: Codec, mode: Literal["r", "w"]) -> av.AudioCodecContext:
    context = cast("av.AudioCodecContext", av.CodecContext.create(codec.name, mode))
    context.sample_rate = codec.sample_rate
    context.layout = "mono"
    return context


def _coded(samples: NDArray[np.float32], codec: Codec) -> NDArray[np.float32]:
    """Encode and decode ``(n,)`` samples at the codec's rate; late by the delay of the codec."""
    encoder = _context(codec, "w")
    fmt = _FORMATS.get(codec.name, "s16")
    encoder.format = fmt
    encoder.time_base = Fraction(1, codec.sample_rate)
    if codec.bit_rate:
        encoder.bit_rate = codec.bit_rate
    encoder.options = _OPTIONS.get(codec.name, {})
    encoder.open()
    size = encoder.frame_size or _PCM_CHUNK
    pcm: NDArray[np.float32] | NDArray[np.int16] = np.clip(samples, -1.0, 1.0)
    if fmt == "s16":
        pcm = np.round(pcm * 32767).astype(np.int16)
    packets = []
    for start in range(0, len(pcm), size):
        frame = av.AudioFrame.from_ndarray(pcm[None, start : start + size].copy(), format=fmt, layout="mono")
        frame.sample_rate = codec.sample_rate
        frame.pts = start
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoder = _context(codec, "r")
    if encoder.extradata:
        decoder.extradata = encoder.extradata
    frames = [frame for packet in (*packets, None) for frame in decoder.decode(packet)]
    decoded = np.concatenate([frame_channels(frame)[0] for frame in frames])
    # Opus always comes out at 48 kHz.
    return np.asarray(soxr.resample(decoded, frames[0].sample_rate, codec.sample_rate), np.float32)


@cache
def delay(codec: Codec) -> int:
    """By how many samples at the codec's rate what comes out is late, measured on a burst of noise."""
    count, edge = 16_384, 4096
    burst = np.random.default_rng(0).standard_normal(count)
    # Low frequencies are kept at any bit rate, and in phase.
    spectrum = np.fft.rfft(burst)
    spectrum[np.fft.rfftfreq(count, 1 / codec.sample_rate) > 2500] = 0
    burst = np.fft.irfft(spectrum, count)
    burst *= 0.2 / burst.std()
    decoded = _coded(np.pad(burst, edge).astype(np.float32), codec)[: count + 2 * edge]
    padded = np.pad(decoded, (0, count + 2 * edge - len(decoded)))
    likeness = signal.correlate(padded, burst, "valid", method="fft")
    return int(np.argmax(likeness)) - edge


def through(samples: NDArray[np.float32], codec: Codec, sample_rate: int) -> NDArray[np.float32]:
    """What a listener gets at the other end of a codec.

    Args:
        samples: ``(n,)``, full scale -1..1; louder is clipped.
        codec: one of ``CODECS``.
        sample_rate: of the samples, in Hz.

    Returns:
        ``(n,)`` at the same rate, every sound where it was.
    """
    if not samples.size:
        return samples
    late = delay(codec)
    fed = np.asarray(soxr.resample(samples, sample_rate, codec.sample_rate), np.float32)
    # What the codec holds back at the end is pushed out, by a frame more than its delay.
    decoded = _coded(np.pad(fed, (0, max(late, 0) + codec.sample_rate // 50)), codec)
    decoded = decoded[late:] if late >= 0 else np.pad(decoded, (-late, 0))
    back = np.asarray(soxr.resample(decoded[: len(fed)], codec.sample_rate, sample_rate), np.float32)
    return np.pad(back, (0, max(len(samples) - len(back), 0)))[: len(samples)]
