"""Step ``report``: what cross-validation found, as a table and as JSON."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import roc_auc_score

from clap_evaluation.conditions import (
    CONDITIONS,
    TIMED_CONDITIONS,
    ConditionMetrics,
    condition_metrics,
)
from clap_evaluation.evaluate import summarise
from clap_evaluation.events import (
    PER_HOUR,
    event_curves,
    event_metrics,
    operating_point,
    shared_operating_point,
)
from clap_evaluation.plots import write_plots
from clap_server.detection.library import load_library
from training.concepts import load_concepts
from training.crossvalidate import CLEAN, HOMES, LABELS, PLACED, SCORES, STRANGE, results_of_folds
from training.data import read_recordings
from training.found import FILE as FOUND
from training.found import found, with_all_labels, write_found
from training.rates import rates, rates_as_markdown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from clap_evaluation.scored import ScoredRecording
    from training.config import Config

# What YAMNet, whose scores come with the recordings, calls the labels: the best of these classes counts.
YAMNET_CLASSES: dict[str, tuple[str, ...]] = {
    "glass_breaking": ("Glass", "Shatter"),
    "alarm": (
        "Alarm",
        "Siren",
        "Civil defense siren",
        "Police car (siren)",
        "Ambulance (siren)",
        "Fire engine, fire truck (siren)",
        "Smoke detector, smoke alarm",
        "Fire alarm",
        "Car alarm",
        "Alarm clock",
        "Buzzer",
    ),
    "explosion_gunshot": ("Explosion", "Gunshot, gunfire", "Machine gun", "Fusillade", "Artillery fire"),
    "fighting_shouting": ("Shout", "Bellow", "Yell", "Screaming"),
    "dog_bark": ("Dog", "Bark", "Yip", "Bow-wow"),
    "baby_cry": ("Baby cry, infant cry",),
    "doorbell": ("Doorbell", "Ding-dong"),
    "door_knock": ("Knock",),
}


_HEADER = (
    "| label | events | ROC AUC, pooled | mean ± spread of the folds | pooled, sure ones | YAMNet"
    " | recall at own threshold | false alarms an hour (95 %) | recall at ≤ 1 an hour"
    " | onset to detection, median / p95 |"
)


def area(present: Sequence[bool], scores: Sequence[float]) -> float | None:
    """ROC AUC; None if one kind is missing."""
    return float(roc_auc_score(present, scores)) if any(present) and not all(present) else None


def _areas(results: Sequence[ScoredRecording], label_id: str) -> float | None:
    return area(
        [label_id in result.label_ids for result in results],
        [float(result.windows.column(label_id).max()) for result in results],
    )


def _unsure(config: Config, data: Path) -> dict[str, frozenset[str]]:
    """For each recording the labels about which it says nothing: a lid that drops may be struck metal."""
    concepts = load_concepts()
    unsure = {}
    for row in read_recordings(data, config.split):
        concept = concepts.of_recording(row)
        if concept is not None:
            target = concepts.targets(concept)
            unsure[row.file] = frozenset(name for name in LABELS if target[concepts.index[name]] < 0)
    return unsure


def _yamnet(data: Path, results: Sequence[ScoredRecording]) -> dict[str, float | None]:
    """ROC AUC of YAMNet on the same recordings, highest score of a clip."""
    path = data / "teacher_scores.npz"
    if not path.is_file():
        return {}
    with np.load(path) as scores:
        names = [str(name) for name in scores["__classes__"]]
        rows = {r.name: scores[r.name].astype(np.float32) for r in results if r.name in scores}
    heard = [result for result in results if result.name in rows]
    return {
        label: area(
            [label in result.label_ids for result in heard],
            [float(rows[result.name][:, columns].max(initial=0.0)) for result in heard],
        )
        for label, classes in YAMNET_CLASSES.items()
        if (columns := [names.index(name) for name in classes if name in names])
    }


def figures(
    folds: Sequence[Sequence[ScoredRecording]],
    version: str,
    reference: Mapping[str, float | None],
    unsure: Mapping[str, frozenset[str]],
) -> dict[str, Any]:
    """Everything that is told about one version of the held-out recordings.

    Args:
        folds: the scored recordings of each fold, by its own model.
        version: ``clean`` or ``strange``.
        reference: YAMNet's areas; empty if it did not hear this version.
        unsure: for each recording's name the labels about which it says nothing.
    """
    library = load_library()
    labels = [library.resolve(name) for name in LABELS]
    pooled = [result for fold in folds for result in fold]
    at_own = {m.label_id: m for m in event_metrics(pooled, labels)}
    curves = event_curves(pooled, labels)
    told: dict[str, Any] = {}
    for label in labels:
        per_fold = [_areas(fold, label.id) for fold in folds]
        known = [value for value in per_fold if value is not None]
        metrics = asdict(at_own[label.id])
        metrics.pop("delays_s")
        told[label.id] = {
            "roc_auc": _areas(pooled, label.id),
            "roc_auc_of_folds": per_fold,
            "roc_auc_mean": float(np.mean(known)) if known else None,
            "roc_auc_spread": float(np.std(known, ddof=1)) if len(known) > 1 else None,
            "roc_auc_sure": _areas([r for r in pooled if label.id not in unsure.get(r.name, ())], label.id),
            "roc_auc_yamnet": reference.get(label.id),
            "at_own_threshold": metrics,
            "at_one_false_alarm_an_hour": asdict(operating_point(curves[label.id], PER_HOUR)),
            "curve": [
                {
                    "threshold": point.threshold,
                    "recall": point.recall,
                    "false_alarms_per_hour": point.false_alarms_per_hour,
                }
                for point in curves[label.id]
            ],
        }
    shared = shared_operating_point(curves, PER_HOUR)
    return {
        "version": version,
        "shared_at_one_false_alarm_an_hour": None
        if shared is None
        else {
            "threshold": shared[0].threshold,
            "recall": {point.label_id: point.recall for point in shared},
        },
        "recordings": len(pooled),
        "hours": sum(result.duration_s for result in pooled) / 3600,
        "labels": told,
        "rates": rates(pooled, labels, unsure),
    }


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _delay(median_s: float | None, p95_s: float | None) -> str:
    return f"{_number(median_s, 2)} / {_number(p95_s, 2)} s"


def as_markdown(parts: Sequence[dict[str, Any]]) -> str:
    """The tables for people."""
    lines: list[str] = []
    for part in parts:
        shared = part["shared_at_one_false_alarm_an_hour"]
        lines += [
            f"## Held-out recordings, {part['version']}",
            "",
            f"{part['recordings']} recordings, {part['hours']:.2f} hours.",
            "Sure ones: without those that say neither yes nor no, as a lid that drops of struck metal.",
            "",
            _HEADER,
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for name, told in part["labels"].items():
            own = told["at_own_threshold"]
            lines.append(
                f"| {name} | {own['events']} | {_number(told['roc_auc'])}"
                f" | {_number(told['roc_auc_mean'])} ± {_number(told['roc_auc_spread'])}"
                f" | {_number(told['roc_auc_sure'])} | {_number(told['roc_auc_yamnet'])}"
                f" | {_number(own['recall'], 2)} at {own['threshold']}"
                f" | {_number(own['false_alarms_per_hour'], 1)}"
                f" ({_number(own['false_alarms_per_hour_low'], 1)} to"
                f" {_number(own['false_alarms_per_hour_high'], 1)})"
                f" | {_number(told['at_one_false_alarm_an_hour']['recall'], 2)}"
                f" | {_delay(own['delay_median_s'], own['delay_p95_s'])} |"
            )
        if shared is None:
            line = "No one threshold keeps every label within one false alarm an hour."
        else:
            found = ", ".join(f"{name} {_number(value, 2)}" for name, value in shared["recall"].items())
            line = (
                f"One threshold for all at 1 false alarm an hour, {shared['threshold']:.2f}, finds: {found}."
            )
        lines += ["", line, "", *rates_as_markdown(part["rates"]), ""]
    return "\n".join(lines)


def in_conditions(folds: Sequence[Path]) -> tuple[ConditionMetrics, ...]:
    """What the models of all folds find over other sounds and at distances.

    Args:
        folds: file of each (see ``score_conditions``).
    """
    pooled: dict[tuple[str, str], list[ScoredRecording]] = {}
    for path in folds:
        for key, scored in _unpickled(path).items():
            pooled.setdefault(key, []).extend(scored)
    library = load_library()
    return condition_metrics(pooled, [library.resolve(label) for label in LABELS])


def conditions_as_markdown(found: Sequence[ConditionMetrics]) -> str:
    """The table of them for people."""
    names = [condition.name for condition in CONDITIONS]
    timed = [condition.name for condition in TIMED_CONDITIONS]
    lines = [
        "## Share found over other held-out sounds and at a distance",
        "",
        "Each at its own threshold; *clean* is 50 dB above a background. Delays count from the onset to the",
        "decision: median / 95th percentile.",
        "",
        f"| label | clips | {' | '.join(names)} | {' | '.join(f'delay, {name}' for name in timed)} |",
        "|---" * (2 + len(names) + len(timed)) + "|",
    ]
    for label in dict.fromkeys(entry.label_id for entry in found):
        row = {entry.condition: entry for entry in found if entry.label_id == label}
        recalls = " | ".join(_number(row[name].recall, 2) for name in names)
        delays = " | ".join(_delay(row[name].delay_median_s, row[name].delay_p95_s) for name in timed)
        lines.append(f"| {label} | {row[names[0]].clips} | {recalls} | {delays} |")
    return "\n".join([*lines, ""])


def in_homes(homes: Sequence[ScoredRecording], parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is found in held-out recordings with so few false alarms an hour of home life.

    Args:
        homes: stretches that surely hold none of the labels, by all folds' models.
        parts: the ``figures`` of the versions.

    Returns:
        ``hours`` and for each of ``labels`` the false alarms at its own threshold, the lowest threshold from
        which on there is at most one an hour, with what is found there, and the whole curve.
    """
    labels = [load_library().resolve(name) for name in LABELS]
    own = {metrics.label_id: metrics for metrics in event_metrics(homes, labels)}
    told: dict[str, Any] = {}
    for name, alarms in event_curves(homes, labels).items():
        curve = [
            {
                "threshold": point.threshold,
                "false_alarms_per_hour": point.false_alarms_per_hour,
                **{part["version"]: part["labels"][name]["curve"][place]["recall"] for part in parts},
            }
            for place, point in enumerate(alarms)
        ]
        quiet = list(
            takewhile(lambda point: (point["false_alarms_per_hour"] or 0.0) <= PER_HOUR, reversed(curve))
        )
        told[name] = {
            "at_own_threshold": {
                key: value
                for key, value in asdict(own[name]).items()
                if key == "threshold" or key.startswith("false_alarms")
            },
            "at_one_false_alarm_an_hour": quiet[-1] if quiet else None,
            "curve": curve,
        }
    return {"hours": sum(home.duration_s for home in homes) / 3600, "labels": told}


