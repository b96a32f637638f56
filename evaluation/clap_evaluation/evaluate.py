"""Measures a model on recordings of which it is known what they hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from clap_evaluation.conditions import (
    CLIPS_PER_LABEL,
    ConditionMetrics,
    condition_metrics,
    place,
    score_placements,
)
from clap_evaluation.confusion import ConfusionRow, confusion
from clap_evaluation.events import (
    LIMITS_PER_HOUR,
    PER_HOUR,
    EventMetrics,
    OperatingPoint,
    event_curves,
    event_metrics,
    operating_point,
    shared_operating_point,
)
from clap_evaluation.groups import GroupMetrics, group_metrics
from clap_evaluation.metrics import LabelMetrics, label_metrics
from clap_evaluation.psds import PsdsScenario, psds
from clap_evaluation.reading import read_blocks
from clap_evaluation.reliability import Promise, reliability
from clap_evaluation.scored import ScoredRecording, score
from clap_server.audio.denoise import check_denoise
from clap_server.detection.library import NORMAL
from clap_server.detection.scoring import LabelScorer
from clap_server.errors import AudioError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from clap_evaluation.manifest import Recording
    from clap_server.clap.model import ClapModel
    from clap_server.detection.labels import Label

    Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came out for one model.

    Attributes:
        model: its name.
        clips: recordings that were scored.
        duration_s: their length in all.
        labels: clip-level figures of each label.
        events: of the detector with each label's own threshold.
        curves: by label, of the detector with one threshold for all labels, by rising threshold.
        operating_points: for each label and limit of false alarms the best that keeps within it.
        shared: all labels at the one threshold that keeps within one false alarm an hour for each; None if
            there is none.
        groups: how far the clip-level figures depend on the group; labels without groups are left out.
        confusion: what fired on what, with each label's own threshold.
        reliability: by label and threshold, the false alarms that were promised and those that were counted.
        everyday: where the model's promises come from, in words; empty if that is not known.
        psds: by scenario; None if there is none.
        psds_left_out: why, in words; empty if there is one.
        conditions: at signal-to-noise ratios and distances, by label.
        conditions_left_out: why there are none, in words; else empty.
        problems: recordings that could not be used, and why.
        interrupted: whether it was broken off, so that recordings or conditions are missing.
        results: what all was computed from; not part of reports.
    """

    model: str
    clips: int
    duration_s: float
    labels: tuple[LabelMetrics, ...]
    events: tuple[EventMetrics, ...]
    curves: Mapping[str, tuple[EventMetrics, ...]]
    operating_points: tuple[OperatingPoint, ...]
    shared: tuple[EventMetrics, ...] | None
    groups: tuple[GroupMetrics, ...]
    confusion: tuple[ConfusionRow, ...]
    reliability: tuple[Promise, ...]
    everyday: str
    psds: Mapping[str, PsdsScenario] | None
    psds_left_out: str
    conditions: tuple[ConditionMetrics, ...]
    conditions_left_out: str
    problems: tuple[str, ...]
    interrupted: bool
    results: tuple[ScoredRecording, ...] = field(repr=False)


@dataclass(slots=True)
class _Scored:
    """What was scored so far."""

    recordings: list[Recording] = field(default_factory=list)
    results: list[ScoredRecording] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    interrupted: bool = False


