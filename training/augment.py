"""From a clean sound to what a camera in a room makes of it."""

from __future__ import annotations

import random
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import soxr

from clap_server import synthesis
from training import codecs

with warnings.catch_warnings():
    # A docstring of the library has a backslash in it that Python warns of when it compiles the module.
    warnings.simplefilter("ignore", DeprecationWarning)
    from audiomentations import (  # type: ignore[import-untyped] # the library does not mark its types
        AddColorNoise,
        Clip,
        Compose,
        Gain,
        HighPassFilter,
        LowPassFilter,
        SevenBandParametricEQ,
        TanhDistortion,
    )

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from training.config import Prepare
    from training.rooms import Rooms

# At this peak a copy is kept, so that its noise stays above the floor of the spectrogram.
PEAK = 0.7
_RATES = (8_000, 11_025, 16_000, 22_050, 32_000)
_BLOCK_S = 0.01


@contextmanager
def _global_state(rng: np.random.Generator) -> Iterator[None]:
    """Let Python's and numpy's global generators, which audiomentations draws from, follow ``rng``."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the one that is drawn from
    random.seed(int(rng.integers(2**32)))
    np.random.seed(int(rng.integers(2**32)))  # noqa: NPY002 - as above
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002 - as above


def _at_peak(samples: NDArray[np.float32], peak: float) -> NDArray[np.float32]:
    largest = float(np.max(np.abs(samples), initial=0.0))
    return np.asarray(samples * (peak / largest if largest > 0 else 0.0), np.float32)


def gain_control(
    samples: NDArray[np.float32],
    sample_rate: int,
    *,
    target: float,
    largest_gain_db: float,
    attack_s: float,
    release_s: float,
) -> NDArray[np.float32]:
    """Automatic gain: what is quiet is raised, what is loud lowered, each after a while; then clipped.

    Args:
        samples: ``(n,)``.
        sample_rate: in Hz.
        target: peak that it aims at, of full scale 1.
        largest_gain_db: by how much it raises silence.
        attack_s: time constant with which the gain falls.
        release_s: time constant with which the gain rises.

    Returns:
        ``(n,)`` within -1..1.
    """
    width = max(int(_BLOCK_S * sample_rate), 1)
    blocks = np.abs(np.pad(samples, (0, -len(samples) % width))).reshape(-1, width).max(axis=1)
    wanted = np.minimum(target / np.maximum(blocks, 1e-9), 10 ** (largest_gain_db / 20))
    falls, rises = np.exp(-_BLOCK_S / attack_s), np.exp(-_BLOCK_S / release_s)
    # Before the recording began the device had long got used to the quiet.
    gain = float(np.median(wanted[: max(int(0.3 / _BLOCK_S), 1)]))
    gains = np.empty(len(wanted))
    for block, aim in enumerate(wanted):
        keep = falls if aim < gain else rises
        gain = keep * gain + (1 - keep) * float(aim)
        gains[block] = gain
    centres = (np.arange(len(gains)) + 0.5) * width
    return np.asarray(
        np.clip(samples * np.interp(np.arange(len(samples)), centres, gains), -1, 1), np.float32
    )


def _colour(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """A small microphone behind a hole in a case."""
    chain = Compose(
        [
            SevenBandParametricEQ(min_gain_db=-8.0, max_gain_db=8.0, p=0.7),
            HighPassFilter(min_cutoff_freq=30.0, max_cutoff_freq=400.0, p=0.5),
            LowPassFilter(min_cutoff_freq=3500.0, max_cutoff_freq=16000.0, p=0.35),
        ]
    )
    return np.asarray(chain(samples, sample_rate), np.float32)


def _noise(samples: NDArray[np.float32], rng: np.random.Generator, sample_rate: int) -> NDArray[np.float32]:
    """The microphone's own noise, 30 to 70 dB under the loudest 0.1 s."""
    loudest = synthesis.loudest_rms(samples, sample_rate)
    mean = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    # The transform counts from the mean level, which depends on how much silence the clip holds.
    snr_db = rng.uniform(30, 70) - 20 * np.log10(loudest / mean)
    noise = AddColorNoise(min_snr_db=snr_db, max_snr_db=snr_db, min_f_decay=-5.0, max_f_decay=0.5, p=1.0)
    return np.asarray(noise(samples, sample_rate), np.float32)


