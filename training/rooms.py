"""Impulse responses of rooms as cameras hear them, by the image-source method (Allen and Berkley, 1979)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
import pyroomacoustics as pra  # type: ignore[import-untyped] # the library has no types
from scipy.signal import oaconvolve
from tqdm import tqdm

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LENGTH_S = 0.8
# The direct sound is a pulse between two samples, so it begins a little before its peak.
AHEAD = 40
_VERSION = 1
# At this order an image is found in 0.2 s; later reflections are weak by then.
_MAX_ORDER = 40
_BANDS_HZ = (125, 250, 500, 1000, 2000, 4000, 8000)


@dataclass(frozen=True, slots=True)
class Rooms:
    """A bank of impulse responses.

    Attributes:
        responses: ``(rooms, samples)``; the direct sound is 1 at sample ``AHEAD``.
        decay_s: ``(rooms,)`` time in which each room's sound falls by 60 dB.
        distance_m: ``(rooms,)`` from source to microphone.
    """

    responses: NDArray[np.float16]
    decay_s: NDArray[np.float32]
    distance_m: NDArray[np.float32]

    def play(self, samples: NDArray[np.float32], index: int) -> NDArray[np.float32]:
        """Play ``(n,)`` samples in a room; as long as before, in the same place, at the peak of before."""
        response = self.responses[index].astype(np.float32)
        wet = oaconvolve(samples, response)[AHEAD : AHEAD + len(samples)]
        wanted = float(np.max(np.abs(samples), initial=0.0))
        largest = float(np.max(np.abs(wet), initial=0.0))
        return np.asarray(wet * (wanted / largest if largest > 0 else 0.0), np.float32)


def _places(
    rng: np.random.Generator, size: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Source and microphone, 1 to 10 m apart where the room is as large."""
    if rng.random() < 0.75:
        # A camera hangs in a corner under the ceiling.
        microphone = rng.uniform(0.05, 0.4, 3)
        microphone[2] = size[2] - rng.uniform(0.05, 0.6)
    else:
        # Other devices stand on something by a wall.
        microphone = np.array([rng.uniform(0.3, size[0] / 2), rng.uniform(0.05, 0.4), rng.uniform(0.5, 1.5)])
    wanted = np.exp(rng.uniform(np.log(1.0), np.log(10.0)))
    candidates = rng.uniform([0.2, 0.2, 0.05], size - [0.2, 0.2, 0.6], (256, 3))
    distances = np.linalg.norm(candidates - microphone, axis=1)
    misses = np.where(distances >= 1.0, np.abs(distances - wanted), np.inf)
    return candidates[int(np.argmin(misses))], microphone


def simulate(rng: np.random.Generator, sample_rate: int) -> tuple[NDArray[np.float32], float, float]:
    """Make up a room, and a place for a sound and a microphone in it.

    Sides of 2 to 10 m, 2.2 to 4 m high, walls that take up high frequencies more than low ones, a decay of
    0.15 to 1.1 s (Sabine, 1922), 1 to 10 m between sound and microphone.

    Returns:
        ``(samples,)`` of ``LENGTH_S``, the decay in s and the distance in m.
    """
    while True:
        size = np.array([*rng.uniform(2.0, 10.0, 2), rng.uniform(2.2, 4.0)])
        decay_s = float(np.exp(rng.uniform(np.log(0.15), np.log(1.1))))
        try:
            absorption, order = pra.inverse_sabine(decay_s, size)
        except ValueError:  # even an open field of this size would ring longer
            continue
        break
    tilt = np.linspace(rng.uniform(0.5, 1.0), rng.uniform(1.0, 1.6), len(_BANDS_HZ))
    walls = {
        wall: {
            "description": wall,
            "coeffs": list(np.clip(absorption * rng.uniform(0.6, 1.5) * tilt, 0.02, 0.95)),
            "center_freqs": list(_BANDS_HZ),
        }
        for wall in ("east", "west", "north", "south", "ceiling", "floor")
    }
    pra.random.seed(numpy=int(rng.integers(2**31)), libroom=int(rng.integers(2**31)))
    room = pra.ShoeBox(
        size,
        fs=sample_rate,
        materials={wall: pra.Material(energy_absorption=material) for wall, material in walls.items()},
        max_order=min(order, _MAX_ORDER),
        air_absorption=True,
        # Without it all echoes of a perfect box line up to a sweep that no real room has.
        use_rand_ism=True,
        max_rand_disp=0.05,
    )
    source, microphone = _places(rng, size)
    room.add_source(source)
    room.add_microphone(microphone)
    room.compute_rir()
    response = np.asarray(room.rir[0][0], np.float64)
    distance = float(np.linalg.norm(source - microphone))
    direct = round(distance / room.c * sample_rate) + pra.constants.get("frac_delay_length") // 2
    # The randomised method also moves the source itself, by up to 5 cm along each axis.
    nearby = slice(direct - sample_rate // 3000, direct + sample_rate // 3000 + 1)
    direct = nearby.start + int(np.argmax(np.abs(response[nearby])))
    response = response[max(direct - AHEAD, 0) :][: int(LENGTH_S * sample_rate)] / response[direct]
    response = np.pad(response, (0, int(LENGTH_S * sample_rate) - len(response)))
    # Bare walls send the sound to and fro for longer than Sabine's formula says, which holds for rooms with
    # furniture that scatters it: what rings longer is made to decay as it should.
    ringing = float(pra.experimental.measure_rt60(response, sample_rate, decay_db=20))
    if ringing > decay_s:
        times = np.maximum(np.arange(len(response)) - AHEAD, 0) / sample_rate
        response *= np.exp(-times * np.log(1000.0) * (1 / decay_s - 1 / ringing))
    fade = int(0.05 * sample_rate)
    response[-fade:] *= np.linspace(1, 0, fade)
    return response.astype(np.float32), decay_s, distance


def load_rooms(path: Path, seed: int, count: int, sample_rate: int) -> Rooms:
    """Read the bank from ``path``, or simulate and keep it there.

    A bank of another seed, size or rate, or a file that cannot be read, is replaced.

    Args:
        path: an ``.npz``.
        seed: decides every room; the first ones are the same in a larger bank.
        count: number of rooms.
        sample_rate: in Hz.
    """
    settings = np.array([_VERSION, seed, count, sample_rate])
    if path.is_file():
        try:
            with np.load(path) as kept:
                if np.array_equal(kept["settings"], settings):
                    return Rooms(kept["responses"], kept["decay_s"], kept["distance_m"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            print(f"{path} cannot be read and is made anew")
    pra.constants.set("num_threads", 1)
    made = [
        simulate(np.random.default_rng((seed, index)), sample_rate)
        for index in tqdm(range(count), desc="rooms", mininterval=10)
    ]
    rooms = Rooms(
        np.stack([response for response, _, _ in made]).astype(np.float16),
        np.array([decay for _, decay, _ in made], np.float32),
        np.array([distance for _, _, distance in made], np.float32),
    )
    content = io.BytesIO()
    np.savez(
        content,
        settings=settings,
        responses=rooms.responses,
        decay_s=rooms.decay_s,
        distance_m=rooms.distance_m,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # A file under its own name is a whole one, whatever interrupts this.
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(content.getvalue())
    unfinished.replace(path)
    return rooms
