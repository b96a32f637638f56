"""What thresholds find: for each event the highest score that the rules of live sound would have passed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from clap_evaluation.events import COLLAR_S
from clap_evaluation.manifest import NEGATIVE
from clap_server.detection.everyday.evidence import evidence
from clap_server.detection.library import load_library
from training.concepts import load_concepts
from training.writing import replace_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from clap_evaluation.manifest import Occurrence
    from clap_evaluation.scored import ScoredRecording
    from clap_server.detection.labels import Label
    from training.data import Recording

FILE = "found.json"

_DIGITS = 3


class Found(TypedDict):
    """How the events of one label were heard.

    Attributes:
        events: how many there were.
        scores: rising, of those that any threshold would have found: at most as many.
    """

    events: int
    scores: list[float]


def found(results: Iterable[ScoredRecording], labels: Sequence[Label]) -> dict[str, Found]:
    """For each event of each label find the highest threshold with which it would have been found.

    An event counts as found from a little before its onset until a window after its end, as in
    ``clap_evaluation.events``. Decoded patterns, which no threshold decides, are left out.

    Args:
        results: recordings by models that never heard them, scored for all the labels.
        labels: to tell of.

    Returns:
        By label id; labels without events are left out.

    Raises:
        ValueError: a label was not scored.
    """
    results = list(results)
    told: dict[str, Found] = {}
    for label in labels:
        reached = [value for result in results for value in _reached(result, label)]
        if reached:
            scores = sorted(round(value, _DIGITS) for value in reached if np.isfinite(value))
            told[label.id] = {"events": len(reached), "scores": scores}
    return told


def _reached(result: ScoredRecording, label: Label) -> Iterator[float]:
    """The highest evidence in each event of a recording; minus infinity where nothing could start."""
    events = result.events(label.id)
    if not events:
        return
    windows = result.windows
    ends_s = windows.ends_s[windows.admitted]
    scores = windows.column(label.id)[windows.admitted].astype(np.float64)
    one = np.zeros(len(ends_s), np.intp)
    decided = evidence(scores, ends_s, one, label.kind, hop_s=windows.hop_s)
    for event in events:
        inside = (ends_s >= event.onset_s - COLLAR_S) & (ends_s <= event.offset_s + windows.window_s)
        yield float(decided[inside].max(initial=-np.inf))


def with_all_labels(
    results: Iterable[ScoredRecording], recordings: Iterable[Recording]
) -> list[ScoredRecording]:
    """Say of whole recordings all labels of the library that they surely hold, also those not judged on.

    Args:
        results: each named after its file.
        recordings: of the manifest; all that were scored.
    """
    holds = {row.file: _sure_labels(row) for row in recordings}
    return [replace(result, occurrences=_whole(result, holds[result.name])) for result in results]


def _whole(result: ScoredRecording, label_ids: set[str]) -> tuple[Occurrence, ...]:
    nothing = replace(result.occurrences[0], label_id=None, onset_s=None, offset_s=None)
    return tuple(replace(nothing, label_id=label_id) for label_id in sorted(label_ids)) or (nothing,)


def _sure_labels(row: Recording) -> set[str]:
    concepts, library = load_concepts(), load_library()
    concept = concepts.of_recording(row)
    targets = dict(zip(concepts.index, concepts.targets(concept), strict=True)) if concept else {}
    shown = {label.id for label in library.described if targets.get(label.id) == 1}
    return shown if row.label == NEGATIVE else shown | {row.label}


def write_found(told: Mapping[str, Found], path: Path) -> None:
    """Write it as the package reads it."""
    replace_text(path, json.dumps(told) + "\n")