def homes_as_markdown(told: Mapping[str, Any]) -> str:
    """The table of them for people."""
    lines = [
        "## Homes made of held-out negatives",
        "",
        f"{told['hours']:.1f} hours in rooms that no training sound was played in: somebody talks, cooks,",
        "walks about or plays music, a sound every 2 s. The intervals are those of the time: that the same",
        "few clips are played again and again is not in them. Found: of the held-out recordings.",
        "",
        "| label | false alarms an hour (95 %) | threshold for ≤ 1 an hour | finds, clean | finds, strange |",
        "|---|---|---|---|---|",
    ]
    for name, row in told["labels"].items():
        own, quiet = row["at_own_threshold"], row["at_one_false_alarm_an_hour"] or {}
        lines.append(
            f"| {name} | {_number(own['false_alarms_per_hour'], 1)} at {own['threshold']}"
            f" ({_number(own['false_alarms_per_hour_low'], 1)} to"
            f" {_number(own['false_alarms_per_hour_high'], 1)})"
            f" | {_number(quiet.get('threshold'), 2)} | {_number(quiet.get(CLEAN), 2)}"
            f" | {_number(quiet.get(STRANGE), 2)} |"
        )
    return "\n".join([*lines, ""])


def _unpickled(path: Path) -> Any:
    with path.open("rb") as handle:
        return pickle.load(handle)  # noqa: S301 - written by crossvalidate beside it


