"""Polyphonic sound detection score, by ``sed_scores_eval``.

Bilen et al., "A framework for the robust evaluation of sound event detection", ICASSP 2020; computed over all
thresholds as in Ebbers, Serizel and Haeb-Umbach, "Threshold-independent evaluation of sound event detection
scores", ICASSP 2022. The two scenarios are those of DCASE 2021, task 4.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clap_evaluation.grid import DECIMALS, grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clap_evaluation.scored import ScoredRecording

# The first wants events to be placed in time well, the second labels not to be mistaken for each other.
_SCENARIOS: tuple[tuple[str, dict[str, float]], ...] = (
    ("scenario_1", {"dtc_threshold": 0.7, "gtc_threshold": 0.7, "alpha_ct": 0.0, "alpha_st": 1.0}),
    (
        "scenario_2",
        {
            "dtc_threshold": 0.1,
            "gtc_threshold": 0.1,
            "cttc_threshold": 0.3,
            "alpha_ct": 0.5,
            "alpha_st": 1.0,
        },
    ),
)
_MAX_EFPR_PER_HOUR = 100.0
# An event without a length would be none at all.
_SHORTEST_S = 0.01


@dataclass(frozen=True, slots=True)
class PsdsScenario:
    """One choice of what matters.

    Attributes:
        score: over all labels, 0 to 1.
        labels: by label id, of the label alone.
    """

    score: float
    labels: dict[str, float]


def psds(results: Sequence[ScoredRecording], label_ids: Sequence[str]) -> dict[str, PsdsScenario] | str:
    """Compute the score in both scenarios.

    A row without times is an event as long as its recording.

    Args:
        results: scored recordings.
        label_ids: to judge; those that never occur are left out.

    Returns:
        By scenario, or why there is none, in words.
    """
    if not any(o.onset_s is not None and o.label_id in label_ids for r in results for o in r.occurrences):
        return "no row of the manifest says when a sound starts (onset_s)"
    # What a library has to say about its own code on import is no news for the user.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sed_scores_eval as library
    heard = [label_id for label_id in label_ids if any(result.events(label_id) for result in results)]
    truth = {str(number): _events(result, heard) for number, result in enumerate(results)}
    durations = {str(number): result.duration_s for number, result in enumerate(results)}
    scores = {str(number): _frame(library, result, heard) for number, result in enumerate(results)}
    found = {}
    for name, parameters in _SCENARIOS:
        chosen = dict(parameters)
        if len(heard) == 1:
            # There is nothing that the label could be mistaken for.
            chosen["alpha_ct"] = 0.0
            chosen.pop("cttc_threshold", None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value, single, *_ = library.intersection_based.psds(
                scores=scores,
                ground_truth=truth,
                audio_durations=durations,
                max_efpr=_MAX_EFPR_PER_HOUR,
                time_decimals=DECIMALS,
                **chosen,
            )
        found[name] = PsdsScenario(float(value), {label_id: float(single[label_id]) for label_id in heard})
    return found


def _frame(library: Any, result: ScoredRecording, label_ids: Sequence[str]) -> Any:
    times, scores = grid(result)
    columns = [result.windows.label_ids.index(label_id) for label_id in label_ids]
    create = library.base_modules.scores.create_score_dataframe
    return create(scores[:, columns], times, list(label_ids))


def _events(result: ScoredRecording, label_ids: Sequence[str]) -> list[tuple[float, float, str]]:
    return [
        (
            round(event.onset_s, DECIMALS),
            round(max(event.offset_s, event.onset_s + _SHORTEST_S), DECIMALS),
            label_id,
        )
        for label_id in label_ids
        for event in result.events(label_id)
    ]
