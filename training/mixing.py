"""Batches of augmented windows, mixed from the cached spectrograms.

Sounds of different sources are hardly correlated, so the power of a mixture is the sum of the powers: a batch
is mixed in a few milliseconds, without touching samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from clap_server.clap.builtin.audio_tower import QUIET_SHARE, fill_up
from clap_server.clap.features import mel_filters
from training.concepts import OTHER, load_concepts
from training.data import fold_of
from training.prepare import MELS, SYNTHETIC, Cache, Item

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from training.config import Config

FLOOR_DB = -100.0
CLINKS = ("glass_clink", "dishes", "crockery_break", "cutlery", "keys", "coins")
BEEPS = ("appliance_beep", "phone_ringing", "notification", "bell", "alarm_clock", "reversing_beep")
# What a home does all day besides clinking.
HOUSEHOLD = (
    "cupboard",
    "door_slam",
    "chopping",
    "paper",
    "frying",
    "pouring",
    "water_running",
    "scraping",
    "thud",
    "wood",
    "applause",
    "footsteps",
)
MUSIC = ("music", "cymbals", "singing")
# What must not pass for shouting.
VOICES = ("speech", "babble", "laughter", "crowd", "cough", "sneeze", "animal")
ALARMS = ("alarm", "car_alarm", "smoke_alarm", "carbon_monoxide_alarm", "siren")
SHOUTS = ("fighting_shouting", "scream")
# Their onset must be in the window; of the others any loud part will do.
IMPULSIVE = ("glass_breaking", "explosion_gunshot", "metal_impact", "crockery_break", "door_slam", "thud")
TEACHER_HOP_S, TEACHER_WINDOW_S = 7800 / 16000, 15600 / 16000
_SILENT_SHARE = 0.04
_BACKGROUND_SHARE = 0.6
# A second event in the same window, as loud as the first or nearly.
_OVERLAP_SHARE = 0.1
_SNR_DB = (-5.0, 30.0)
LOUD_DB = 12.0
# A background nearer than this to the event is heard beside it; of a fainter one nothing is said.
HEARD_DB = 12.0
_SYNTHETIC_VALIDATION = 6
# Playing a sound this much faster or slower, and this many mel bins (about a semitone each) higher or lower,
# makes another pane of it.
_TEMPO = (0.8, 1.25)
_SHIFT_BINS = 3
_MASKED_BINS = 8
# Windows in which the sound has only just begun to be heard or is no longer heard: where a stream breaks off.
# A steady sound that is cut off must not pass for a bang.
_BROKEN_SHARE = 0.06
# Those at the start of a stream, shorter than the others.
_BEGUN_SHARE = 0.2
# What must be left of a sound, frames.
_LEAST_FRAMES = 12
# Recorded shouts are short, recorded talk is not: without words that stand alone, any of them is a shout.
_WORD_SHARE = 0.35
_WORD_FRAMES = (20, 90)
_BEFORE_WORD_FRAMES = 15


# Late sound that is added while mixing, besides the simulated rooms that ``prepare`` plays copies in: the
# reverberation time of living rooms to halls, by which factor it is shorter in the treble, and the
# direct-to-reverberant ratio from far to near.
_DECAY_S = (0.15, 1.2)
_TREBLE_FACTOR = (0.4, 1.0)
_DIRECT_TO_REVERBERANT_DB = (-3.0, 15.0)
_FRAME_S = 0.01


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step of training sees.

    Attributes:
        mels: ``(n, frames, 64)`` in dB.
        targets: ``(n, concepts)``: 1 yes, 0 no, -1 unknown.
        teacher: ``(n, classes)`` soft targets.
        taught: ``(n,)`` whether the row of ``teacher`` counts.
        captions: a text for each window; empty if there is none.
        concepts: ``(n,)`` number of the foreground's concept; -1 for silence.
    """

    mels: torch.Tensor
    targets: torch.Tensor
    teacher: torch.Tensor
    taught: torch.Tensor
    captions: list[str]
    concepts: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Window:
    mel: NDArray[np.float32]
    start: int
    anchor: int = 0


def _bandwidths() -> torch.Tensor:
    bank = mel_filters(
        sample_rate=48000, n_fft=1024, n_mels=MELS, fmin_hz=50, fmax_hz=14000, filters="slaney"
    )
    return torch.from_numpy(1.0 / bank.max(axis=0).clip(1e-9)).float()


