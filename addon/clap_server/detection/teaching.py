"""From a few clips of a sound to a label, or to words for what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clap_server.detection.everyday.evidence import evidence
from clap_server.detection.everyday.rate import SCORE_OF_ONE_A_DAY
from clap_server.detection.everyday.space import EverydaySpace, normalised
from clap_server.detection.examples import Examples, made_for
from clap_server.detection.labels import Label, LabelKind
from clap_server.detection.recording import hear
from clap_server.detection.scoring import LabelScorer
from clap_server.detection.separation import Separation, Verdict
from clap_server.errors import ClapServerError, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clap_server.clap.everyday import EverydayBank
    from clap_server.clap.model import ClapModel
    from clap_server.detection.library import LabelLibrary

LEAST_CLIPS = 3
MOST_CLIPS = 20
SHORTEST_S = 0.2
LONGEST_S = 15.0
SUSTAINED_S = 4.0
"""Sounds of which the median is at least so long are taken for one that lasts."""

MOST_WINDOWS = 6
"""Windows of a clip that are kept as examples."""

SCORE_OF_ONE_AN_HOUR = 0.5

_SILENT_DBFS = -70.0
# Windows this much under the clip's loudest moment miss most of the sound.
_NEARLY_LOUDEST_DB = 6.0
# Cosine of what two clips sound like at their loudest; two recordings of one sound stay below.
_THE_SAME = 0.998
# A clip of which everyday sound comes so near to the others every few minutes is not of their kind.
_UNLIKE_SCORE = 0.35
# Of the clips: if no more are found even at one false alarm an hour, either everyday sound is like them all,
# or they are not like each other.
_HARDLY_ANY = 0.2
# See ``_strangeness``. With the built-in model 95 of 100 draws of five recordings of one of nine classes, by
# different people, had 0.17 or less (shouting 0.42), and 95 of 100 of five of as many classes 0.24 or more.
_OF_NO_ONE_KIND = 0.2
# As taught sounds are compared.
_WHITENING = 0.5
_HOP_S = 0.5


class TeachingError(ClapServerError):
    """Clips from which a sound cannot be learnt.

    Attributes:
        code: stable name of what is wrong.
        clip: number of the clip that is, from 0; None if it is not a single one.
    """

    def __init__(self, code: str, message: str, clip: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.clip = clip


class HeardClip(NamedTuple):
    """A clip as the model hears it.

    Attributes:
        duration_s: of the clip.
        embeddings: ``(n, dimension)`` of the windows that live sound would be scored by.
        ends_s: ``(n,)`` their ends, seconds.
        examples: ``(1 to MOST_WINDOWS, dimension)`` of those that hold its loudest moment.
    """

    duration_s: float
    embeddings: NDArray[np.float32]
    ends_s: NDArray[np.float64]
    examples: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Lesson:
    """What clips taught.

    Attributes:
        label: that any microphone can listen for.
        separation: how well it is told from everyday sound.
    """

    label: Label
    separation: Separation


def hear_clip(model: ClapModel, samples: NDArray[np.float32], number: int, name: str) -> HeardClip:
    """Hear a clip as a microphone would, in its own quiet. Blocks.

    Args:
        model: hears it.
        samples: ``(n,)`` mono at the model's rate, full scale -1..1.
        number: of the clip, from 0.
        name: what the user knows it by.

    Raises:
        TeachingError: it is silent, too short or too long.
        ModelError: the model failed.
    """
    duration_s = len(samples) / model.sample_rate
    if duration_s < SHORTEST_S:
        raise TeachingError(
            "clip_too_short",
            f"{name} lasts {duration_s:.2f} s: use clips of {SHORTEST_S:g} s or more",
            number,
        )
    if duration_s > LONGEST_S:
        raise TeachingError(
            "clip_too_long", f"{name} lasts {duration_s:.0f} s: cut it to {LONGEST_S:g} s or less", number
        )
    windows, rows = [], []
    for batch, embeddings in hear(model, [samples], hop_s=_HOP_S, tail_s=1.0):
        windows += batch
        rows.append(embeddings)
    levels = np.array([heard.window.level_dbfs for heard in windows])
    if levels.max() < _SILENT_DBFS:
        raise TeachingError("silent_clip", f"{name} is silent: record it again, louder or nearer", number)
    admitted = np.array([heard.admitted for heard in windows])
    # Of a clip that begins and ends within the sound the gate may think that it is the room.
    kept = admitted if admitted.any() else np.ones(len(windows), bool)
    embedded = np.concatenate(rows)
    loud = np.flatnonzero(kept & (levels >= levels[kept].max() - _NEARLY_LOUDEST_DB))
    spread = loud[np.linspace(0, len(loud) - 1, min(len(loud), MOST_WINDOWS)).round().astype(int)]
    ends_s = np.array([heard.window.end_s for heard in windows])
    return HeardClip(duration_s, embedded[kept], ends_s[kept], embedded[spread])


def kind_of(lengths_s: Sequence[float]) -> LabelKind:
    """What the sound's lengths say of how it behaves in time."""
    return LabelKind.SUSTAINED if np.median(lengths_s) >= SUSTAINED_S else LabelKind.IMPULSIVE


def length_of_event(event_s: float, window_s: float) -> float:
    """How long an event's sound lasted: the event goes on until the last window that holds some of it."""
    return max(event_s - window_s, 0.0)


