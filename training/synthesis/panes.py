"""Panes, bottles and tumblers that break, step by step: blow, fracture, crackle, shards on the floor.

Nearer to recorded breaks than ``glass_break``: what rings is dense (fragments have many modes between 1 and
18 kHz, after K. van den Doel and D. Pai, "The sounds of physical shapes", Presence 7(4), 1998), the spectrum
at the onset is broadband but uneven, and the events after it come in clusters rather than evenly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_server.synthesis.grains import (
    GRAVITY,
    body,
    bounces,
    convolved,
    decays,
    fast_length,
    hiss,
    pulse_train,
    ragged,
    rises,
    struck,
)
from clap_server.synthesis.signal import (
    SAMPLE_RATE,
    add_at,
    chosen,
    fade,
    filtered,
    log_uniform,
    modes,
    normalize,
    shaped_noise,
    unit_peak,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Pane:
    """Ranges for one way to break glass; levels are relative to the fracture's burst."""

    blow: Range  # of the fist, tool or wall that breaks it
    burst_decay_s: Range
    burst_low_hz: Range
    fragment_hz: Range
    fragment_decay_s: Range
    fragments: Range  # pulses of the fracture itself
    spread_s: Range  # over which they come
    height_m: Range  # from which shards fall
    shards: Range  # that are heard to land
    ringing: Range  # level of the fragments
    spray: Range  # level of the hiss of splinters
    before: float  # how often something is heard before it breaks: a first blow, a bounce
    again: float  # how often another pane or piece follows


_PANES = {
    "window": _Pane(
        (0.1, 0.9), (0.006, 0.06), (150, 1500), (1200, 16000), (0.004, 0.05),
        (25, 160), (0.015, 0.2), (0.2, 1.8), (10, 90), (0.3, 1.5), (0.05, 0.4), 0.15, 0.2,
    ),
    "double_glazing": _Pane(
        (0.2, 1.1), (0.008, 0.06), (120, 900), (900, 13000), (0.004, 0.04),
        (30, 180), (0.02, 0.2), (0.3, 1.8), (20, 120), (0.3, 1.2), (0.08, 0.5), 0.2, 0.9,
    ),
    "tempered": _Pane(
        (0.1, 1.0), (0.01, 0.08), (300, 2500), (2500, 17000), (0.001, 0.012),
        (150, 600), (0.05, 0.3), (0.3, 1.5), (100, 400), (0.2, 0.9), (0.2, 0.8), 0.15, 0.1,
    ),
    "laminated": _Pane(
        (0.4, 1.3), (0.01, 0.06), (80, 600), (700, 11000), (0.002, 0.015),
        (20, 120), (0.03, 0.25), (0.3, 1.2), (3, 25), (0.3, 1.0), (0.05, 0.3), 0.35, 0.4,
    ),
    "thrown_bottle": _Pane(
        (0.1, 0.9), (0.005, 0.03), (300, 2500), (1500, 15000), (0.006, 0.06),
        (12, 80), (0.008, 0.1), (0.1, 1.4), (6, 40), (0.5, 2.0), (0.02, 0.25), 0.0, 0.1,
    ),
    "dropped_glass": _Pane(
        (0.0, 0.5), (0.005, 0.025), (600, 4000), (2000, 18000), (0.006, 0.07),
        (10, 70), (0.008, 0.1), (0.02, 0.3), (5, 45), (0.5, 2.2), (0.02, 0.25), 0.3, 0.1,
    ),
}  # fmt: skip
PANE_KINDS = tuple(_PANES)
_FLOORS = ("tile", "wood", "carpet")


def _groups(
    rng: np.random.Generator, sample_rate: int, pane: _Pane, ground: str
) -> list[NDArray[np.float32]]:
    """Responses of five to seven sizes of fragment, coarse to fine, as they sound on this floor."""
    number = int(rng.integers(5, 8))
    low, high = pane.fragment_hz
    lowest = np.sort(log_uniform(rng, low, low * (high / low) ** 0.6, number))
    damping = {"tile": 1.0, "wood": 0.7, "carpet": 0.35}[ground]
    shortest, longest = pane.fragment_decay_s
    top = float(log_uniform(rng, shortest + 0.35 * (longest - shortest), longest)) * damping
    return [
        body(
            rng,
            sample_rate,
            number=int(rng.integers(6, 20)),
            hz=(float(bottom), high * rng.uniform(0.7, 1.1)),
            decay_s=(min(shortest, top), top),
            click=rng.uniform(0.2, 1.2) * (0.4 if ground == "carpet" else 1.0),
        )
        for bottom in lowest
    ]