def evaluate(
    model: ClapModel,
    recordings: Sequence[Recording],
    labels: Sequence[Label],
    background: Sequence[str],
    *,
    hop_s: float = 0.5,
    conditions: bool = True,
    clips_per_label: int = CLIPS_PER_LABEL,
    denoise: bool = False,
    on_scored: Callable[[ScoredRecording], None] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Play recordings to the detector as live sound and compare with what they hold.

    Interrupted from the keyboard, it returns what is finished.

    Args:
        model: to be measured.
        recordings: of the manifest.
        labels: to be measured.
        background: bank of the label library.
        hop_s: seconds between windows.
        conditions: whether to measure at signal-to-noise ratios and distances too.
        clips_per_label: recordings of each label for that, at most.
        denoise: whether the model hears them through RNNoise; the name of the model says so.
        on_scored: gets each recording as soon as it is scored.
        progress: called with what is being done, how many are done, and of how many.

    Returns:
        The figures. A recording that cannot be used is left out and named in ``problems``.

    Raises:
        ConfigurationError: not one recording could be used, a label cannot be measured, or nothing can be
            denoised here.
        KeyboardInterrupt: before the first recording was scored.
    """
    if denoise:
        check_denoise()
    if any(label.id == NORMAL.id for label in labels):
        raise ConfigurationError(
            f"{NORMAL.id!r} cannot be measured, as it is what other labels leave: name the others."
        )
    scorer = LabelScorer(model, labels, background)
    scored = _score_all(
        model, scorer, recordings, hop_s=hop_s, denoise=denoise, on_scored=on_scored, progress=progress
    )
    if not scored.results:
        if scored.interrupted:
            raise KeyboardInterrupt
        raise ConfigurationError(f"No recording could be used. {scored.problems[0]}")
    found: tuple[ConditionMetrics, ...] = ()
    left_out = _no_conditions(scored, labels, wanted=conditions)
    if not left_out:
        placements = place(scored.recordings, [label.id for label in labels], clips_per_label=clips_per_label)
        done = iter(range(len(placements)))

        def advance() -> None:
            if progress is not None:
                progress("noise and distance", next(done), len(placements))

        try:
            placed = score_placements(
                model, placements, labels, background, hop_s=hop_s, denoise=denoise, progress=advance
            )
        except KeyboardInterrupt:
            scored.interrupted = True
            left_out = "interrupted"
        else:
            found = condition_metrics(placed, labels)
            # Where there are figures, this is not looked at.
            left_out = "no background could be used"
    return summarise(
        f"{model.name}, denoised" if denoise else model.name,
        scored.results,
        labels,
        conditions=found,
        conditions_left_out=left_out,
        problems=scored.problems,
        interrupted=scored.interrupted,
        everyday="" if model.everyday is None else model.everyday.sources,
    )


def _no_conditions(scored: _Scored, labels: Sequence[Label], *, wanted: bool) -> str:
    """Why noise and distance cannot be measured; empty if they can."""
    if not wanted:
        return "not asked for"
    if scored.interrupted:
        return "interrupted"
    ids = {label.id for label in labels}
    if not any(ids & recording.label_ids for recording in scored.recordings):
        return "no recording holds one of the labels"
    if all(recording.label_ids for recording in scored.recordings):
        return "no recording is negative, so there is no background to place sounds in"
    return ""


def _score_all(
    model: ClapModel,
    scorer: LabelScorer,
    recordings: Sequence[Recording],
    *,
    hop_s: float,
    denoise: bool,
    on_scored: Callable[[ScoredRecording], None] | None,
    progress: Progress | None,
) -> _Scored:
    scored = _Scored()
    try:
        for number, recording in enumerate(recordings):
            if progress is not None:
                progress("recordings", number, len(recordings))
            try:
                blocks = read_blocks(recording.path, model.sample_rate)
                result = score(
                    model,
                    scorer,
                    blocks,
                    recording.occurrences,
                    name=recording.name,
                    hop_s=hop_s,
                    denoise=denoise,
                )
            except AudioError as error:
                scored.problems.append(f"Row {recording.row}: {recording.name}: {error}")
                continue
            if on_scored is not None:
                on_scored(result)
            scored.recordings.append(recording)
            scored.results.append(result)
    except KeyboardInterrupt:
        scored.interrupted = True
    return scored


def summarise(
    model: str,
    results: Sequence[ScoredRecording],
    labels: Sequence[Label],
    *,
    conditions: Sequence[ConditionMetrics] = (),
    conditions_left_out: str = "not asked for",
    problems: Sequence[str] = (),
    interrupted: bool = False,
    everyday: str = "",
) -> Evaluation:
    """Compute all figures from scored recordings.

    They may come from several models, such as those of a cross-validation that each scored what they had not
    seen.

    Args:
        model: a name for the report.
        results: one or more.
        labels: to be measured; all must be among the scored.
        conditions: figures in noise and from afar, if there are any.
        conditions_left_out: why there are none.
        problems: recordings that could not be used.
        interrupted: whether it was broken off.
        everyday: what the model's bank of everyday sound was made from.
    """
    ids = [label.id for label in labels]
    curves = event_curves(results, labels)
    judged = psds(results, ids)
    return Evaluation(
        model,
        len(results),
        sum(result.duration_s for result in results),
        tuple(_clip_level(results, label) for label in labels),
        event_metrics(results, labels),
        curves,
        tuple(operating_point(curve, limit) for curve in curves.values() for limit in LIMITS_PER_HOUR),
        shared_operating_point(curves, PER_HOUR),
        tuple(found for label_id in ids if (found := group_metrics(results, label_id)) is not None),
        confusion(results, labels),
        reliability(results, labels),
        everyday,
        None if isinstance(judged, str) else judged,
        judged if isinstance(judged, str) else "",
        tuple(conditions),
        "" if conditions else conditions_left_out,
        tuple(problems),
        interrupted,
        tuple(results),
    )


def _clip_level(results: Sequence[ScoredRecording], label: Label) -> LabelMetrics:
    return label_metrics(
        label.id,
        label.threshold,
        np.array([label.id in result.label_ids for result in results]),
        np.array([result.windows.column(label.id).max() for result in results], np.float32),
    )
