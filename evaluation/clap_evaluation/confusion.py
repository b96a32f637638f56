"""What fired on what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clap_evaluation.detecting import detect
from clap_evaluation.manifest import NEGATIVE
from clap_server.detection.labels import WatchedLabel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clap_evaluation.scored import ScoredRecording
    from clap_server.detection.labels import Label


@dataclass(frozen=True, slots=True)
class ConfusionRow:
    """Recordings that hold the same.

    Attributes:
        truth: a label, or ``negative``.
        group: of negatives; empty for those of all groups.
        recordings: how many.
        fired: by label id, in how many of them it was detected at least once.
        quiet: in how many of them nothing was detected.
    """

    truth: str
    group: str
    recordings: int
    fired: dict[str, int]
    quiet: int


def confusion(
    results: Sequence[ScoredRecording],
    labels: Sequence[Label],
    threshold: float | None = None,
) -> tuple[ConfusionRow, ...]:
    """Count in how many recordings each label was detected, by what they hold.

    A recording that holds several labels counts for each of them.

    Args:
        results: scored recordings.
        labels: to detect.
        threshold: one for all labels; each label's own if None.

    Returns:
        Labels in the order given, others by name, negatives; then negatives by group, if they have groups.
    """
    watched = [WatchedLabel(label, label.threshold if threshold is None else threshold) for label in labels]
    ids = [label.id for label in labels]
    cases: dict[tuple[str, str], list[frozenset[str]]] = {}
    for result in results:
        fired = frozenset(found.watched.label.id for found in detect(result.windows, watched))
        for truth in result.label_ids or {NEGATIVE}:
            cases.setdefault((truth, ""), []).append(fired)
            if truth == NEGATIVE and result.group:
                cases.setdefault((truth, result.group), []).append(fired)

    def place(key: tuple[str, str]) -> tuple[bool, int, str, str]:
        truth, group = key
        return truth == NEGATIVE, ids.index(truth) if truth in ids else len(ids), truth, group

    return tuple(
        ConfusionRow(
            truth,
            group,
            len(found),
            {label_id: sum(label_id in fired for fired in found) for label_id in ids},
            sum(not fired for fired in found),
        )
        for (truth, group), found in sorted(cases.items(), key=lambda item: place(item[0]))
    )