def _break_off(mel: torch.Tensor, anchor: int, rng: np.random.Generator) -> None:
    """Silence the beginning or the end of a window in place, but not the frame that must be heard."""
    frames = len(mel)
    last = int(rng.integers(min(anchor + _LEAST_FRAMES, frames - 1), frames))
    if rng.random() < 0.5:
        mel[: int(rng.integers(0, max(anchor - 2, 1)))] = FLOOR_DB
    else:
        mel[last:] = FLOOR_DB


def begin_stream(mel: torch.Tensor, anchor: int, rng: np.random.Generator) -> None:
    """Make a window, in place, one of the short ones at the start of a stream (see ``fill_up``).

    Half of them start with the loud part itself: recordings are often cut so.
    """
    frames = len(mel)
    near = rng.random() < 0.5
    first = max(anchor - int(rng.integers(0, 4)), 0) if near else int(rng.integers(0, anchor + 1))
    least = min(anchor - first + _LEAST_FRAMES, frames - first)
    count = int(rng.integers(least, frames - first + 1))
    mel[:count] = mel[first : first + count].clone()
    fill_up(mel, count)


def begin_with(mel: torch.Tensor, anchor: int, rng: np.random.Generator) -> None:
    """Let a window, in place, begin with its loud part; what was before it comes last."""
    mel.copy_(torch.roll(mel, -max(anchor - int(rng.integers(0, 4)), 0), 0))