def _amplify(samples: NDArray[np.float32], rng: np.random.Generator, sample_rate: int) -> NDArray[np.float32]:
    """Nothing, automatic gain, too much gain, or a soft limit."""
    kind = rng.random()
    if kind < 0.35:
        return samples
    if kind < 0.6:
        return gain_control(
            _at_peak(samples, 10 ** (rng.uniform(-40, -3) / 20)),
            sample_rate,
            target=rng.uniform(0.15, 0.6),
            largest_gain_db=rng.uniform(12, 30),
            attack_s=np.exp(rng.uniform(np.log(0.005), np.log(0.1))),
            release_s=np.exp(rng.uniform(np.log(0.2), np.log(3.0))),
        )
    if kind < 0.8:
        overload = Compose([Gain(min_gain_db=0.0, max_gain_db=18.0, p=1.0), Clip(-1.0, 1.0, p=1.0)])
    else:
        overload = TanhDistortion(min_distortion=0.01, max_distortion=0.4, p=1.0)
    return np.asarray(overload(_at_peak(samples, 1.0), sample_rate), np.float32)


def device(
    samples: NDArray[np.float32], rng: np.random.Generator, sample_rate: int, *, codec_share: float = 0.55
) -> tuple[NDArray[np.float32], str]:
    """Record ``samples`` with a random microphone, amplifier, converter and codec.

    The same state of ``rng`` gives the same recording. The global generators of Python and numpy are left as
    they were.

    Args:
        samples: ``(n,)``.
        rng: gives the device.
        sample_rate: in Hz.
        codec_share: how often there is a codec; half of the rest has a converter of a lower rate.

    Returns:
        ``(n,)``, every sound where it was, at a peak of ``PEAK`` (digital silence stays as it is), and the
        name of the codec, ``pcm`` if there is none.
    """
    if not np.any(samples):
        return samples.copy(), "pcm"
    with _global_state(rng):
        heard = _at_peak(_colour(_at_peak(samples, 0.5), sample_rate), 0.5)
        if rng.random() < 0.8:
            heard = _noise(heard, rng, sample_rate)
        heard = _amplify(heard, rng, sample_rate)
    # Seldom far from full scale: most devices are set to use it.
    heard = _at_peak(heard, 10 ** (-40 * rng.random() ** 2 / 20))
    heard = np.asarray(np.round(heard * 32767) / 32767, np.float32)
    name = "pcm"
    if rng.random() < codec_share:
        codec = codecs.draw(rng)
        name = codec.name
        heard = codecs.through(heard, codec, sample_rate)
    elif rng.random() < 0.5:
        rate = _RATES[int(rng.integers(len(_RATES)))]
        low = soxr.resample(heard, sample_rate, rate)
        back = np.asarray(soxr.resample(low, rate, sample_rate), np.float32)
        heard = np.pad(back, (0, max(len(samples) - len(back), 0)))[: len(samples)]
    return _at_peak(heard, PEAK), name


def rerecord(
    samples: NDArray[np.float32],
    rng: np.random.Generator,
    rooms: Rooms,
    sample_rate: int,
    settings: Prepare,
) -> tuple[NDArray[np.float32], str]:
    """Play ``samples`` in a room and record them with a device, either or both.

    Args:
        samples: ``(n,)``.
        rng: gives all.
        rooms: to choose from.
        sample_rate: in Hz.
        settings: how often what.

    Returns:
        ``(n,)`` and what was done: ``room`` (image sources) or ``tail`` (synthetic), ``device``, the codec's
        name, joined by ``+``.
    """
    done: list[str] = []
    if rng.random() < settings.room_share:
        if rng.random() < settings.image_source_share:
            samples = rooms.play(samples, int(rng.integers(len(rooms.responses))))
            done.append("room")
        else:
            samples = synthesis.reverberate(samples, rng, sample_rate)
            done.append("tail")
    if not done or rng.random() < settings.device_share:
        samples, codec = device(samples, rng, sample_rate, codec_share=settings.codec_share)
        done += ["device", codec]
    return samples, "+".join(done)
