"""Banks of recordings that are shorter than a sustained sound must last."""

from __future__ import annotations

import numpy as np

from clap_server.clap.everyday import EverydayBank, Piece
from clap_server.detection.everyday.scale import LEAST_BLOCKS, tail_of
from clap_server.detection.labels import LabelKind

COUNT = 2 * LEAST_BLOCKS


def test_they_say_nothing_of_sustained_sounds_and_something_of_impulses() -> None:
    bank = EverydayBank.of(
        "x",
        np.ones((COUNT, 2), np.float32),
        np.ones(COUNT),
        np.arange(COUNT),
        [Piece()] * COUNT,
        hop_s=0.5,
        sources="x",
    )
    margins = np.random.default_rng(1).normal(size=COUNT)
    everything = np.ones(COUNT, bool)
    assert tail_of(margins, bank, everything, LabelKind.SUSTAINED) is None
    tail = tail_of(margins, bank, everything, LabelKind.IMPULSIVE)
    assert tail is not None
    assert tail.hours == COUNT * 0.5 / 3600
