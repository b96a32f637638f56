"""Results for people and for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clap_server.evaluation.evaluate import Evaluation

_HEADER = (
    f"{'label':<22}{'clips':>7}{'others':>8}{'ROC AUC':>9}{'AP':>8}{'threshold':>11}{'recall':>8}{'false':>8}"
)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def as_text(evaluations: Sequence[Evaluation]) -> str:
    """A table for each model."""
    lines: list[str] = []
    for result in evaluations:
        lines += [f"{result.model}: {result.clips} recordings, {result.duration_s / 60:.1f} minutes", _HEADER]
        lines += [
            f"{m.label_id:<22}{m.positives:>7}{m.negatives:>8}{_figure(m.roc_auc):>9}"
            f"{_figure(m.average_precision):>8}{m.threshold:>11.2f}{_figure(m.recall):>8}"
            f"{_figure(m.false_positive_rate):>8}"
            for m in result.labels
        ]
        lines += [f"left out: {problem}" for problem in result.problems]
        lines.append("")
    return "\n".join(lines)


def as_json(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """The same as one JSON object."""
    return {"evaluations": [asdict(result) for result in evaluations]}
