"""How well labels are heard over other sounds and from afar.

Recordings with a label are placed in backgrounds cut from the manifest's own negatives:

- at a signal-to-noise ratio: the loudest 0.1 s of the sound over the mean level of the background;
- at a distance ``d``, in a room: the direct sound falls by 6 dB when the distance doubles (inverse square
  law) while the reverberant field stays, so that direct over reverberant energy is ``20 log10(d_c / d)`` with
  the critical distance ``d_c = 0.057 sqrt(V / T60)`` (Kuttruff, Room Acoustics). The level as a whole falls
  with the direct sound, from ``NEAR_SNR_DB`` at 1 m: a little strict, as the reverberant field helps.

Which recordings, which backgrounds and which rooms is drawn from a fixed seed and at one sample rate, so
that each model gets the very same sounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import soxr

from clap_evaluation.events import event_metrics
from clap_evaluation.manifest import Occurrence
from clap_evaluation.reading import read_blocks
from clap_evaluation.scored import SoundStart, score
from clap_server.detection.scoring import LabelScorer
from clap_server.errors import AudioError
from clap_server.synthesis import SAMPLE_RATE, mix_at, reverberate
from clap_server.synthesis.signal import fade

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clap_evaluation.events import EventMetrics
    from clap_evaluation.manifest import Recording
    from clap_evaluation.scored import ScoredRecording
    from clap_server.clap.model import ClapModel
    from clap_server.detection.labels import Label

CLIPS_PER_LABEL = 30
"""Recordings of each label that are placed in each condition, so that it is done in minutes."""

SNRS_DB = (20.0, 10.0, 0.0)
DISTANCES_M = (2.0, 5.0, 8.0)
CLEAN_SNR_DB = 50.0
"""Nobody hears the background then; digital silence in its place would make the sound's own noise a crash."""
NEAR_SNR_DB = 25.0
"""Of a sound at 1 m."""

_VOLUME_M3 = 100.0
_DECAY_S = 0.4
CRITICAL_DISTANCE_M = 0.057 * (_VOLUME_M3 / _DECAY_S) ** 0.5
"""0.9 m in a living room of 100 m³ with furniture."""

_SEED = 20261123
_BEFORE_S = 2.0
_AFTER_S = 1.5
_LONGEST_SOUND_S = 4.0
_LEAD_S = 0.3
# A longer background is not searched further, as it would have to be decoded up to there.
_SEARCHED_S = 120.0


@dataclass(frozen=True, slots=True)
class Condition:
    """How a sound reaches the microphone: over a background, and from how far.

    Attributes:
        name: for people: ``10 dB``, ``5 m``.
        snr_db: loudest 0.1 s of the sound over the mean of the background.
        distance_m: None for a dry sound.
    """

    name: str
    snr_db: float
    distance_m: float | None


CONDITIONS = (
    Condition("clean", CLEAN_SNR_DB, None),
    *(Condition(f"{snr_db:g} dB", snr_db, None) for snr_db in SNRS_DB),
    *(
        Condition(f"{distance:g} m", NEAR_SNR_DB - 20 * float(np.log10(distance)), distance)
        for distance in DISTANCES_M
    ),
)
TIMED_CONDITIONS = CONDITIONS[:2]
"""Of which the delay is told: the sound as it is, and within a faint background."""


@dataclass(frozen=True, slots=True)
class ConditionMetrics:
    """How a label is detected in a condition, at its threshold; see ``EventMetrics`` for the figures.

    Attributes:
        label_id: whose.
        condition: its name.
        clips: sounds that were placed.
        hits: of them that were detected.
        recall: share of them.
        recall_low: lower end of its 95 % interval.
        recall_high: upper end.
        delay_median_s: from the onset to the decision; None without hits.
        delay_p95_s: 95th percentile.
    """

    label_id: str
    condition: str
    clips: int
    hits: int
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    delay_median_s: float | None
    delay_p95_s: float | None


