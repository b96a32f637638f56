"""Step ``calibrate``: what a margin is worth, on sources that were not trained on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from clap_server.detection.calibration.fit import NEGATIVES_PER_POSITIVE
from clap_server.detection.library import load_library
from training.concepts import SECURITY
from training.crossvalidate import JUDGEMENT, results_of_folds

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from training.config import Config


def fit(margins: NDArray[np.float64], present: NDArray[np.bool_]) -> tuple[float, float]:
    """Fit ``sigmoid(scale * margin + bias)`` (Platt, 1999).

    Args:
        margins: ``(n,)``.
        present: ``(n,)`` whether the sound was there.

    Returns:
        Scale and bias.
    """
    yes, no = present.sum(), (~present).sum()
    weights = np.where(present, 1.0 / max(yes, 1), NEGATIVES_PER_POSITIVE / max(no, 1)) * len(present)
    fitted = LogisticRegression(C=1e4).fit(margins[:, None], present, sample_weight=weights)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def calibrate(config: Config, runs: Path) -> None:
    """Write ``calibration.json``: scale, bias and how reliable the scores are.

    Each fold's model is asked about mixed windows of the sources that it never heard.

    Raises:
        SystemExit: a fold was not cross-validated yet.
    """
    judged = [np.load(path) for path in results_of_folds(config, runs, JUDGEMENT)]
    margins = np.concatenate([part["margins"] for part in judged])
    targets = np.concatenate([part["targets"] for part in judged])
    label_ids = [label.id for label in load_library().described]
    columns = [label_ids.index(name) for name in SECURITY if name in label_ids]
    chosen, wanted = margins[:, columns].ravel(), targets[:, columns].ravel()
    known = wanted >= 0
    scale, bias = fit(chosen[known].astype(np.float64), wanted[known] > 0)
    scores = 1 / (1 + np.exp(-(scale * margins + bias)))
    report = {}
    for place, name in enumerate(label_ids):
        rows = targets[:, place] >= 0
        present, score = targets[rows, place] > 0, scores[rows, place]
        if not present.any() or present.all():
            continue
        report[name] = {
            "roc_auc": round(float(roc_auc_score(present, score)), 4),
            **{
                f"{kind}_at_{threshold}": round(float((score[mask] >= threshold).mean()), 4)
                for kind, mask in (("recall", present), ("false", ~present))
                for threshold in (0.5, 0.7)
            },
        }
        print(f"{name:20s} {report[name]}")
    result = {
        "scale": round(scale, 4),
        "bias": round(bias, 4),
        "windows": len(margins),
        "negatives_per_positive": NEGATIVES_PER_POSITIVE,
        "folds": len(judged),
        "labels": report,
    }
    print(f"scale {scale:.3f} bias {bias:.3f}")
    (runs / "calibration.json").write_text(json.dumps(result, indent=1), "utf-8")
