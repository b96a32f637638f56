"""What was called a false alarm does not fire again, and nothing else is muted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server.detection.examples import Examples
from clap_server.detection.labels import Label, LabelKind
from clap_server.detection.library import load_library
from clap_server.detection.mistakes import LOOKALIKES, QUANTILE, Mistakes, lookalikes
from clap_server.detection.scoring import LabelScorer
from tests.server.detection.test_scoring import KnownModel, axis, label
from tests.support.banks import random_bank

if TYPE_CHECKING:
    from numpy.typing import NDArray

BACKGROUND = load_library().background
BANK = random_bank(KnownModel.dimension, made_for="known")


def unit(*parts: NDArray[np.floating]) -> NDArray[np.float32]:
    total = np.sum(parts, axis=0)
    return np.asarray(total / np.linalg.norm(total), np.float32)


def direction(seed: int) -> NDArray[np.float32]:
    return unit(np.random.default_rng(seed).normal(size=KnownModel.dimension))


def of(*windows: NDArray[np.float32], made_for: str = "known") -> tuple[Examples, ...]:
    return (Examples.of(made_for, [window[None] for window in windows]),)


# As for a label that every window of the bank is as much like.
SOME = np.arange(0, len(BANK.codes), 2)


def mistakes(*windows: NDArray[np.float32]) -> Mistakes:
    return Mistakes(of(*windows), BANK, SOME)


@given(st.integers(0, 10_000))
def test_the_same_sound_keeps_nothing_and_hardly_any_lookalike_loses_anything(seed: int) -> None:
    wrong = direction(seed)
    learnt = mistakes(wrong)
    assert learnt.kept(wrong[None])[0] == pytest.approx(0.0, abs=1e-6)
    everyday = learnt.kept(BANK.embeddings()[SOME])
    assert everyday.min() >= 0
    assert everyday.max() <= 1
    assert (everyday < 1).mean() <= 1 - QUANTILE + 2 / len(everyday)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2000), min_size=1, max_size=60, unique=True))
def test_however_many_false_alarms_they_take_from_hardly_any_lookalike(seeds: list[int]) -> None:
    wrong = [direction(seed) for seed in seeds]
    learnt = mistakes(*wrong)
    assert np.allclose(learnt.kept(np.stack(wrong)), 0.0, atol=1e-5)
    everyday = learnt.kept(BANK.embeddings()[SOME])
    assert (everyday < 1).mean() <= 1 - QUANTILE + 2 / len(everyday)


def test_what_is_nearly_the_same_keeps_little_and_what_is_mostly_another_sound_nearly_all() -> None:
    wrong, other = direction(1), direction(2)
    near, far = unit(wrong, 0.2 * other), unit(0.1 * wrong, other)
    kept = mistakes(wrong).kept(np.stack([near, far]))
    assert kept[0] < 0.1
    assert kept[1] > 0.95


def test_what_is_nearer_to_a_correct_event_than_to_a_false_alarm_loses_nothing() -> None:
    wrong, other = direction(1), direction(2)
    meant = unit(wrong, 0.3 * other)
    again = unit(wrong, 0.25 * other, 0.02 * direction(3))
    learnt = Mistakes(of(wrong), BANK, SOME, of(meant))
    assert mistakes(wrong).kept(np.stack([meant, again])).max() < 0.2
    assert learnt.kept(np.stack([meant, again])).tolist() == [1.0, 1.0]
    assert learnt.kept(np.stack([wrong, unit(wrong, 0.1 * other)])).max() < 0.2, "the false alarm itself"


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_a_correct_event_takes_nothing_from_any_sound(wrong: int, right: int, seed: int) -> None:
    sounds = np.stack([direction(seed), unit(direction(wrong), 0.3 * direction(seed))])
    with_it = Mistakes(of(direction(wrong)), BANK, SOME, of(direction(right))).kept(sounds)
    assert np.all(with_it >= mistakes(direction(wrong)).kept(sounds))


def test_lookalikes_are_those_with_the_highest_margins() -> None:
    margins = np.random.default_rng(1).normal(size=len(BANK.codes))
    found = lookalikes("a label", BANK, lambda: margins)
    assert len(found) == LOOKALIKES
    assert margins[found].min() >= np.sort(margins)[-LOOKALIKES]
    assert lookalikes("a label", BANK, lambda: np.zeros(3)) is found


def scorer(*labels: Label) -> LabelScorer:
    model = KnownModel({"glass": axis(0), "metal": axis(1)}, everyday=BANK)
    return LabelScorer(model, labels, BACKGROUND)


GLASS, METAL = (replace(label(name, name), kind=LabelKind.IMPULSIVE) for name in ("glass", "metal"))


def test_it_touches_neither_other_labels_nor_other_sounds() -> None:
    spoon, pane = unit(axis(0), 0.7 * direction(5)), unit(axis(0), 0.7 * direction(6))
    both = np.stack([spoon, pane])
    before = scorer(GLASS, METAL).scores(both)
    after = scorer(replace(GLASS, wrong=of(spoon)), METAL).scores(both)
    assert before[0, 0] > 0.4
    assert after[0, 0] == pytest.approx(0.0, abs=1e-6)
    assert after[1, 0] == before[1, 0]
    assert np.array_equal(after[:, 1], before[:, 1])


@given(st.integers(0, 500))
def test_learning_never_raises_a_score(seed: int) -> None:
    some = np.stack([direction(seed + number) for number in range(20)])
    before = scorer(GLASS, METAL).scores(some)
    after = scorer(replace(GLASS, wrong=of(direction(seed))), METAL).scores(some)
    assert np.all(after <= before + 1e-7)


def test_what_another_model_heard_is_not_heeded() -> None:
    spoon = unit(axis(0), 0.7 * axis(5))[None]
    before = scorer(GLASS).scores(spoon)
    assert np.array_equal(scorer(replace(GLASS, wrong=of(spoon[0], made_for="other"))).scores(spoon), before)
    both = (*of(direction(1), made_for="other"), *of(spoon[0]))
    assert scorer(replace(GLASS, wrong=both)).scores(spoon)[0, 0] == pytest.approx(0.0, abs=1e-6)


def test_examples_of_another_size_than_the_model_s_keep_nothing_from_being_scored() -> None:
    spoon = unit(axis(0), 0.7 * axis(5))
    bad = of(unit(spoon[:10]))
    heard = np.stack([spoon, unit(axis(1))])
    before = scorer(GLASS, METAL).scores(heard)
    assert np.array_equal(scorer(replace(GLASS, wrong=bad, right=bad), METAL).scores(heard), before)
    learnt = scorer(replace(GLASS, wrong=of(spoon)), METAL).scores(heard)
    both = replace(GLASS, wrong=(*bad, *of(spoon)), right=bad)
    assert np.array_equal(scorer(both, METAL).scores(heard), learnt)
    mistaught = scorer(replace(GLASS, taught=bad[0]), METAL).scores(heard)
    assert mistaught[:, 0].tolist() == [0.0, 0.0]
    assert np.array_equal(mistaught[:, 1], before[:, 1])


def test_a_correct_event_guards_the_score_and_one_that_another_model_heard_does_not() -> None:
    wrong, meant = unit(axis(0)), unit(axis(0), 0.1 * direction(2))
    glass = label("glass", "glass")
    taught = replace(glass, wrong=of(wrong))
    heard = np.stack([wrong, meant])
    before = scorer(glass).scores(heard)[:, 0]
    muted = scorer(taught).scores(heard)[:, 0]
    assert muted.max() < 0.5 * before.min()
    assert np.allclose(scorer(replace(taught, right=of(meant, made_for="other"))).scores(heard)[:, 0], muted)
    guarded = scorer(replace(taught, right=of(meant))).scores(heard)[:, 0]
    assert guarded.tolist() == [muted[0], before[1]]