@dataclass(frozen=True, slots=True)
class PlacedSound:
    """A sound and the background that it is placed in, at ``SAMPLE_RATE``.

    Attributes:
        sound: ``(n,)``.
        starts_s: where in the sound it really begins.
        background: ``(m,)`` longer than the sound.
    """

    sound: NDArray[np.float32]
    starts_s: float
    background: NDArray[np.float32]

    @property
    def onset_s(self) -> float:
        """Where it begins in the background."""
        return _BEFORE_S + self.starts_s

    @property
    def offset_s(self) -> float:
        """Where it ends there, but for its echo."""
        return _BEFORE_S + len(self.sound) / SAMPLE_RATE

    def heard(self, condition: Condition, rng: np.random.Generator) -> NDArray[np.float32]:
        """``(m,)`` what the microphone hears; ``rng`` gives the room."""
        sound = self.sound
        if condition.distance_m is not None:
            echo = np.zeros(round(_DECAY_S * SAMPLE_RATE), np.float32)
            ratio_db = 20 * float(np.log10(CRITICAL_DISTANCE_M / condition.distance_m))
            sound = reverberate(
                np.concatenate((sound, echo)), rng, decay_s=_DECAY_S, direct_to_reverberant_db=ratio_db
            )
        return mix_at(self.background, sound, _BEFORE_S, condition.snr_db)


@dataclass(frozen=True, slots=True)
class Placement:
    """What is to be placed where.

    Attributes:
        label_id: what the sound is.
        recording: that holds it.
        negatives: that the background is cut from.
        seed: draws background and room.
    """

    label_id: str
    recording: Recording
    negatives: tuple[Path, ...]
    seed: tuple[int, ...]

    def make(self) -> PlacedSound:
        """Read the recordings.

        Raises:
            AudioError: they cannot be read, or no negative has any sound.
        """
        sound, starts_s = _sound(self.recording, self.label_id)
        length_s = _BEFORE_S + len(sound) / SAMPLE_RATE + _AFTER_S
        background = _background(self.negatives, np.random.default_rng(self.seed), length_s)
        return PlacedSound(sound, starts_s, background)


def place(
    recordings: Sequence[Recording], label_ids: Sequence[str], *, clips_per_label: int = CLIPS_PER_LABEL
) -> list[Placement]:
    """Choose sounds and backgrounds; the same for the same recordings.

    Args:
        recordings: of the manifest.
        label_ids: that are to be placed.
        clips_per_label: at most so many recordings of each.

    Returns:
        By label; nothing for a label without recordings, and nothing at all without negatives.
    """
    negatives = tuple(recording.path for recording in recordings if not recording.label_ids)
    if not negatives:
        return []
    placements: list[Placement] = []
    for label_id in label_ids:
        held = [recording for recording in recordings if label_id in recording.label_ids]
        # By the label's name, so that the choice does not depend on the other labels.
        key = (_SEED, *label_id.encode())
        order = np.random.default_rng(key).permutation(len(held))[:clips_per_label]
        placements += [
            Placement(label_id, held[index], negatives, (*key, number)) for number, index in enumerate(order)
        ]
    return placements


def _sound(recording: Recording, label_id: str) -> tuple[NDArray[np.float32], float]:
    """The first sound of a label in a recording, and where in it the sound begins."""
    rows = [row for row in recording.occurrences if row.label_id == label_id]
    row = min(rows, key=lambda row: row.onset_s or 0.0)
    if row.onset_s is not None:
        length_s = _LONGEST_SOUND_S if row.offset_s is None else row.offset_s - row.onset_s
        return _cut(recording.path, row.onset_s, min(length_s, _LONGEST_SOUND_S)), 0.0
    # So far only; a sound that is stronger later on is none that a clip without times is about.
    samples = _cut(recording.path, 0.0, _SEARCHED_S)
    start = SoundStart(SAMPLE_RATE)
    start.feed(samples)
    onset_s = start.onset_s if start.onset_s is not None else start.strong_s or 0.0
    first_s = max(0.0, onset_s - _LEAD_S)
    first = round(first_s * SAMPLE_RATE)
    return samples[first : first + round(_LONGEST_SOUND_S * SAMPLE_RATE)], onset_s - first_s