def _landing(
    rng: np.random.Generator, pane: _Pane, ground: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times and levels of shards that fall, hit the floor in clusters, and bounce; some tinkle on after.

    What broke reaches from the floor, or somewhat above it, up to the height: shards land all the while.
    """
    height = float(log_uniform(rng, *pane.height_m))
    lowest = height * rng.uniform(0.0, 0.8)
    fall_s = np.sqrt(2 * height / GRAVITY)
    restitution = {"tile": 0.55, "wood": 0.4, "carpet": 0.1}[ground]
    starts, levels = [np.zeros(0)], [np.zeros(0)]
    left = int(log_uniform(rng, *pane.shards))
    loudness = float(log_uniform(rng, 0.25, 1.4))
    while left > 0:
        together = min(int(rng.integers(1, 30)), left)
        left -= together
        moment = np.sqrt(2 * rng.uniform(lowest, height) / GRAVITY) + rng.exponential(0.08)
        spread = float(log_uniform(rng, 0.01, 0.12))
        cluster = loudness * rng.lognormal(-0.2, 0.6) * np.exp(-max(moment - fall_s, 0.0) / 0.5)
        for start in moment + rng.exponential(spread, together):
            times, hits = bounces(rng, float(start), rng.uniform(0.03, 0.2), restitution, 4)
            starts.append(times)
            levels.append(hits * cluster * rng.lognormal(-0.7, 0.8))
    if rng.random() < 0.5:
        number = int(rng.integers(1, 8))
        starts.append(fall_s + rng.uniform(0.1, 1.2, number))
        levels.append(0.15 * rng.lognormal(0.0, 0.7, number))
    return np.concatenate(starts), np.concatenate(levels)


def _blow(rng: np.random.Generator, sample_rate: int, ring_hz: float) -> NDArray[np.float32]:
    """A fist, hammer, ball or wall against glass that holds: a thump and a few dull modes of the pane."""
    frequencies = log_uniform(rng, 50, ring_hz, 7)
    rings = log_uniform(rng, 0.004, 0.03, 7)
    sound = modes(rng, sample_rate, 0.3, frequencies, rng.uniform(0.2, 1.0, 7), rings)
    gain = ragged(rng, 60, rng.uniform(600, 5000), 4)
    knock = hiss(rng, sample_rate, len(sound) / sample_rate, gain, rng.uniform(0.003, 0.02))
    add_at(sound, 0, rng.uniform(0.2, 1.0) * knock)
    return unit_peak(sound)


def _break(rng: np.random.Generator, sample_rate: int, count: int, pane: _Pane) -> NDArray[np.float32]:
    """One pane that breaks at sample 0; the fracture's burst has a level of about 1."""
    ground = str(rng.choice(_FLOORS, p=(0.5, 0.35, 0.15)))
    low_hz, depth_db = float(log_uniform(rng, *pane.burst_low_hz)), rng.uniform(2, 7)
    gain = ragged(rng, low_hz, rng.uniform(6000, 18000), depth_db)
    noise = shaped_noise(rng, count, sample_rate, gain)
    attack = rises(count, sample_rate, rng.uniform(0.0002, 0.003))
    burst_s = float(log_uniform(rng, *pane.burst_decay_s))
    sound = np.float32(0.4) * noise * attack * decays(count, sample_rate, burst_s)

    spread = float(log_uniform(rng, *pane.spread_s))
    number = int(log_uniform(rng, *pane.fragments))
    cracks = rng.gamma(rng.uniform(0.4, 1.0), spread, number)  # most at once, as cracks race through the pane
    cracks[0] = 0.0
    levels = rng.lognormal(-0.7, 0.7, number) * np.exp(-cracks / (4 * spread))
    landings, landing_levels = _landing(rng, pane, ground)
    starts = np.concatenate([cracks, landings])
    levels = np.concatenate([levels, landing_levels])

    sizes = _groups(rng, sample_rate, pane, ground)
    signs = rng.choice([-1.0, 1.0], len(starts))
    ringing = struck(rng, sample_rate, count, (starts, levels * signs), sizes)
    loudest = float(np.abs(ringing).max())
    sound += np.float32(log_uniform(rng, *pane.ringing) / max(loudest, 1e-9)) * ringing

    hiss_s = float(log_uniform(rng, 0.002, 0.02))
    rain = decays(int(6 * hiss_s * sample_rate), sample_rate, hiss_s)
    splinters = convolved((pulse_train(count, sample_rate, starts, levels), rain))
    spray = float(log_uniform(rng, *pane.spray)) * noise * np.minimum(splinters / 3, 1.0)
    add_at(sound, 0, spray)
    if rng.random() < 0.7:  # the nearest surfaces blur it all
        blur_s = float(log_uniform(rng, 0.02, 0.2))
        blur = hiss(rng, sample_rate, 4 * blur_s, ragged(rng, 150, 9000, 3), blur_s)
        blur *= np.float32(log_uniform(rng, 0.1, 0.9) / np.linalg.norm(blur))
        sound += convolved((sound, blur))
    if ground == "wood":  # boards sound with what falls on them
        late = starts > 3 * spread
        boards = body(rng, sample_rate, number=6, hz=(120, 900), decay_s=(0.01, 0.04), click=0.2)
        thuds = convolved((pulse_train(count, sample_rate, starts[late], levels[late]), boards))
        sound += np.float32(rng.uniform(0.02, 0.2)) * thuds
    return sound


def pane_break(
    rng: np.random.Generator,
    sample_rate: int = SAMPLE_RATE,
    *,
    kind: str | None = None,
    duration_s: float | None = None,
) -> NDArray[np.float32]:
    """Glass that breaks: blow, broadband fracture, crackle, shards that land and bounce, last tinkles.

    Shards fall for sqrt(2h/g) before they land; floors of tile, wood and carpet differ in brightness and
    bounce. A window may hold out against a first blow, a dropped glass may bounce before it breaks, and a
    second pane or piece may follow.

    Something is heard within the first 20 ms.

    Args:
        duration_s: length; 0.6 to 2.5 s if left out.
    """
    name = chosen(rng, kind, PANE_KINDS, "pane", (0.32, 0.12, 0.12, 0.08, 0.16, 0.2))
    pane = _PANES[name]
    length_s = duration_s if duration_s is not None else float(log_uniform(rng, 0.6, 2.5))
    count = int(length_s * sample_rate)
    work = fast_length(count)
    sound = np.zeros(work, np.float32)
    start_s = 0.002
    ring_hz = 6000.0 if name == "dropped_glass" else 1200.0
    if rng.random() < pane.before:
        lead_s = rng.uniform(0.04, 0.3) * min(length_s, 1.0)
        add_at(sound, int(start_s * sample_rate), rng.uniform(0.1, 0.5) * _blow(rng, sample_rate, ring_hz))
        start_s += lead_s
    add_at(sound, int(start_s * sample_rate), rng.uniform(*pane.blow) * _blow(rng, sample_rate, ring_hz))
    start_s += rng.uniform(0.0, 0.015)
    add_at(sound, int(start_s * sample_rate), _break(rng, sample_rate, work, pane))
    if rng.random() < pane.again:
        later = start_s + float(log_uniform(rng, 0.015, 0.4))
        add_at(sound, int(later * sample_rate), rng.uniform(0.3, 1.1) * _break(rng, sample_rate, work, pane))

    tilt = rng.uniform(-0.3, 0.5)
    sound = filtered(sound, sample_rate, lambda hz: (np.maximum(hz, 80) / 3000) ** tilt)[:count]
    ending = np.minimum(np.arange(count)[::-1] / (0.1 * count), 1.0).astype(np.float32)
    return normalize(fade(sound * ending, sample_rate, 0.0002))
