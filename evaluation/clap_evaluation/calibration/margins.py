"""Judges the windows of recordings of which it is known what they hold, to calibrate a model on them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_server.audio.decode import decode
from clap_server.detection.calibration.fit import NEGATIVES_PER_POSITIVE, JudgedMargins
from clap_server.detection.recording import hear
from clap_server.detection.scoring import LabelScorer
from clap_server.errors import AudioError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from clap_evaluation.manifest import Occurrence, Recording
    from clap_server.clap.model import ClapModel
    from clap_server.detection.front import Heard
    from clap_server.detection.labels import Label

# Annotations are not exact and rooms ring: nearer than this to an event is neither with nor without it.
_COLLAR_S = 0.5
# As long as the first extra window waits after an onset: less of a sound is not to be recognised.
_SHORTEST_S = 0.2

# Who writes one of these beside a recording has not said that the others are absent.
_OVERLAPPING = (
    frozenset({"alarm", "smoke_alarm", "carbon_monoxide_alarm", "siren"}),
    frozenset({"fighting_shouting", "scream", "speech"}),
    frozenset({"laughter", "speech"}),
    frozenset({"car_horn", "vehicle"}),
)


@dataclass(frozen=True, slots=True)
class RecordedMargins:
    """What came out of a set of recordings.

    Attributes:
        judged: a margin for each window and label of which it is known whether the label was right.
        recordings: how many could be used.
        windows: of them, in all.
        events: by label id, how often the sound occurs; those that calibrate, in the library's order.
        problems: rows that could not be used, and why.
    """

    judged: JudgedMargins
    recordings: int
    windows: int
    events: dict[str, int]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """The windows of one recording that are all with or all without one label's sound."""

    label_id: str
    present: bool
    margins: NDArray[np.float64]


def recorded_margins(
    model: ClapModel,
    recordings: Sequence[Recording],
    labels: Sequence[Label],
    background: Sequence[str],
    *,
    hop_s: float = 0.5,
    progress: Callable[[], None] | None = None,
) -> RecordedMargins:
    """Judge recordings by the same windows as live sound.

    A label's positives are the windows at least half of which the event fills, or which it fills with at
    least half of its own length; with an onset alone those that hold it and 0.2 s more; without times the
    one window that fits the label best. Its negatives are the windows at least 0.5 s away from every event
    of it, in all recordings; where no end is told, those before the onset; where no times are told, none of
    that recording.

    Each event weighs 1, however many its windows are. All negatives of a label together weigh
    ``NEGATIVES_PER_POSITIVE`` times as much as its events, and each recording has the same share of them, so
    that a long one does not outweigh all.

    Args:
        model: whose margins to use.
        recordings: of the manifest.
        labels: those that may count; one with no positive or no negative recording is left out.
        background: bank of the label library.
        hop_s: seconds between windows.
        progress: called after each recording.

    Raises:
        ConfigurationError: no label has both positives and negatives; the message says what is missing.
    """
    scorer = LabelScorer(model, labels, background)
    parts: list[_Part] = []
    problems: list[str] = []
    used = windows = 0
    for recording in recordings:
        try:
            spans, margins = _judge(model, scorer, recording, hop_s)
        except AudioError as error:
            problems.append(f"Row {recording.row}: {recording.name}: {error}")
        else:
            used += 1
            windows += len(spans)
            for column, label_id in enumerate(scorer.label_ids):
                found, missed = _sort(recording, label_id, spans, margins[:, column])
                parts += found
                problems += missed
        if progress is not None:
            progress()
    positives = Counter(part.label_id for part in parts if part.present)
    negatives = Counter(part.label_id for part in parts if not part.present)
    events = {
        label.id: positives[label.id] for label in labels if positives[label.id] and negatives[label.id]
    }
    if not events:
        kind = "without it, such as one labelled 'negative'" if positives else "with a sound of the labels"
        why = f" {problems[0]}" if problems else ""
        raise ConfigurationError(
            f"Calibration needs recordings with a sound and recordings without it: add one {kind}.{why}"
        )
    chosen = [part for part in parts if part.label_id in events]
    share = {
        label_id: NEGATIVES_PER_POSITIVE * count / negatives[label_id] for label_id, count in events.items()
    }
    weights = [
        np.full(len(part.margins), (1.0 if part.present else share[part.label_id]) / len(part.margins))
        for part in chosen
    ]
    judged = JudgedMargins(
        np.concatenate([part.margins for part in chosen]),
        np.concatenate([np.full(len(part.margins), part.present) for part in chosen]),
        np.concatenate(weights),
    )
    return RecordedMargins(judged, used, windows, events, tuple(problems))


def _judge(
    model: ClapModel, scorer: LabelScorer, recording: Recording, hop_s: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cut and embed a recording.

    Returns:
        ``(w, 2)`` start and end of each window in seconds, and ``(w, labels)`` margins.

    Raises:
        AudioError: it is missing, no audio, or silent.
    """
    if not recording.path.is_file():
        raise AudioError("The file is missing: paths are relative to the manifest.")
    samples = decode(recording.path, model.sample_rate)
    if not samples.any():
        raise AudioError("It holds nothing but silence.")
    heard: list[Heard] = []
    margins: list[NDArray[np.float64]] = []
    # The gate is open while an event goes on, and here it is known to.
    for batch, embeddings in hear(model, [samples], hop_s=hop_s, reporting=bool(recording.label_ids)):
        heard += batch
        margins.append(scorer.margins(embeddings))
    chosen = np.array([admitted for _, admitted in heard])
    # What is too quiet throughout, or too short, is judged by its end alone.
    chosen[-1] |= not chosen.any()
    spans = np.array([(window.start_s, window.end_s) for window, _ in heard])
    return spans[chosen], np.concatenate(margins)[chosen]


def _sort(
    recording: Recording, label_id: str, spans: NDArray[np.float64], margins: NDArray[np.float64]
) -> tuple[list[_Part], list[str]]:
    """Tell which windows of a recording are with and which are without a label's sound."""
    held = [o for o in recording.occurrences if o.label_id == label_id]
    if not held:
        if any(label_id in group and group & recording.label_ids for group in _OVERLAPPING):
            return [], []
        return [_Part(label_id, False, margins)], []
    timed = [o for o in held if o.onset_s is not None or o.offset_s is not None]
    if len(timed) < len(held):
        return [_Part(label_id, True, margins[[margins.argmax()]])], []
    parts: list[_Part] = []
    problems: list[str] = []
    clear = np.ones(len(spans), bool)
    for occurrence in timed:
        inside, outside = _around(occurrence, spans)
        clear &= outside
        if inside.any():
            parts.append(_Part(label_id, True, margins[inside]))
        else:
            problems.append(
                f"Row {occurrence.row}: {recording.name}: no window holds enough of {label_id} at the given "
                f"time: the recording ends at {spans[-1, 1]:.1f} s."
            )
    if clear.any() and not problems:
        parts.append(_Part(label_id, False, margins[clear]))
    return parts, problems


def _around(
    occurrence: Occurrence, spans: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Say for each window whether it holds an event, and whether it is clear of it."""
    starts, ends = spans.T
    onset_s = occurrence.onset_s or 0.0
    offset_s = occurrence.offset_s
    before = ends <= onset_s - _COLLAR_S
    if offset_s is None or offset_s <= onset_s:
        return (starts <= onset_s) & (ends >= onset_s + _SHORTEST_S), before
    overlap = np.minimum(ends, offset_s) - np.maximum(starts, onset_s)
    enough = np.minimum(ends - starts, offset_s - onset_s) / 2
    return overlap >= enough, before | (starts >= offset_s + _COLLAR_S)
