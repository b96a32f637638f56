"""A whole recording for the demo and the end-to-end tests, and where in it glass breaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_server.synthesis.clinks import dishes
from clap_server.synthesis.glass import glass_break
from clap_server.synthesis.impacts import thud
from clap_server.synthesis.music import music
from clap_server.synthesis.noise import noise
from clap_server.synthesis.room import mix_at, reverberate
from clap_server.synthesis.signal import SAMPLE_RATE, add_at
from clap_server.synthesis.voice import babble

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEMO_SEED = 8
"""Of the demo's recording: one in which the built-in model hears the breaks and nothing else."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A recording with what happens in it.

    Attributes:
        samples: ``(n,)`` mono.
        sample_rate: in Hz.
        breaks_s: onsets of the breaking glass, in seconds from the start.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    breaks_s: tuple[float, ...]


def demo_scene(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    duration_s: float = 40.0,
    breaks: int = 2,
    snr_db: float = 30.0,
) -> Scene:
    """A room in which people talk, a radio plays, dishes clink, a door slams and glass breaks.

    The breaks are spread evenly, none in the first or last 3 s, and nothing else happens within 1 s of one.

    Args:
        rng: gives every detail.
        sample_rate: in Hz.
        duration_s: length; at least 10 s for each break.
        breaks: how often glass breaks.
        snr_db: of each break over the room's mean level.

    Returns:
        The recording and the onsets.

    Raises:
        ValueError: too short for that many breaks.
    """
    if duration_s < 10 * breaks:
        raise ValueError(f"{breaks} breaks need at least {10 * breaks} s, not {duration_s} s")
    count = int(duration_s * sample_rate)
    samples = 0.003 * noise(rng, sample_rate, kind="pink", duration_s=duration_s)
    share = duration_s / breaks
    onsets = tuple(float((index + 0.62) * share + rng.uniform(0, 0.1) * share) for index in range(breaks))
    makers = (babble, music, dishes)
    for index in range(breaks):
        # The first half of each share is filled with ordinary life, the second left for the break.
        start, length_s = index * share + 0.3, share * 0.16
        for maker in makers:
            sound = reverberate(maker(rng, sample_rate, duration_s=length_s), rng, sample_rate, decay_s=0.3)
            add_at(samples, int(start * sample_rate), sound * np.float32(rng.uniform(0.05, 0.12)))
            start += length_s + 0.2
        add_at(samples, int((index + 0.9) * share * sample_rate), 0.08 * thud(rng, sample_rate))
    for onset in onsets:
        crash = reverberate(
            glass_break(rng, sample_rate, kind="pane", duration_s=1.6),
            rng,
            sample_rate,
            decay_s=0.3,
            direct_to_reverberant_db=8,
        )
        samples = mix_at(samples, crash, onset, snr_db, sample_rate)
    return Scene(samples[:count], sample_rate, onsets)
