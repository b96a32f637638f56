"""What a score promises, on a model whose embeddings are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clap_server.detection.everyday.scale import GUESS
from clap_server.detection.labels import Label
from clap_server.detection.library import NORMAL, load_library
from clap_server.detection.scoring import TEMPERATURE, LabelScorer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clap_server.clap.everyday import EverydayBank
    from clap_server.clap.model import ClapModel

LIBRARY = load_library()


class KnownModel:
    """A CLAP model whose text embeddings are random but fixed, save for those that a test lays down."""

    name = "known"
    builtin = False
    device = "cpu"
    dtype = "float32"
    sample_rate = 48000
    window_s = 2.0
    dimension = 64

    def __init__(
        self,
        laid_down: dict[str, NDArray[np.float32]] | None = None,
        everyday: EverydayBank | None = None,
    ) -> None:
        self.laid_down = laid_down or {}
        self.everyday = everyday
        self.calls = 0

    def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        raise NotImplementedError

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls += 1
        return np.stack([self.laid_down.get(text, self.random(text)) for text in texts])

    def random(self, text: str) -> NDArray[np.float32]:
        vector = np.random.default_rng(list(text.encode())).normal(size=self.dimension)
        return np.asarray(vector / np.linalg.norm(vector), np.float32)


def axis(index: int) -> NDArray[np.float32]:
    vector = np.zeros(KnownModel.dimension, np.float32)
    vector[index] = 1.0
    return vector


def windows(count: int = 50) -> NDArray[np.float32]:
    vectors = np.random.default_rng(3).normal(size=(count, KnownModel.dimension))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def direction(rng: np.random.Generator) -> NDArray[np.float32]:
    vector = rng.normal(size=KnownModel.dimension)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def label(label_id: str, *prompts: str, negatives: tuple[str, ...] = ()) -> Label:
    return Label(id=label_id, names={"en": label_id}, prompts=prompts, negatives=negatives)


def test_the_model_fits_the_interface() -> None:
    model: ClapModel = KnownModel()
    assert model.dimension == 64


def test_adding_labels_moves_no_other_score() -> None:
    model = KnownModel()
    few = [LIBRARY.resolve("glass breaking"), LIBRARY.resolve("my own sound")]
    many = [*LIBRARY.labels, few[1], LIBRARY.resolve("a second one")]
    alone = LabelScorer(model, few, LIBRARY.background)
    together = LabelScorer(model, many, LIBRARY.background)
    columns = [together.label_ids.index(label_id) for label_id in alone.label_ids]
    np.testing.assert_allclose(together.scores(windows())[:, columns], alone.scores(windows()), atol=1e-7)


def test_the_margin_is_the_documented_formula() -> None:
    model = KnownModel()
    scorer = LabelScorer(model, [label("x", "one", "two", negatives=("not this",))], ["b1", "b2"], ["mine"])
    audio = windows(4).astype(np.float64)
    cosines = np.exp(audio @ model.embed_text(["one", "two", "b1", "b2", "not this", "mine"]).T / TEMPERATURE)
    margin = TEMPERATURE * (np.log(cosines[:, :2].mean(axis=1)) - np.log(cosines[:, 2:].sum(axis=1)))
    np.testing.assert_allclose(scorer.margins(windows(4))[:, 0], margin, atol=1e-9)
    np.testing.assert_allclose(scorer.scores(windows(4))[:, 0], GUESS.scores(margin), atol=1e-6)


def test_texts_are_embedded_once() -> None:
    model = KnownModel()
    scorer = LabelScorer(model, LIBRARY.labels, LIBRARY.background)
    scorer.scores(windows())
    scorer.scores(windows())
    assert model.calls == 1


def test_a_matching_window_scores_high_and_a_background_window_low() -> None:
    model = KnownModel({"bell": axis(0), "quiet": axis(1)})
    scores = LabelScorer(model, [label("bell", "bell")], ["quiet", "rain"]).scores(
        np.stack([axis(0), axis(1)])
    )
    assert scores.dtype == np.float32
    assert scores[0, 0] > 0.9
    assert scores[1, 0] < 0.1


def test_repeating_a_prompt_changes_nothing() -> None:
    model = KnownModel()
    once = LabelScorer(model, [label("x", "one", "two")], LIBRARY.background)
    again = LabelScorer(model, [label("x", "one", "two", "one")], LIBRARY.background)
    np.testing.assert_allclose(once.scores(windows()), again.scores(windows()))


def test_one_matching_prompt_of_many_is_enough() -> None:
    model = KnownModel(
        {"beep": axis(0), "bell": axis(1), "siren": axis(2), "horn": axis(3), "quiet": axis(4)}
    )
    scorer = LabelScorer(model, [label("alarm", "beep", "bell", "siren", "horn")], ["quiet"])
    assert (scorer.scores(np.stack([axis(n) for n in range(4)])) > 0.9).all()


def test_a_negative_can_only_lower_a_score() -> None:
    model = KnownModel()
    labels = [LIBRARY.resolve("glass breaking"), LIBRARY.resolve("doorbell")]
    before = LabelScorer(model, labels, LIBRARY.background).scores(windows())
    after = LabelScorer(model, labels, LIBRARY.background, ["dishes in the sink"]).scores(windows())
    assert (after <= before).all()
    assert (after < before).any()


def test_what_the_user_says_it_is_not_wins_over_the_label() -> None:
    model = KnownModel({"clink": axis(0), "dishes": axis(0)})
    without = LabelScorer(model, [label("x", "clink")], ["quiet"])
    given = LabelScorer(model, [label("x", "clink")], ["quiet"], ["dishes"])
    assert without.scores(axis(0)[None])[0, 0] > 0.9
    assert given.margins(axis(0)[None])[0, 0] < 0.0


def test_a_background_sound_can_be_a_label() -> None:
    model = KnownModel()
    scorer = LabelScorer(model, [LIBRARY.resolve("speech")], LIBRARY.background)
    assert "people talking" in LIBRARY.background
    assert scorer.scores(model.random("people talking")[None])[0, 0] > 0.9
    other = LabelScorer(model, [LIBRARY.resolve("doorbell")], LIBRARY.background)
    assert other.scores(model.random("people talking")[None])[0, 0] < 0.1


@pytest.mark.parametrize("text", ["heavy rain", "the sound of rain", "Rain on the window"])
def test_a_finer_description_of_a_background_sound_can_be_a_label(text: str) -> None:
    model = KnownModel()
    mine = LIBRARY.resolve(text)
    model.laid_down = dict.fromkeys(mine.prompts, model.random("rain"))
    scores = LabelScorer(model, [mine, LIBRARY.resolve("alarm")], LIBRARY.background).scores(
        model.random("rain")[None]
    )
    assert "rain" in LIBRARY.background
    assert scores[0, 0] > 0.9
    assert scores[0, 1] < 0.1


def test_no_label_of_the_library_loses_more_of_the_bank_than_what_it_names() -> None:
    named = {
        text
        for label in LIBRARY.labels
        for text in LIBRARY.background
        if label.id
        not in {"speech", "laughter", "music", "vacuum_cleaner", "footsteps", "vehicle", "water_running"}
        for prompt in label.prompts
        if set(text.split()) <= set(prompt.split())
    }
    assert named == set()


def test_a_model_that_tells_no_texts_apart_still_has_a_bank() -> None:
    same = {text: axis(0) for text in ("a", "b", "c", "d", "e")}
    scorer = LabelScorer(KnownModel(same), [label("x", "a")], ["b", "c", "d", "e"])
    margin = scorer.margins(axis(0)[None])[0, 0]
    assert margin == pytest.approx(-TEMPERATURE * np.log(2))  # two of four are left


def test_normal_is_what_the_others_leave() -> None:
    scorer = LabelScorer(
        KnownModel(), [LIBRARY.resolve("alarm"), NORMAL, LIBRARY.resolve("doorbell")], LIBRARY.background
    )
    assert scorer.label_ids == ("alarm", "normal", "doorbell")
    scores = scorer.scores(windows())
    np.testing.assert_allclose(scores[:, 1], 1 - scores[:, [0, 2]].max(axis=1), atol=1e-6)
    margins = scorer.margins(windows())
    np.testing.assert_allclose(margins[:, 1], -margins[:, [0, 2]].max(axis=1))


def test_normal_alone_is_what_the_security_labels_leave() -> None:
    model = KnownModel()
    alone = LabelScorer(model, [NORMAL], LIBRARY.background)
    security = [entry for entry in LIBRARY.labels if entry.security]
    expected = 1 - LabelScorer(model, security, LIBRARY.background).scores(windows()).max(axis=1)
    assert alone.label_ids == ("normal",)
    np.testing.assert_allclose(alone.scores(windows())[:, 0], expected, atol=1e-6)


def test_softmax_is_over_the_given_labels_alone() -> None:
    model = KnownModel()
    labels = [LIBRARY.resolve("alarm"), LIBRARY.resolve("doorbell")]
    found = LabelScorer(model, labels, LIBRARY.background).distribution(windows())
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    with_normal = LabelScorer(model, [*labels, NORMAL], LIBRARY.background).distribution(windows())
    np.testing.assert_allclose(with_normal.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(with_normal[:, 0] / with_normal[:, 1], found[:, 0] / found[:, 1], rtol=1e-4)
    quiet = model.random(LIBRARY.background[0])[None]
    assert with_normal.shape == (50, 3)
    assert LabelScorer(model, [*labels, NORMAL], LIBRARY.background).distribution(quiet)[0, 2] > 0.9


def test_a_label_given_twice_is_scored_once() -> None:
    twice = [LIBRARY.resolve("alarm"), LIBRARY.resolve("Alarm!")]
    assert LabelScorer(KnownModel(), twice, LIBRARY.background).label_ids == ("alarm",)


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(ValueError, match="no labels"):
        LabelScorer(KnownModel(), [], LIBRARY.background)
    with pytest.raises(ValueError, match="background"):
        LabelScorer(KnownModel(), LIBRARY.labels, [])


def test_a_label_without_prompts_has_no_score_and_changes_no_other() -> None:
    smoke, chirp = LIBRARY.resolve("smoke_alarm"), LIBRARY.resolve("smoke_alarm_low_battery")
    model = KnownModel()
    windows = model.embed_text(["a", "b", "c"])
    scorer = LabelScorer(model, [chirp, smoke], LIBRARY.background)
    alone = LabelScorer(model, [smoke], LIBRARY.background)
    np.testing.assert_array_equal(scorer.scores(windows)[:, 0], 0)
    np.testing.assert_allclose(scorer.scores(windows)[:, 1], alone.scores(windows)[:, 0], rtol=1e-6)
    assert (scorer.margins(windows)[:, 0] == -np.inf).all()
    np.testing.assert_array_equal(LabelScorer(model, [chirp], LIBRARY.background).scores(windows), 0)
    np.testing.assert_array_equal(
        LabelScorer(model, [chirp], LIBRARY.background).distribution(windows), np.zeros((3, 1))
    )


@given(st.integers(0, 500))
def test_what_a_window_is_more_like_is_the_nearest_text_that_the_label_is_compared_with(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names, prompts, negatives = [f"text {number}" for number in range(6)], ["glass", "pane"], ["spoon", "cup"]
    places = {name: direction(rng) for name in [*prompts, *negatives, *names]}
    glass = label("glass", *prompts, negatives=("spoon",))
    scorer = LabelScorer(KnownModel(places), [glass], names, ["cup"])
    window = direction(rng)
    cosines = {name: float(place @ window) for name, place in places.items()}
    compared = {name for name in names if max(places[name] @ places[prompt] for prompt in prompts) < 0.9}
    best = max(compared | set(negatives), key=cosines.__getitem__)
    own = max(cosines[prompt] for prompt in prompts)
    found = scorer.nearer_text(window, "glass")
    if cosines[best] <= own:
        assert found is None
    else:
        assert found is not None
        assert found.text == best
        assert found.cosine == pytest.approx(cosines[best], abs=1e-6)
        assert found.label_cosine == pytest.approx(own, abs=1e-6)


def test_of_a_label_that_texts_do_not_tell_nothing_is_nearer() -> None:
    scorer = LabelScorer(KnownModel({"glass": axis(0)}), [label("glass", "glass")], ["some"])
    assert scorer.nearer_text(axis(1), "smoke_alarm_low_battery") is None
