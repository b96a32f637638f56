"""Each kind of sound is confirmed in its own way."""

import pytest

from clap_server.detection.labels import LabelKind
from clap_server.detection.temporal import ImpulsiveRule, SustainedRule, make_rule, sustains
from clap_server.errors import LabelError


def decisions(rule: ImpulsiveRule | SustainedRule, scores: list[tuple[float, float]]) -> list[float]:
    """The times at which the rule says that the sound is confirmed."""
    return [end_s for end_s, score in scores if rule.starts(end_s, score)]


def each_hop(scores: list[float], hop_s: float = 0.5) -> list[tuple[float, float]]:
    return [((index + 1) * hop_s, score) for index, score in enumerate(scores)]


def test_one_strong_window_is_enough_for_an_impulse() -> None:
    assert decisions(ImpulsiveRule(0.5), each_hop([0.1, 0.5, 0.1])) == [1.0]


def test_windows_under_the_threshold_do_not_add_up_to_an_impulse() -> None:
    # What they promise together nobody has counted: only what the threshold says may pass.
    assert decisions(ImpulsiveRule(0.5), each_hop([0.1, 0.49, 0.49, 0.49, 0.1])) == []


def test_windows_far_below_the_threshold_never_start_an_impulse_but_keep_it_going() -> None:
    rule = ImpulsiveRule(0.5)
    assert decisions(rule, each_hop([0.44] * 10)) == []
    assert rule.present
    rule.starts(6.0, 0.39)
    assert not rule.present


def test_a_sustained_sound_is_confirmed_by_two_of_three_windows() -> None:
    assert decisions(SustainedRule(0.5, hop_s=0.5), each_hop([0, 0.6, 0.6, 0]))[0] == 1.5
    assert decisions(SustainedRule(0.5, hop_s=0.5), each_hop([0, 0.6, 0, 0.6, 0]))[0] == 2.0
    assert decisions(SustainedRule(0.5, hop_s=0.5), each_hop([0, 0.6, 0, 0, 0.6, 0, 0, 0.6])) == []


def test_extra_windows_do_not_make_a_short_sound_a_sustained_one() -> None:
    rule = SustainedRule(0.5, hop_s=0.5)
    scores = [(0.5, 0.0), (0.6, 0.9), (0.7, 0.9), (0.8, 0.9), (0.9, 0.9), (1.0, 0.0), (1.5, 0.0)]
    assert decisions(rule, scores) == []


def test_extra_windows_do_not_delay_a_sustained_sound() -> None:
    rule = SustainedRule(0.5, hop_s=0.5)
    scores = [(0.5, 0.0), (0.7, 0.9), (1.0, 0.9), (1.2, 0.9), (1.5, 0.9)]
    assert decisions(rule, scores)[0] == 1.5


@pytest.mark.parametrize("hop_s", [0.1, 0.25, 0.5, 1.0, 5.0])
def test_every_hop_can_confirm_a_sustained_sound(hop_s: float) -> None:
    assert decisions(SustainedRule(0.5, hop_s=hop_s), each_hop([0.9] * 20, hop_s))


def test_hysteresis_keeps_a_sustained_sound_just_below_its_threshold() -> None:
    rule = SustainedRule(0.5, hop_s=0.5)
    seen = []
    for end_s, score in each_hop([0.6, 0.36, 0.34]):
        rule.starts(end_s, score)
        seen.append(rule.present)
    assert seen == [True, True, False]


def test_hysteresis_never_reaches_down_to_nothing() -> None:
    rule = SustainedRule(0.1, hop_s=0.5)
    rule.starts(0.5, 0.0)
    assert not rule.present


@pytest.mark.parametrize("kind", list(LabelKind))
@pytest.mark.parametrize(("threshold", "words"), [(1.0, "never be reached"), (0.0, "always be reached")])
def test_a_threshold_that_cannot_work_is_refused_with_words(
    kind: LabelKind, threshold: float, words: str
) -> None:
    with pytest.raises(LabelError, match=words):
        make_rule(kind, threshold, hop_s=0.5)


@pytest.mark.parametrize("hop_s", [0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("every", [1, 2])
def test_whether_what_lasts_can_be_confirmed_with_fewer_windows_is_known(hop_s: float, every: int) -> None:
    windows = [(number * every * hop_s, 0.9) for number in range(1, 200)]
    found = bool(decisions(SustainedRule(0.5, hop_s=hop_s), windows))
    assert sustains(hop_s=hop_s, every_s=every * hop_s) == found
