"""What a score promises about everyday sound, on a model whose embeddings are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server.clap.everyday import EverydayBank, Piece
from clap_server.detection.everyday.enough import is_guessed
from clap_server.detection.everyday.evidence import evidence, maxima
from clap_server.detection.everyday.rate import rate_of_score
from clap_server.detection.everyday.scale import (
    BLOCK_S,
    COMMON_HOURS,
    GUESS,
    UNHEARD,
    ScoreScale,
    tail_of,
    trust,
)
from clap_server.detection.everyday.tail import Tail, bounds
from clap_server.detection.labels import Label, LabelKind
from clap_server.detection.library import load_library
from clap_server.detection.scoring import LabelScorer
from tests.server.detection.test_scoring import KnownModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

LIBRARY = load_library()
KINDS = st.sampled_from(list(LabelKind))


def everyday(hours: float = 2.0, seed: int = 0, pieces: tuple[Piece, ...] = (Piece(),)) -> EverydayBank:
    """A bank of windows each half second in random places, minutes of each piece after the other."""
    rng = np.random.default_rng(seed)
    count = round(hours * 7200)
    steps = rng.normal(size=(count, KnownModel.dimension))
    steps += np.random.default_rng(7).normal(size=KnownModel.dimension)
    embeddings = (steps / np.linalg.norm(steps, axis=1, keepdims=True)).astype(np.float32)
    recordings = np.arange(count) // 120
    ends_s = 0.5 * (np.arange(count) % 120 + 1)
    many = tuple(pieces[number % len(pieces)] for number in range(recordings[-1] + 1))
    return EverydayBank.of("known", embeddings, ends_s, recordings, many, hop_s=0.5, sources="made up")


def sound(count: int = 200, seed: int = 3) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, KnownModel.dimension))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def label(
    label_id: str, *prompts: str, kind: LabelKind = LabelKind.IMPULSIVE, library: bool = False
) -> Label:
    return Label(id=label_id, names={"en": label_id}, prompts=prompts, kind=kind, library=library)


@settings(max_examples=20, deadline=None)
@given(st.integers(4, 60), st.integers(1, 9), KINDS)
def test_without_a_scorer_it_is_known_which_labels_are_guessed(
    minutes: int, of_ten: int, kind: LabelKind
) -> None:
    pieces = tuple(Piece(frozenset({"glass_breaking"} if n < of_ten else ())) for n in range(10))
    model = KnownModel({"glass": sound(1, seed=4)[0], "talk": sound(1, seed=5)[0]})
    model.everyday = everyday(minutes / 60, pieces=pieces)
    glass = label("glass_breaking", "glass", kind=kind, library=True)
    words = label("words", "glass", kind=kind)
    scorer = LabelScorer(model, [glass, words], ["talk"])
    told = {each.id for each in (glass, words) if is_guessed(model, each)}
    assert told == scorer.guessed


@pytest.mark.parametrize("kind", list(LabelKind))
@pytest.mark.parametrize("score", [0.5, 0.6, 0.7])
def test_a_threshold_lets_as_much_through_as_its_score_promises(kind: LabelKind, score: float) -> None:
    # Fitted on twenty hours, counted on twenty others by the event rules themselves.
    model = KnownModel(everyday=everyday(20.0, seed=1))
    other = everyday(20.0, seed=2)
    scorer = LabelScorer(model, [label("x", "a thing", kind=kind)], LIBRARY.background)
    scores = scorer.scores(other.embeddings())[:, 0].astype(np.float64)
    decided = evidence(scores, other.ends_s, other.recordings, kind, hop_s=0.5)
    events = int((maxima(decided, other.ends_s, other.recordings, block_s=BLOCK_S) >= score).sum())
    low, high = bounds(events, other.hours)
    promised = rate_of_score(score) / 4 / UNHEARD  # these hours are of the same home
    assert low / 1.6 <= promised <= high * 1.6  # the promise itself is an estimate from as much sound


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), KINDS)
def test_scores_rise_with_margins(seed: int, kind: LabelKind) -> None:
    scorer = LabelScorer(KnownModel(everyday=BANK), [label("x", "a thing", kind=kind)], LIBRARY.background)
    windows = sound(seed=seed)
    order = np.argsort(scorer.margins(windows)[:, 0])
    assert (np.diff(scorer.scores(windows)[order, 0]) >= -1e-6).all()


BANK = everyday(1.0)


def test_watching_another_label_moves_no_score_on_a_bank_either() -> None:
    model = KnownModel(everyday=everyday(1.0))
    few = [LIBRARY.resolve("glass breaking"), LIBRARY.resolve("my own sound")]
    together = LabelScorer(model, [*LIBRARY.labels, few[1]], LIBRARY.background)
    alone = LabelScorer(KnownModel(everyday=everyday(1.0)), few, LIBRARY.background)
    columns = [together.label_ids.index(label_id) for label_id in alone.label_ids]
    np.testing.assert_allclose(together.scores(sound())[:, columns], alone.scores(sound()), atol=1e-6)


def test_a_recording_that_holds_the_label_is_no_everyday_sound_for_it() -> None:
    # Half of the bank is what the label says; only where that is told the label can score.
    model = KnownModel()
    target = model.random("a dog barking")

    def bank(dog: Piece) -> EverydayBank:
        plain = everyday(1.0, pieces=(dog, Piece()))
        dogs = plain.recordings % 2 == 0
        embeddings = plain.embeddings()
        embeddings[dogs] = target + 0.05 * embeddings[dogs]
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        return EverydayBank.of(
            "known", embeddings, plain.ends_s, plain.recordings, plain.pieces, hop_s=0.5, sources=""
        )

    dog = LIBRARY.get("dog_bark")
    assert dog is not None
    told = LabelScorer(KnownModel(everyday=bank(Piece(frozenset({"dog_bark"})))), [dog], LIBRARY.background)
    untold = LabelScorer(KnownModel(everyday=bank(Piece())), [dog], LIBRARY.background)
    assert told.scores(target[None])[0, 0] > 0.7
    assert untold.scores(target[None])[0, 0] < 0.4
    own = label("mine", "a small dog", "the sound of a small dog")
    for tags, scores in (((), False), (("a dog",), True), (("a large dog",), False)):
        model = KnownModel(dict.fromkeys(own.prompts, target), everyday=bank(Piece(tags=tags)))
        found = LabelScorer(model, [own], LIBRARY.background).scores(target[None])[0, 0]
        assert (found > 0.7) == scores, tags


def test_the_tail_is_remembered_and_never_mixed_up() -> None:
    bank = everyday(1.0)
    first, second = label("x", "one"), label("x", "two")
    for _ in range(2):
        scores = [
            LabelScorer(KnownModel(everyday=bank), [each], LIBRARY.background).scores(sound())
            for each in (first, second)
        ]
        assert not np.allclose(*scores)
    kinds = [
        LabelScorer(KnownModel(everyday=bank), [label("x", "one", kind=kind)], LIBRARY.background)
        for kind in LabelKind
    ]
    assert not np.allclose(kinds[0].scores(sound()), kinds[1].scores(sound()))


def test_without_a_bank_or_with_too_little_of_one_scores_are_a_guess() -> None:
    for bank in (None, everyday(0.1)):
        scorer = LabelScorer(KnownModel(everyday=bank), [label("x", "one")], LIBRARY.background)
        margins = scorer.margins(sound())[:, 0]
        np.testing.assert_allclose(scorer.scores(sound())[:, 0], GUESS.scores(margins), atol=1e-6)


def test_a_room_counts_the_more_the_more_of_it_was_heard() -> None:
    tail = Tail(20.0, np.array([0.0, 1.0]), np.array([10.0, 1.0]), 0.0, 1.0)
    room = [Tail(hours, tail.body, tail.body_rates, 0.0, 1.0) for hours in (1.0, COMMON_HOURS, 12.0)]
    shares = [trust([tail, each])[1][0] for each in room]
    assert shares == [pytest.approx(0.2), pytest.approx(0.5), pytest.approx(0.75)]
    assert trust([tail]) == ((UNHEARD, tail),)
    assert trust([tail, room[0]])[0][0] == pytest.approx(0.8 * UNHEARD)


def test_a_room_where_the_sound_is_common_lowers_its_score() -> None:
    model = KnownModel(everyday=everyday(2.0))
    heard = model.random("a thing")
    alone = LabelScorer(model, [label("x", "a thing")], LIBRARY.background)
    plain = everyday(4.0, seed=5)
    embeddings = plain.embeddings()
    embeddings[::40] = heard
    room = EverydayBank.of(
        "known", embeddings, plain.ends_s, plain.recordings, plain.pieces, hop_s=0.5, sources=""
    )
    here = LabelScorer(model, [label("x", "a thing")], LIBRARY.background, room=room)
    assert here.scores(heard[None])[0, 0] < alone.scores(heard[None])[0, 0] - 0.1


def test_a_louder_home_promises_more_at_the_same_margin() -> None:
    model = KnownModel(everyday=everyday(2.0))
    quiet, loud = (
        LabelScorer(model, [label("x", "a thing")], LIBRARY.background, sounding_hours=hours)
        for hours in (2.0, 20.0)
    )
    low, high = loud.scores(sound())[:, 0], quiet.scores(sound())[:, 0]
    inside = low > 0
    assert inside.any()
    np.testing.assert_allclose((high - low)[inside], 0.14, atol=1e-5)


def test_a_mixture_of_tails_is_their_mean_rate() -> None:
    low, high = (Tail(1.0, np.array([0.0, 1.0]), np.array([rate, 1.0]), 0.0, 1.0) for rate in (10.0, 30.0))
    mixed = ScoreScale(((0.5, low), (0.5, high)), sounding_hours=4.0)
    assert mixed.per_day(np.array([0.0]))[0] == pytest.approx(80.0)


def test_of_too_little_sound_nothing_is_said() -> None:
    bank = everyday(0.2)
    margins = np.zeros(len(bank.ends_s))
    assert tail_of(margins, bank, np.ones(len(margins), bool), LabelKind.IMPULSIVE) is None


@pytest.mark.parametrize("kind", list(LabelKind))
def test_the_scores_of_windows_are_those_of_the_scale(kind: LabelKind) -> None:
    scorer = LabelScorer(KnownModel(everyday=BANK), [label("x", "a thing", kind=kind)], LIBRARY.background)
    windows = np.concatenate([sound(2000), KnownModel().random("a thing")[None]])
    margins = scorer.margins(windows)[:, 0]
    assert margins.max() > scorer.scale("x").margin(0.7)
    np.testing.assert_allclose(scorer.scores(windows)[:, 0], scorer.scale("x").scores(margins), atol=0.003)