def add_late_sound(power: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Add the late sound of a room to each spectrogram: its power decays exponentially (Polack, 1988).

    Args:
        power: ``(n, frames, mels)``, linear.
        generator: decides for each how fast the late sound decays (by 60 dB in 0.15 to 1.2 s), how much
            faster in the treble, and how far it is below the sound itself (-3 to 15 dB).

    Returns:
        ``(n, frames, mels)``. The frame of a sound gets none of its own late sound.
    """
    count = len(power)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(count, 1, generator=generator) * (high - low) + low

    low, high = (float(np.log(limit)) for limit in _DECAY_S)
    decay_s = torch.exp(uniform(low, high))
    decay_s = decay_s * (1 + (uniform(*_TREBLE_FACTOR) - 1) * torch.linspace(0, 1, MELS))
    keep = 10 ** (-6.0 * _FRAME_S / decay_s)
    gain = (1 - keep) * 10 ** (-uniform(*_DIRECT_TO_REVERBERANT_DB) / 10)
    late = torch.zeros_like(power)
    ringing = torch.zeros_like(power[:, 0])
    for frame in range(1, power.shape[1]):
        ringing = keep * (ringing + power[:, frame - 1])
        late[:, frame] = ringing
    return power + gain[:, None] * late


def shifted(mel: NDArray[np.float32], bins: int) -> NDArray[np.float32]:
    """Move a spectrogram up or down; what comes in at the end is as loud as the last bin, less 3 dB a bin."""
    if bins == 0:
        return mel
    shifted = np.roll(mel, bins, axis=1)
    fall = -3.0 * np.arange(abs(bins), 0, -1)
    if bins > 0:
        shifted[:, :bins] = mel[:, :1] + fall
    else:
        shifted[:, bins:] = mel[:, -1:] + fall[::-1]
    return shifted


def _part(item: Item, config: Config, held_out: int | None) -> str:
    """Where an item belongs if one fold is held out; what is never trained on stays out of both."""
    if item.label == SYNTHETIC:
        return "validation" if int(item.name.rpartition("/")[2]) % _SYNTHETIC_VALIDATION == 0 else "train"
    fold = fold_of(item.licence, item.source, item.path, config.split)
    if fold == held_out:
        return "validation"
    return "train" if fold is not None else "test"


class Mixer:
    """Draws batches.

    Args:
        cache: of the step ``prepare``.
        config: shares and sizes.
        part: ``train`` or ``validation``.
        data: folder with ``teacher_scores.npz``; without that file nothing is distilled from it.
        held_out: fold that validates; None to train on all folds and validate on what is never trained on.
        synthetic: whether synthesised sounds are among them. What made those that are held out made those of
            the training too, so that they tell little of sounds that nobody has heard.
    """

    def __init__(
        self,
        cache: Cache,
        config: Config,
        part: str,
        data: Path,
        held_out: int | None = None,
        *,
        synthetic: bool = True,
    ) -> None:
        self.cache, self.config = cache, config
        self.concepts = load_concepts()
        self.items = [
            item
            for item in cache.items
            if _part(item, config, held_out) == part and (synthetic or item.label != SYNTHETIC)
        ]
        self._rows = np.array(
            [self.concepts.targets(concept.name) for concept in self.concepts.all], np.float32
        )
        self._groups = self._grouped()
        self._backgrounds = [
            item
            for item in self.items
            if self.concepts.all[self.concepts.index[item.concept]].background
            and item.frames >= config.features.frames
        ]
        self._anchors = {item: self._anchor_frames(item) for item in self.items}
        self._widths = _bandwidths()
        self._weights = (self._widths / self._widths.sum())[None, None]
        path = data / "teacher_scores.npz"
        self._teacher = np.load(path) if path.is_file() else {}
        self.classes = [str(name) for name in self._teacher["__classes__"]] if self._teacher else [""] * 521
        self._scores: dict[str, NDArray[np.float16]] = {
            item.name: self._teacher[item.name] for item in self.items if item.name in self._teacher
        }

    def _grouped(self) -> dict[str, list[tuple[list[Item], float]]]:
        """For each share of the configuration lists of items, each with the weight of its list."""
        by_concept: dict[str, tuple[list[Item], list[Item]]] = {}
        for item in self.items:
            recorded, made = by_concept.setdefault(item.concept, ([], []))
            (made if item.label == SYNTHETIC else recorded).append(item)
        shares = self.config.train.shares
        synthetic = shares["synthetic"]

        def both(names: tuple[str, ...], made_share: float) -> list[tuple[list[Item], float]]:
            lists = []
            for name in names:
                recorded, made = by_concept.get(name, ([], []))
                # The root keeps a concept of one clip from being heard as often as one of a hundred.
                size = len(recorded) ** 0.5 + 1 if len(names) > 1 else 1.0
                lists += [(recorded, (1 - made_share) * size), (made, made_share * size)]
            return [(items, weight) for items, weight in lists if items]

        groups = {
            "glass_breaking": both(("glass_breaking",), synthetic),
            "alarm": both(ALARMS, synthetic),
            "clinks": both(CLINKS, 0.4),
            "beeps": both(BEEPS, 0.4),
            "household": both(HOUSEHOLD, 0.4),
            "music": both(MUSIC, 0.4),
            "voices": both(VOICES, 0.3),
            "fighting_shouting": both(SHOUTS, 0.0),
        }
        taken = {
            "glass_breaking",
            *ALARMS,
            *CLINKS,
            *BEEPS,
            *HOUSEHOLD,
            *MUSIC,
            *VOICES,
            *SHOUTS,
        }
        for name in shares:
            if name not in groups and name != "synthetic":
                made_share = synthetic if name in (*ALARMS, *CLINKS, "explosion_gunshot") else 0.3
                groups[name] = both((name,), made_share)
                if shares[name] > 0:
                    taken.add(name)
        rest: list[tuple[list[Item], float]] = []
        for name, (recorded, made) in by_concept.items():
            if name not in taken:
                items = recorded + made
                rest.append((items, len(items) ** 0.5))
        groups["rest"] = rest
        return {name: lists for name, lists in groups.items() if lists}

    def _anchor_frames(self, item: Item) -> NDArray[np.intp]:
        """Frames of which one has to be in the window."""
        level = self.cache.spectrogram(item).max(axis=1).astype(np.float32)
        if item.concept in IMPULSIVE:
            return np.flatnonzero(level >= level.max() - 6.0)[:3]
        return np.flatnonzero(level >= level.max() - LOUD_DB)

    def _cut(self, item: Item, rng: np.random.Generator, *, anywhere: bool = False) -> _Window:
        frames = self.config.features.frames
        source = self.cache.spectrogram(item)
        if anywhere:
            # A background fills the window: a short one is repeated.
            start = int(rng.integers(0, max(item.frames - frames, 0) + 1))
            rows = np.arange(start, start + frames) % item.frames
            return _Window(source[rows].astype(np.float32), start)
        anchors = self._anchors[item]
        anchor = int(anchors[int(rng.integers(len(anchors)))])
        tempo = float(rng.uniform(*_TEMPO)) if rng.random() < 0.5 else 1.0
        place = int(rng.integers(0, frames - 12))
        rows = anchor + np.rint((np.arange(frames) - place) * tempo).astype(int)
        first, end = 0, item.frames
        if item.concept in (*VOICES, *SHOUTS) and rng.random() < _WORD_SHARE:
            first = max(anchor - int(rng.integers(_BEFORE_WORD_FRAMES)), 0)
            end = min(first + int(rng.integers(*_WORD_FRAMES)), end)
        inside = (rows >= first) & (rows < end)
        heard = source[rows[inside]].astype(np.float32)
        if rng.random() < 0.5:
            heard = shifted(heard, int(rng.integers(-_SHIFT_BINS, _SHIFT_BINS + 1)))
        mel = np.full((frames, MELS), FLOOR_DB, np.float32)
        mel[inside] = heard
        if rng.random() < 0.5:
            # A room is not silent around a sound (see ``fill_up``).
            mel[~inside] = np.quantile(heard, QUIET_SHARE, axis=0)
        return _Window(mel, int(rows[0]), place)

    def _soft_targets(self, item: Item, start: int) -> NDArray[np.float32] | None:
        scores = self._scores.get(item.name)
        if scores is None or not len(scores):
            return None
        begins = np.arange(len(scores)) * TEACHER_HOP_S - start / 100
        overlap = np.minimum(begins + TEACHER_WINDOW_S, self.config.features.window_s) - np.maximum(begins, 0)
        rows = overlap > 0.5 * TEACHER_WINDOW_S
        if not rows.any():
            rows = overlap == overlap.max()
        return np.asarray(scores[rows].max(axis=0), np.float32)

    def _pick(self, rng: np.random.Generator, of: Mapping[str, float]) -> Item:
        names = list(self._groups)
        shares = np.array([of.get(name, 0.0) for name in names])
        if "rest" in names:
            shares[names.index("rest")] = max(1.0 - shares.sum(), 0.05)
        lists = self._groups[names[int(rng.choice(len(names), p=shares / shares.sum()))]]
        weights = np.array([weight for _, weight in lists])
        items = lists[int(rng.choice(len(lists), p=weights / weights.sum()))][0]
        return items[int(rng.integers(len(items)))]

    def draw(self, rng: np.random.Generator, size: int, shares: Mapping[str, float] | None = None) -> Batch:
        """Mix ``size`` windows.

        Args:
            rng: decides everything.
            size: of the batch.
            shares: of the foregrounds; those of the settings if left out.
        """
        of = self.config.train.shares if shares is None else shares
        frames = self.config.features.frames
        front = np.full((size, frames, MELS), FLOOR_DB, np.float32)
        back = np.full((size, frames, MELS), FLOOR_DB, np.float32)
        targets = np.zeros((size, len(self.concepts.all)), np.float32)
        teacher = np.zeros((size, len(self.classes)), np.float32)
        taught = np.zeros(size, np.float32)
        snr = rng.uniform(*_SNR_DB, size).astype(np.float32)
        concepts = np.full(size, -1)
        anchors = np.zeros(size, int)
        captions = [""] * size
        for row in range(size):
            if rng.random() < _SILENT_SHARE:
                targets[row, self.concepts.index["silence"]] = 1.0
                continue
            item = self._pick(rng, of)
            cut = self._cut(item, rng)
            front[row] = cut.mel
            anchors[row] = cut.anchor
            concepts[row] = self.concepts.index[item.concept]
            targets[row] = self._rows[concepts[row]]
            captions[row] = item.caption
            soft = self._soft_targets(item, cut.start)
            if soft is not None:
                teacher[row], taught[row] = soft, 1.0
            kind = rng.random()
            if kind < _OVERLAP_SHARE:
                other = self._pick(rng, of)
                snr[row] = rng.uniform(-3, 15)
                cut = self._cut(other, rng)
            elif kind < _OVERLAP_SHARE + _BACKGROUND_SHARE:
                other = self._backgrounds[int(rng.integers(len(self._backgrounds)))]
                cut = self._cut(other, rng, anywhere=True)
            else:
                continue
            back[row] = cut.mel
            self._add_background(targets[row], other, float(snr[row]))
            soft = self._soft_targets(other, cut.start)
            if soft is not None and snr[row] < HEARD_DB:
                teacher[row] = np.maximum(teacher[row], soft)
        seed = int(rng.integers(2**31))
        mels = self._mix(torch.from_numpy(front), torch.from_numpy(back), torch.from_numpy(snr), seed)
        kinds = rng.random(size)
        for row in np.flatnonzero(kinds < _BROKEN_SHARE + _BEGUN_SHARE).tolist():
            cut_off = begin_stream if kinds[row] < _BEGUN_SHARE else _break_off
            cut_off(mels[row], int(anchors[row]), rng)
        return Batch(
            mels,
            torch.from_numpy(targets),
            torch.from_numpy(teacher),
            torch.from_numpy(taught),
            captions,
            torch.from_numpy(concepts),
        )

    def _add_background(self, targets: NDArray[np.float32], item: Item, snr_db: float) -> None:
        row = self._rows[self.concepts.index[item.concept]]
        if item.concept == OTHER:
            return
        heard = row == 1
        targets[heard & (targets != 1)] = 1.0 if snr_db < HEARD_DB else -1.0
        targets[(row == -1) & (targets == 0)] = -1.0

    def _colour(self, power: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Change the timbre: a tilt and a few broad bumps, as of rooms and microphones."""
        count = len(power)
        tilt = (torch.rand(count, 1, generator=generator) * 14 - 7) * torch.linspace(-1, 1, MELS)
        bumps = torch.nn.functional.interpolate(
            3.0 * torch.randn(count, 1, 7, generator=generator), MELS, mode="linear", align_corners=True
        )[:, 0]
        return power * (10 ** ((tilt + bumps) / 10))[:, None]

    def _level(self, power: torch.Tensor, *, loudest: bool) -> torch.Tensor:
        total = (power * self._weights).sum(2)
        if not loudest:
            return total.mean(1)
        return torch.nn.functional.avg_pool1d(total[:, None], 10, 5)[:, 0].amax(1)

    def _mix(self, front: torch.Tensor, back: torch.Tensor, snr: torch.Tensor, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)

        def uniform(low: float, high: float) -> torch.Tensor:
            return torch.rand(len(front), generator=generator) * (high - low) + low

        def chance(share: float) -> torch.Tensor:
            return torch.rand(len(front), generator=generator) < share

        silence = 10 ** (FLOOR_DB / 10)
        power = self._colour((10 ** (front / 10) - silence).clamp_min(0), generator)
        reverberant = chance(self.config.train.reverberant_share)
        power[reverberant] = add_late_sound(power[reverberant], generator)
        under = self._colour((10 ** (back / 10) - silence).clamp_min(0), generator)
        level = self._level(power, loudest=True)
        quiet = level <= 0
        level = torch.where(quiet, 10 ** uniform(-10, -6), level)
        gain = level / self._level(under, loudest=False).clamp_min(1e-20) * 10 ** (-snr / 10)
        mixed = power + under * gain[:, None, None]
        # The floor of room and microphone: steady noise of some colour; each bin fluctuates the less the
        # wider it is.
        colour = self._colour(torch.ones(len(front), 1, MELS), generator)
        degrees = (self._widths / self._widths[0]).clamp(1, 12)
        grain = torch.exp(torch.randn(mixed.shape, generator=generator) / degrees.sqrt())
        floor = level * 10 ** (-uniform(10, 60) / 10)
        floor = torch.where((chance(0.65) | quiet), floor, torch.zeros_like(floor))
        mixed = mixed + colour * grain * floor[:, None, None]
        decibel = 10 * mixed.clamp_min(1e-20).log10()
        # Cameras sample at 8 or 16 kHz: nothing is left above half of that.
        bins = torch.arange(MELS)
        cut = torch.tensor([41, 54, 54, 60])[torch.randint(0, 4, (len(front),), generator=generator)]
        cut = torch.where(chance(0.45), cut, torch.full_like(cut, MELS))
        above = (bins[None] - cut[:, None]).clamp_min(0)
        decibel = decibel - (above * 20.0).clamp_max(70.0)[:, None]
        low = torch.where(chance(0.3), torch.randint(1, 8, (len(front),), generator=generator), 0)
        below = (low[:, None] - bins[None]).clamp_min(0)
        decibel = decibel - (below * 6.0)[:, None]
        # A band that is missing altogether: no single one may decide.
        first = torch.randint(0, MELS - _MASKED_BINS, (len(front),), generator=generator)[:, None]
        masked = (bins >= first) & (bins < first + _MASKED_BINS) & chance(0.2)[:, None]
        decibel = torch.where(masked[:, None], torch.full_like(decibel, FLOOR_DB), decibel)
        peak = decibel.amax((1, 2))
        wanted = torch.where(quiet, peak.clamp(-100, -60), uniform(-75, 28))
        return (decibel + (wanted - peak)[:, None, None]).clamp_min(FLOOR_DB)
