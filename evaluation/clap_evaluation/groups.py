"""How much a figure depends on where recordings came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clap_evaluation.scored import ScoredRecording


@dataclass(frozen=True, slots=True)
class GroupMetrics:
    """ROC AUC of a label, group by group.

    Attributes:
        label_id: whose.
        roc_auc: by group that holds the label: its recordings with the label against all without.
        mean: over the groups.
        deviation: standard deviation over the groups; None with fewer than two.
        lowest: the group that does worst.
    """

    label_id: str
    roc_auc: dict[str, float]
    mean: float
    deviation: float | None
    lowest: str


def group_metrics(results: Sequence[ScoredRecording], label_id: str) -> GroupMetrics | None:
    """Judge a label by the groups of the manifest.

    Returns:
        None if no group holds the label, or no recording is without it.
    """
    from sklearn.metrics import roc_auc_score

    without: list[float] = []
    groups: dict[str, list[float]] = {}
    for result in results:
        best = float(result.windows.column(label_id).max())
        if label_id not in result.label_ids:
            without.append(best)
        elif result.group:
            groups.setdefault(result.group, []).append(best)
    if not groups or not without:
        return None
    aucs = {
        group: float(roc_auc_score([True] * len(held) + [False] * len(without), held + without))
        for group, held in sorted(groups.items())
    }
    values = list(aucs.values())
    return GroupMetrics(
        label_id,
        aucs,
        float(np.mean(values)),
        float(np.std(values, ddof=1)) if len(values) > 1 else None,
        min(aucs, key=lambda group: aucs[group]),
    )
