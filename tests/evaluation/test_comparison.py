"""What a calibration is said to change, in cases that can be reckoned by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clap_evaluation.calibration.comparison import compare
from clap_evaluation.scored import ScoredRecording
from clap_server.clap.everyday import EverydayBank, Piece
from clap_server.detection.everyday.scale import ScoreScale
from clap_server.detection.everyday.tail import Tail
from tests.evaluation.made import GLASS, HOP_S, recording


def scale(one_a_day: float) -> ScoreScale:
    """A margin comes a tenth as often 0.1 further up, and once a day at ``one_a_day``."""
    per_hour = 0.25 * 10.0 ** (10 * one_a_day)
    tail = Tail(5.0, np.array([-5.0, 0.0]), np.array([1e9 * per_hour, per_hour]), 0.0, 0.1 / np.log(10))
    return ScoreScale(((1.0, tail),))


def bank_of(*pieces: Piece) -> EverydayBank:
    none = np.zeros(0)
    return EverydayBank.of(
        "x", np.zeros((0, 4), np.float32), none, none.astype(np.intp), pieces, hop_s=HOP_S, sources="x"
    )


def test_margins_of_a_score_are_found_again() -> None:
    for score in (0.1, 0.5, 0.7, 0.9):
        margin = np.array([scale(0.3).margin(score)])
        assert scale(0.3).scores(margin)[0] == pytest.approx(score, abs=1e-6)
    assert scale(0.3).margin(0.7) == pytest.approx(0.3)


def test_figures_of_a_case_that_can_be_reckoned_by_hand() -> None:
    # Until now a margin of 0.3 came once a day, from now on one of 0.5. An hour has peaks of 0.4 in minutes
    # 10 and 20, one of 0.6 in minute 30; of the two breaks one has 0.4 and one 0.6.
    peaks = [(600.0, 600.0, 0.4), (1200.0, 1200.0, 0.4), (1800.0, 1800.0, 0.6)]
    everyday = recording(3600.0, {"glass": peaks}, (None, None, None))
    breaks = [recording(4.0, {"glass": [(1.0, 1.0, margin)]}, ("glass", None, None)) for margin in (0.4, 0.6)]
    pieces = [Piece(), Piece(frozenset({"glass"})), Piece(frozenset({"glass"}))]
    found = compare(GLASS, (scale(0.3), scale(0.5)), [everyday, *breaks], bank_of(*pieces))
    assert (found.before.false_alarms, found.after.false_alarms) == (3, 1)
    assert found.before.hours == found.after.hours == pytest.approx(1.0)
    assert (found.before.per_day, found.after.per_day) == (pytest.approx(12.0), pytest.approx(4.0))
    assert found.before.promised_per_day == pytest.approx(1.0)
    assert found.now_promised_per_day == pytest.approx(100.0, rel=1e-3)
    assert found.one_a_day == pytest.approx(0.7 + 2 * 0.14, abs=1e-3)
    assert (found.events, found.found_before, found.found_after) == (2, 2, 1)


def test_what_overlaps_in_meaning_is_neither_event_nor_false_alarm() -> None:
    loud = recording(3600.0, {"glass": [(600.0, 600.0, 0.9)]}, ("crash", None, None))
    quiet = recording(3600.0, {}, (None, None, None))
    found = compare(
        GLASS, (scale(0.3), scale(0.3)), [loud, quiet], bank_of(Piece(frozenset({"glass"})), Piece())
    )
    assert (found.before.false_alarms, found.events) == (0, 0)
    assert found.before.hours == pytest.approx(1.0)


def test_without_everyday_sound_nothing_is_counted() -> None:
    silent = recording(60.0, {}, (None, None, None))
    windows = replace(silent.windows, admitted=np.zeros(len(silent.windows.ends_s), bool))
    found = compare(
        GLASS,
        (scale(0.3), scale(0.3)),
        [ScoredRecording("x", silent.occurrences, 60.0, windows)],
        bank_of(Piece()),
    )
    assert (found.before.hours, found.before.per_day, found.before.kept) == (0.0, None, None)
