from __future__ import annotations

import numpy as np
import pytest

from clap_server.detection.examples import Examples, made_for
from tests.server.detection.test_scoring import KnownModel
from tests.support.banks import random_bank

ROWS = np.eye(4, dtype=np.float32)


def test_examples_are_equal_where_they_hold_the_same() -> None:
    one = Examples.of("a model", [ROWS[:1], ROWS[1:3]])
    assert one == Examples.of("a model", [ROWS[:1].copy(), ROWS[1:3].copy()])
    assert hash(one) == hash(Examples.of("a model", [ROWS[:1], ROWS[1:3]]))
    assert one != Examples.of("another", [ROWS[:1], ROWS[1:3]])
    assert one != Examples.of("a model", [ROWS[:2], ROWS[2:3]])
    assert one != Examples.of("a model", [ROWS[:1], ROWS[1:4]])


def test_one_recording_is_left_out_with_all_its_windows() -> None:
    three = Examples.of("a model", [ROWS[:1], ROWS[1:3], ROWS[3:]])
    assert three.without(1) == Examples.of("a model", [ROWS[:1], ROWS[3:]])


def test_there_must_be_a_window() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Examples.of("a model", [ROWS[:0]])


def test_the_bank_says_which_model_it_is_if_there_is_one() -> None:
    assert made_for(KnownModel()) == "known float32"
    assert made_for(KnownModel(everyday=random_bank(64, made_for="weights 7"))) == "weights 7"