def teach(
    model: ClapModel,
    library: LabelLibrary,
    words: Label,
    clips: Sequence[HeardClip],
    names: Sequence[str],
) -> Lesson:
    """Learn a sound, and find out how well it is told from everyday sound. Blocks.

    Args:
        model: that heard the clips; has its bank of everyday sound.
        library: has the background.
        words: a label of the sound's name, with its kind.
        clips: from which to learn.
        names: of the clips, as the user knows them.

    Raises:
        TeachingError: there are too few or too many, they are all alike, or one or all are unlike the others.
        ModelError: the model failed, or has no bank yet.
    """
    check_number(len(clips))
    _check_different(clips)
    if model.everyday is None:
        raise ModelError("the model has not heard everyday sound yet: try again when it has")
    examples = Examples.of(made_for(model), [clip.examples for clip in clips])
    label = replace(words, taught=examples)
    scores = [
        _score(model, library, replace(label, taught=examples.without(number)), clip)
        for number, clip in enumerate(clips)
    ]
    alike = [score for score in scores if score >= SCORE_OF_ONE_AN_HOUR]
    if len(alike) <= _HARDLY_ANY * len(clips) and _strangeness(model.everyday, clips) >= _OF_NO_ONE_KIND:
        raise TeachingError(
            "clips_of_no_one_kind",
            f"the clips are not of one kind: {len(alike) or 'none'} of {len(clips)} would be found by what"
            " the others teach, and much of everyday sound is more like each than the others are. Teach one"
            " thing, as it sounds where it is to be heard, and other things as sounds of their own",
        )
    strange = [number for number, score in enumerate(scores) if score < _UNLIKE_SCORE]
    if len(strange) == 1 and len(alike) == len(clips) - 1 and len(clips) > LEAST_CLIPS:
        raise TeachingError(
            "unlike_clip",
            f"{names[strange[0]]} sounds unlike the others, no more like them than everyday sound does: leave"
            " it out, or teach it as a sound of its own",
            strange[0],
        )
    separation = Separation(len(clips), sum(score >= SCORE_OF_ONE_A_DAY for score in scores), len(alike))
    threshold, because = default_threshold(separation), lowered_because(separation)
    return Lesson(replace(label, threshold=threshold, lowered_because=because), separation)


def default_threshold(separation: Separation) -> float:
    """One false alarm a day if it is found even so, else one an hour: no default finds nothing."""
    return SCORE_OF_ONE_A_DAY if separation.verdict is Verdict.GOOD else SCORE_OF_ONE_AN_HOUR


def lowered_because(separation: Separation) -> str | None:
    """Why the default threshold is not one false alarm a day; None if it is."""
    if default_threshold(separation) == SCORE_OF_ONE_A_DAY:
        return None
    found = f"only {separation.found_at_one_a_day}" if separation.found_at_one_a_day else "none"
    return (
        f"lowered to {SCORE_OF_ONE_AN_HOUR:g} because at {SCORE_OF_ONE_A_DAY:g}, one false alarm a day,"
        f" {found} of its {separation.clips} clips would be found"
    )


def check_number(count: int) -> None:
    """Refuse too few clips or too many.

    Raises:
        TeachingError: they are.
    """
    if count < LEAST_CLIPS:
        raise TeachingError(
            "too_few_clips", f"{count} clips are too few: use {LEAST_CLIPS} or more, better 5 to 10"
        )
    if count > MOST_CLIPS:
        raise TeachingError("too_many_clips", f"{count} clips are too many: use {MOST_CLIPS} at most")


def _check_different(clips: Sequence[HeardClip]) -> None:
    """What is sent again teaches nothing, and would make it seem that the sound is always the same."""
    different: list[NDArray[np.float32]] = []
    for clip in clips:
        centre = clip.examples.mean(axis=0)
        centre /= np.linalg.norm(centre)
        if all(float(centre @ other) < _THE_SAME for other in different):
            different.append(centre)
    if len(different) < LEAST_CLIPS:
        raise TeachingError(
            "clips_alike",
            f"the clips are all alike, there are only {len(different)} different ones: record the sound"
            f" {LEAST_CLIPS} times or more, as it comes",
        )


def _strangeness(bank: EverydayBank, clips: Sequence[HeardClip]) -> float:
    """How unlike each other clips are, 0 to 1.

    The share of everyday windows that are more like a clip than another clip is, the median of all pairs,
    among the principal components of everyday sound. What has nothing to do with each other has 0.5, what is
    the same 0, whether everyday sound is like it too or not.
    """
    space = EverydaySpace(bank, whitening=_WHITENING)
    everyday = normalised(space.everyday())
    placed = normalised(
        np.stack([normalised(space.project(clip.examples)).mean(axis=0) for clip in clips]).astype(np.float32)
    )
    likeness = placed @ placed.T
    nearer = [
        np.mean(everyday @ placed[one] > likeness[one, other])
        for one in range(len(clips))
        for other in range(len(clips))
        if one != other
    ]
    return float(np.median(nearer))


def _score(model: ClapModel, library: LabelLibrary, label: Label, clip: HeardClip) -> float:
    """The highest threshold at which the event rule would find a clip."""
    values = LabelScorer(model, [label], library.background).scores(clip.embeddings)[:, 0].astype(np.float64)
    same = np.zeros(len(values), np.intp)
    return float(evidence(values, clip.ends_s, same, label.kind, hop_s=_HOP_S).max())
