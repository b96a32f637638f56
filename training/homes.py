"""Stretches of home life from held-out recordings, in which nothing happens that is surely to be reported.

The clips of a fold, each judged alone, are a new hard effect every three seconds. In a home there is a fan, a
street or rain, and somebody talks, cooks or walks about: false alarms an hour are told of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import soxr

from clap_server.synthesis.signal import add_at
from training.mixing import CLINKS, HOUSEHOLD, MUSIC, VOICES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from training.rooms import Rooms

# Besides these a home rings and beeps; whether that is an alarm is a matter of opinion, so it is left out.
# Plates, cutlery and keys may be struck metal, a door that slams a knock: for these two labels more false
# alarms are told than there are.
ACTIVITIES = (
    *(
        name
        for name in (*CLINKS, *HOUSEHOLD, *MUSIC, *VOICES)
        # Not of a home, or, as rockets among the thuds and quarrels in a crowd, perhaps to be reported.
        if name not in {"crockery_break", "thud", "wood", "crowd", "animal"}
    ),
    "clock",
    "typing",
    "snoring",
    "cat_meow",
    "vacuum_cleaner",
)
CAMERA_RATE = 16_000
STRETCH_S = 60.0
_GAP_S = 2.0
_LONGEST_S = 8.0
_PEAK_DBFS = (-30.0, -3.0)
_BACKGROUND_DBFS = (-55.0, -32.0)
_PLACES = 3


def endless(background: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """``count`` samples of ``(n,)`` background, to and fro from a random place, so that there is no seam."""
    there_and_back = np.concatenate([background, background[::-1]])
    return np.resize(np.roll(there_and_back, -int(rng.integers(len(there_and_back)))), count)


def by_camera(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """What is left of ``(n,)`` samples, at their rate, if a cheap camera sampled them at ``CAMERA_RATE``."""
    narrow = soxr.resample(samples, sample_rate, CAMERA_RATE)
    wide = np.asarray(soxr.resample(narrow, CAMERA_RATE, sample_rate), np.float32)
    return np.resize(wide, len(samples))


@dataclass(frozen=True, slots=True)
class Homes:
    """What homes are made of.

    Attributes:
        activities: samples by concept.
        backgrounds: samples of what may lie under others, each a few seconds.
        rooms: to play in.
        sample_rate: of all samples, in Hz.
    """

    activities: Mapping[str, Sequence[NDArray[np.float32]]]
    backgrounds: Sequence[NDArray[np.float32]]
    rooms: Rooms
    sample_rate: int

    def stretch(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """``STRETCH_S`` at home.

        Sounds begin every ``_GAP_S`` on average, those of a concept as often as the root of its number of
        clips says, in up to three rooms, at peaks of -30 to -3 dBFS, over a background with an RMS level of
        -55 to -32 dBFS. Half of the stretches are sampled as cheap cameras do.

        Args:
            rng: decides all.

        Returns:
            ``(STRETCH_S * sample_rate,)`` within -1..1.
        """
        samples = self._background(rng)
        places = rng.integers(0, len(self.rooms.responses), _PLACES)
        at_s = rng.exponential(_GAP_S)
        while at_s < STRETCH_S:
            gain = np.float32(10 ** (rng.uniform(*_PEAK_DBFS) / 20))
            sound = self._activity(rng, int(places[int(rng.integers(_PLACES))]))
            add_at(samples, int(at_s * self.sample_rate), gain * sound)
            at_s += rng.exponential(_GAP_S)
        if rng.random() < 0.5:
            samples = by_camera(samples, self.sample_rate)
        return np.clip(samples, -1.0, 1.0)

    def _background(self, rng: np.random.Generator) -> NDArray[np.float32]:
        background = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
        samples = endless(background, round(STRETCH_S * self.sample_rate), rng)
        level = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
        return np.asarray(
            samples * (10 ** (rng.uniform(*_BACKGROUND_DBFS) / 20) / max(level, 1e-9)), np.float32
        )

    def _activity(self, rng: np.random.Generator, place: int) -> NDArray[np.float32]:
        """One sound at a peak of 1, in its room."""
        names = sorted(self.activities)
        shares = np.sqrt([len(self.activities[name]) for name in names])
        clips = self.activities[names[int(rng.choice(len(names), p=shares / shares.sum()))]]
        clip = clips[int(rng.integers(len(clips)))][: int(_LONGEST_S * self.sample_rate)]
        peak = float(np.max(np.abs(clip), initial=0.0))
        # The room rings on after the clip.
        dry = np.pad(clip / np.float32(peak or 1.0), (0, self.sample_rate // 2))
        return self.rooms.play(dry, place)
