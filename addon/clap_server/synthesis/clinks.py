"""Things that ring when touched but do not break: what a glass-break detector must leave alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.synthesis.signal import SAMPLE_RATE, add_at, log_uniform, modes, normalize

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _hits(
    rng: np.random.Generator,
    sample_rate: int,
    duration_s: float,
    starts_s: NDArray[np.floating],
    *,
    objects: int,
    hz: tuple[float, float],
    decay_s: tuple[float, float],
    partials: tuple[int, int],
    click: float,
) -> NDArray[np.float32]:
    """Strike ``objects`` different bodies in turn; each keeps its modes, the blow varies."""
    bodies = []
    for _ in range(objects):
        number = int(rng.integers(*partials))
        bodies.append(
            (
                np.sort(log_uniform(rng, *hz, number)),
                log_uniform(rng, *decay_s, number),
                np.linspace(1.0, 0.3, number),
            )
        )
    sound = np.zeros(int(duration_s * sample_rate), np.float32)
    for start in starts_s:
        frequencies, decays, amplitudes = bodies[int(rng.integers(objects))]
        struck = amplitudes * rng.uniform(0.2, 1.0, len(amplitudes))
        length_s = float(min(6 * decays.max(), max(duration_s - start, 0.01)))
        hit = modes(rng, sample_rate, length_s, frequencies, struck, decays)
        noise = rng.standard_normal(len(hit)) * np.exp(
            -np.arange(len(hit)) / (rng.uniform(0.0003, 0.002) * sample_rate)
        )
        add_at(sound, int(start * sample_rate), (hit + click * noise) * rng.lognormal(-0.6, 0.5))
    return normalize(sound)


def dishes(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 2.0
) -> NDArray[np.float32]:
    """Plates, bowls and cups being set down and stacked."""
    starts = np.sort(rng.uniform(0.02, duration_s * 0.95, int(rng.integers(2, 5 + int(2 * duration_s)))))
    return _hits(
        rng,
        sample_rate,
        duration_s,
        starts,
        objects=int(rng.integers(1, 5)),
        hz=(500, 7000),
        decay_s=(0.02, 0.15),
        partials=(4, 9),
        click=rng.uniform(0.1, 0.6),
    )


def cutlery(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 2.0
) -> NDArray[np.float32]:
    """Knives, forks and spoons against each other and on plates."""
    starts = np.sort(rng.uniform(0.02, duration_s * 0.95, int(rng.integers(3, 7 + int(4 * duration_s)))))
    return _hits(
        rng,
        sample_rate,
        duration_s,
        starts,
        objects=int(rng.integers(2, 6)),
        hz=(1800, 11000),
        decay_s=(0.03, 0.25),
        partials=(4, 10),
        click=rng.uniform(0.1, 0.5),
    )


def keys(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 2.0
) -> NDArray[np.float32]:
    """A bunch of keys that jingles: many light metallic hits, in shakes."""
    shakes = rng.uniform(0.02, duration_s * 0.9, int(rng.integers(2, 4 + int(3 * duration_s))))
    starts = np.concatenate([shake + rng.exponential(0.05, int(rng.integers(3, 9))) for shake in shakes])
    return _hits(
        rng,
        sample_rate,
        duration_s,
        np.sort(starts[starts < duration_s * 0.98]),
        objects=int(rng.integers(3, 7)),
        hz=(3500, 14000),
        decay_s=(0.01, 0.08),
        partials=(3, 7),
        click=rng.uniform(0.05, 0.3),
    )


def coins(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 2.0
) -> NDArray[np.float32]:
    """Coins that drop and bounce: hits that come ever faster and softer."""
    starts: list[float] = []
    for _ in range(int(rng.integers(1, 4))):
        moment, gap = rng.uniform(0.02, duration_s * 0.5), rng.uniform(0.12, 0.35)
        while moment < duration_s * 0.95 and gap > 0.01:
            starts.append(moment)
            moment, gap = moment + gap, gap * rng.uniform(0.6, 0.85)
    return _hits(
        rng,
        sample_rate,
        duration_s,
        np.sort(np.asarray(starts)),
        objects=int(rng.integers(1, 4)),
        hz=(4000, 13000),
        decay_s=(0.03, 0.2),
        partials=(3, 6),
        click=rng.uniform(0.05, 0.4),
    )


def glass_clink(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 1.5
) -> NDArray[np.float32]:
    """Glasses or bottles that touch and ring, whole: a few long, pure modes."""
    starts = np.sort(rng.uniform(0.02, duration_s * 0.7, int(rng.integers(1, 5))))
    return _hits(
        rng,
        sample_rate,
        duration_s,
        starts,
        objects=int(rng.integers(1, 4)),
        hz=(1200, 8000),
        decay_s=(0.05, 0.5),
        partials=(2, 6),
        click=rng.uniform(0.02, 0.3),
    )
