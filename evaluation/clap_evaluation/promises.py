"""Whether a bank of everyday sound promises what sources hold that are not in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_evaluation.reliability import THRESHOLDS, Promise
from clap_server.detection.everyday.evidence import evidence, maxima
from clap_server.detection.everyday.scale import BLOCK_S, ScoreScale, tail_of, trust

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clap_server.clap.everyday import EverydayBank
    from clap_server.detection.labels import Label


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What became of one threshold's promise, each source judged by all others.

    Attributes:
        promise: what was promised and counted, summed over the sources.
        sources: that were left out in turn.
        loudest: the source with the most false alarms; empty if there were none.
        loudest_false_alarms: those.
    """

    promise: Promise
    sources: int
    loudest: str
    loudest_false_alarms: int


def leave_sources_out(
    bank: EverydayBank,
    margins: NDArray[np.float64],
    kept: NDArray[np.bool_],
    sources: Sequence[str],
    label: Label,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
) -> tuple[LeftOut, ...]:
    """For each source fit the tail on all others, and count on it.

    Counted are blocks of ``BLOCK_S`` in which the label's rule would start an event, as for the tail itself.
    The intervals are those of independent events; the recordings of a source resemble each other, so that
    the true ones are wider.

    Args:
        bank: of everyday sound.
        margins: ``(n,)`` of the label, for each window of the bank.
        kept: ``(n,)`` which windows are everyday sound for the label.
        sources: of each piece of the bank, such as the collection that it is from.
        label: whose margins they are.
        thresholds: to try.

    Returns:
        One for each threshold. Sources without which too little would be left to fit are not judged.
    """
    decided = evidence(margins, bank.ends_s, bank.recordings, label.kind, hop_s=bank.hop_s)
    source_of_window = np.array(sources)[bank.recordings]
    counts: dict[str, NDArray[np.intp]] = {}
    seconds = 0.0
    for source in dict.fromkeys(source_of_window[kept].tolist()):
        own = kept & (source_of_window == source)
        tail = tail_of(margins, bank, kept & ~own, label.kind)
        if tail is None:
            continue
        highest = maxima(decided[own], bank.ends_s[own], bank.recordings[own], block_s=BLOCK_S)
        scores = ScoreScale(trust([tail])).scores(highest)
        counts[source] = np.array([int((scores >= threshold).sum()) for threshold in thresholds], np.intp)
        seconds += float(bank.seconds[own].sum())
    return tuple(
        _summed(label.id, threshold, {source: int(c[place]) for source, c in counts.items()}, seconds)
        for place, threshold in enumerate(thresholds)
    )


def _summed(label_id: str, threshold: float, counts: dict[str, int], seconds: float) -> LeftOut:
    loudest = max(counts, key=lambda source: counts[source], default="")
    most = counts.get(loudest, 0)
    promise = Promise.of(label_id, threshold, sum(counts.values()), seconds / 3600.0)
    return LeftOut(promise, len(counts), loudest if most else "", most)
