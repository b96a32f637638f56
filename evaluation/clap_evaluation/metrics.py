"""How well scores tell recordings with a sound from those without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LabelMetrics:
    """Clip-level figures of one label.

    Attributes:
        label_id: whose.
        positives: recordings that hold it.
        negatives: recordings that do not.
        roc_auc: chance that a recording with it scores above one without; None if one kind is missing.
        average_precision: area under precision over recall; None as above.
        threshold: of the label.
        recall: share of the positives at or above the threshold; None without positives.
        false_positive_rate: share of the negatives at or above it; None without negatives.
    """

    label_id: str
    positives: int
    negatives: int
    roc_auc: float | None
    average_precision: float | None
    threshold: float
    recall: float | None
    false_positive_rate: float | None


def label_metrics(
    label_id: str, threshold: float, present: NDArray[np.bool_], scores: NDArray[np.float32]
) -> LabelMetrics:
    """Compute the figures of one label.

    Args:
        label_id: whose.
        threshold: from which a score counts as heard.
        present: ``(n,)`` whether each recording holds it.
        scores: ``(n,)`` the highest score in each recording.
    """
    from sklearn import metrics

    positives, negatives = int(present.sum()), int((~present).sum())
    both = positives > 0 and negatives > 0
    heard = scores >= threshold
    return LabelMetrics(
        label_id,
        positives,
        negatives,
        float(metrics.roc_auc_score(present, scores)) if both else None,
        float(metrics.average_precision_score(present, scores)) if both else None,
        threshold,
        float(heard[present].mean()) if positives else None,
        float(heard[~present].mean()) if negatives else None,
    )