def _cut(path: Path, start_s: float, length_s: float) -> NDArray[np.float32]:
    """Decode a part of a recording, and no more than has to be."""
    first, last = round(start_s * SAMPLE_RATE), round((start_s + length_s) * SAMPLE_RATE)
    parts, position = [], 0
    for block in read_blocks(path, SAMPLE_RATE):
        part = block[max(0, first - position) : max(0, last - position)]
        if len(part):
            parts.append(part)
        position += len(block)
        if position >= last:
            break
    if not parts:
        raise AudioError(f"{path.name} has nothing at {start_s:g} s.")
    return np.concatenate(parts)


def _background(negatives: Sequence[Path], rng: np.random.Generator, length_s: float) -> NDArray[np.float32]:
    """A stretch of one negative; of several, joined, where they are short."""
    wanted = round(length_s * SAMPLE_RATE)
    parts: list[NDArray[np.float32]] = []
    # Silent or unreadable recordings do not count, and must not keep this going for ever.
    for index in rng.permutation(len(negatives)):
        try:
            samples = _cut(negatives[index], 0.0, _SEARCHED_S)
        except AudioError:
            continue
        if not samples.any():
            continue
        start = int(rng.integers(max(1, len(samples) - wanted + 1)))
        parts.append(fade(samples[start : start + wanted], SAMPLE_RATE))
        if sum(map(len, parts)) >= wanted:
            break
    if not parts:
        raise AudioError("no negative recording has any sound")
    # Where all of them together are too short, they come again.
    return np.resize(np.concatenate(parts), wanted)


def score_placements(
    model: ClapModel,
    placements: Sequence[Placement],
    labels: Sequence[Label],
    background: Sequence[str],
    *,
    hop_s: float = 0.5,
    denoise: bool = False,
    progress: Callable[[], None] | None = None,
) -> dict[tuple[str, str], list[ScoredRecording]]:
    """Score the placements in every condition.

    Args:
        model: to be measured.
        placements: of ``place``.
        labels: to be measured.
        background: bank of the label library.
        hop_s: seconds between windows.
        denoise: whether the model hears them through RNNoise.
        progress: called before each placement.

    Returns:
        For each label's id and each condition's name what was scored; labels without a placement are left
        out.
    """
    scorer = LabelScorer(model, labels, background)
    scored: dict[tuple[str, str], list[ScoredRecording]] = {}
    for placement in placements:
        if progress is not None:
            progress()
        try:
            placed = placement.make()
        except AudioError:
            # Recordings that cannot be read are told of elsewhere.
            continue
        for condition in CONDITIONS:
            samples = placed.heard(condition, np.random.default_rng(placement.seed))
            if model.sample_rate != SAMPLE_RATE:
                samples = soxr.resample(samples, SAMPLE_RATE, model.sample_rate)
            occurrence = Occurrence(0, placement.label_id, placed.onset_s, placed.offset_s, "")
            result = score(model, scorer, [samples], [occurrence], hop_s=hop_s, denoise=denoise)
            scored.setdefault((placement.label_id, condition.name), []).append(result)
    return scored


def condition_metrics(
    scored: Mapping[tuple[str, str], Sequence[ScoredRecording]], labels: Sequence[Label]
) -> tuple[ConditionMetrics, ...]:
    """What the detector finds in every condition, each label at its threshold.

    Args:
        scored: of ``score_placements``.
        labels: to be told of.

    Returns:
        By label, then by condition; labels without a placement are left out.
    """
    return tuple(
        _metrics(condition, event_metrics(scored[label.id, condition.name], [label])[0])
        for label in labels
        for condition in CONDITIONS
        if (label.id, condition.name) in scored
    )


def _metrics(condition: Condition, found: EventMetrics) -> ConditionMetrics:
    return ConditionMetrics(
        found.label_id,
        condition.name,
        found.events,
        found.hits,
        found.recall,
        found.recall_low,
        found.recall_high,
        found.delay_median_s,
        found.delay_p95_s,
    )