def report(config: Config, data: Path, runs: Path) -> None:
    """Write ``crossvalidation.json``, ``crossvalidation.md``, ``found.json`` and pictures beside the folds.

    Raises:
        SystemExit: a fold is not done.
    """
    paths = results_of_folds(config, runs, SCORES)
    folds: list[dict[str, list[ScoredRecording]]] = [_unpickled(path) for path in paths]
    unsure = _unsure(config, data)
    parts = []
    for version in (CLEAN, STRANGE):
        scored = [fold[version] for fold in folds]
        pooled = [result for fold in scored for result in fold]
        parts.append(figures(scored, version, _yamnet(data, pooled) if version == CLEAN else {}, unsure))
        pictures = runs / f"plots-{version}"
        pictures.mkdir(exist_ok=True)
        name = f"cross-validation, {version}"
        write_plots(summarise(name, pooled, [load_library().resolve(label) for label in LABELS]), pictures)
    placed = in_conditions(results_of_folds(config, runs, PLACED))
    stretches = [stretch for path in results_of_folds(config, runs, HOMES) for stretch in _unpickled(path)]
    homes = in_homes(stretches, parts)
    told = {"parts": parts, "homes": homes, "conditions": [asdict(entry) for entry in placed]}
    (runs / "crossvalidation.json").write_text(json.dumps(told, indent=1), "utf-8")
    table = "\n".join([as_markdown(parts), homes_as_markdown(homes), conditions_as_markdown(placed)])
    (runs / "crossvalidation.md").write_text(table, "utf-8")
    clean = with_all_labels(
        (result for fold in folds for result in fold[CLEAN]), read_recordings(data, config.split)
    )
    write_found(found(clean, load_library().described), runs / FOUND)
    print(table)
