"""What a kitchen sounds like without anything breaking: cupboards, washing up, chopping, the stove."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.synthesis.clinks import cutlery, dishes, glass_clink
from clap_server.synthesis.grains import body, bounces, decays, hiss, ragged, rises, struck, wander
from clap_server.synthesis.signal import (
    SAMPLE_RATE,
    add_at,
    band,
    chosen,
    fade,
    filtered,
    log_uniform,
    normalize,
    shaped_noise,
)
from training.synthesis.blows import board, steady_blows
from training.synthesis.textures import pouring

if TYPE_CHECKING:
    from numpy.typing import NDArray


CUPBOARD_KINDS = ("door", "drawer")


def cupboard(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    kind: str | None = None,
    duration_s: float = 2.0,
) -> NDArray[np.float32]:
    """A cupboard door or drawer that is shut: runners, the thud and its bounces, and what rattles inside."""
    name = chosen(rng, kind, CUPBOARD_KINDS, "cupboard")
    count = int(duration_s * sample_rate)
    sound = np.zeros(count, np.float32)
    moment = rng.uniform(0.02, 0.1 * duration_s)
    for _ in range(int(rng.integers(1, 4))):
        if name == "drawer":
            slide_s = rng.uniform(0.15, 0.6)
            gain = ragged(rng, 80, float(log_uniform(rng, 500, 3500)), 5)
            runners = shaped_noise(rng, int(slide_s * sample_rate), sample_rate, gain)
            runners *= wander(rng, len(runners), sample_rate, 25, 0.5)
            level = float(log_uniform(rng, 0.003, 0.05))
            add_at(sound, int(moment * sample_rate), level * fade(runners, sample_rate, 0.03))
            moment += slide_s
        starts, levels = bounces(rng, moment, rng.uniform(0.03, 0.15), rng.uniform(0.15, 0.5), 4)
        force = rng.uniform(0.3, 1.0)
        panel = board(rng, sample_rate, rng.uniform(60, 200), rng.uniform(600, 2500))
        sound += struck(rng, sample_rate, count, (starts, force * levels), [panel])
        contents = rng.random()
        if contents < 0.6:
            inside = (cutlery if name == "drawer" else dishes)(rng, sample_rate, duration_s=0.5)
            inside *= decays(len(inside), sample_rate, rng.uniform(0.05, 0.3))
            add_at(sound, int(moment * sample_rate), float(log_uniform(rng, 0.02, 0.5)) * inside)
        if contents > 0.4:  # hinges, handles and loose boards
            number = int(rng.integers(2, 12))
            hits = (moment + rng.exponential(0.06, number), rng.lognormal(-2.0, 0.6, number))
            loose = body(rng, sample_rate, number=8, hz=(400, 5000), decay_s=(0.002, 0.015), click=0.6)
            sound += struck(rng, sample_rate, count, hits, [loose])
        moment += rng.uniform(0.3, 1.0)
    return normalize(fade(sound, sample_rate, 0.002))


def dishwashing(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 6.0
) -> NDArray[np.float32]:
    """Dishes, glasses and cutlery in a sink, with water running or splashing, and thuds of the basin."""
    count = int(duration_s * sample_rate)
    sound = np.zeros(count, np.float32)
    water = float(log_uniform(rng, 0.02, 0.5))
    if rng.random() < 0.8:
        flow = pouring(rng, sample_rate, duration_s=duration_s)
        sound += np.float32(water) * flow * wander(rng, count, sample_rate, rng.uniform(0.5, 3), 0.4)
    makers = (dishes, cutlery, glass_clink)
    shares = rng.dirichlet((1.5, 1.2, 0.7))
    basin = body(rng, sample_rate, number=12, hz=(150, 3000), decay_s=(0.005, 0.06), click=0.3)
    moment = rng.uniform(0.0, 0.4)
    while moment < 0.97 * duration_s:
        length_s = min(rng.uniform(0.3, 1.5), duration_s)
        handled = makers[int(rng.choice(3, p=shares))](rng, sample_rate, duration_s=length_s)
        if rng.random() < 0.5:  # half under water or in the hand: damped
            handled = filtered(handled, sample_rate, band(80, float(log_uniform(rng, 1500, 7000)), 1.0))
        level = float(log_uniform(rng, 0.08, 1.0))
        add_at(sound, int(moment * sample_rate), level * handled)
        if rng.random() < 0.4:
            hits = (rng.uniform(0, 0.2, 2), rng.uniform(0.2, 0.6, 2))
            thuds = struck(rng, sample_rate, int(0.4 * sample_rate), hits, [basin])
            add_at(sound, int(moment * sample_rate), level * thuds)
        moment += rng.uniform(0.2, 1.0)
    return normalize(fade(sound, sample_rate, 0.003))


def chopping(
    rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, *, duration_s: float = 3.0
) -> NDArray[np.float32]:
    """A knife that goes through something and hits the board, two to eight times a second."""
    count = int(duration_s * sample_rate)
    starts, levels = steady_blows(
        rng, duration_s, rate_hz=(2, 8), first_s=0.03, jitter=0.05, spread=0.3, missed=0.05
    )
    wood = board(rng, sample_rate, rng.uniform(120, 350), rng.uniform(900, 3500))
    sound = struck(rng, sample_rate, count, (starts, levels), [wood])
    blade = body(rng, sample_rate, number=6, hz=(2000, 9000), decay_s=(0.003, 0.04), click=0.5)
    sound += np.float32(log_uniform(rng, 0.01, 0.3)) * struck(
        rng, sample_rate, count, (starts, levels), [blade]
    )
    crunch = hiss(rng, sample_rate, 0.06, ragged(rng, 700, 7000, 4), rng.uniform(0.005, 0.02))
    cuts = (starts - rng.uniform(0.01, 0.03), levels)
    sound += np.float32(log_uniform(rng, 0.005, 0.15)) * struck(rng, sample_rate, count, cuts, [crunch])
    return normalize(fade(sound, sample_rate, 0.002))


STOVE_KINDS = ("igniter", "pan", "lid")


def stove(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    kind: str | None = None,
    duration_s: float = 3.0,
) -> NDArray[np.float32]:
    """A gas stove that is lit with sparks, a pan that is set down, or a lid that settles on a pot."""
    name = chosen(rng, kind, STOVE_KINDS, "stove")
    count = int(duration_s * sample_rate)
    begin = rng.uniform(0.01, 0.15 * duration_s)
    if name == "igniter":
        gap_s, number = 1 / rng.uniform(2.5, 9), int(rng.integers(3, 13))
        spark = body(rng, sample_rate, number=8, hz=(1500, 12000), decay_s=(0.0005, 0.006), click=1.5)
        sparks = (begin + gap_s * np.arange(number), rng.uniform(0.6, 1.0, number))
        sound = struck(rng, sample_rate, count, sparks, [spark])
        flame = hiss(rng, sample_rate, duration_s, ragged(rng, 40, 700, 3), rng.uniform(0.1, 0.6))
        flame *= rises(len(flame), sample_rate, rng.uniform(0.02, 0.1))
        lit = begin + gap_s * (number - rng.uniform(0.2, 1.5))
        add_at(sound, int(lit * sample_rate), float(log_uniform(rng, 0.02, 0.3)) * flame)
    else:
        lid = name == "lid"
        pot = body(
            rng,
            sample_rate,
            number=int(rng.integers(8, 20)),
            hz=(600, 9000) if lid else (200, 6000),
            decay_s=(0.03, 0.4) if lid else (0.01, 0.15),
            click=rng.uniform(0.2, 0.8),
        )
        hits = bounces(
            rng, begin, rng.uniform(0.08, 0.3), rng.uniform(0.75, 0.92) if lid else 0.35, 30 if lid else 4
        )
        sound = struck(rng, sample_rate, count, hits, [pot])
        if not lid:
            plate = board(rng, sample_rate, rng.uniform(80, 200), rng.uniform(800, 2500))
            thuds = struck(rng, sample_rate, count, hits, [plate])
            sound += np.float32(log_uniform(rng, 0.2, 2.0)) * thuds
    return normalize(fade(sound, sample_rate, 0.002))
