"""From clips to a label that is found, and words for clips that teach nothing."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server.detection.labels import Label, LabelKind
from clap_server.detection.library import load_library, read_library
from clap_server.detection.scoring import LabelScorer
from clap_server.detection.separation import Separation, Verdict
from clap_server.detection.teaching import (
    LEAST_CLIPS,
    LONGEST_S,
    MOST_CLIPS,
    MOST_WINDOWS,
    SHORTEST_S,
    HeardClip,
    Lesson,
    TeachingError,
    default_threshold,
    hear_clip,
    kind_of,
    length_of_event,
    teach,
)
from clap_server.errors import LabelError, ModelError
from tests.server.listening.spectral import RATE, SpectralModel, room
from tests.support.banks import spectral_bank

if TYPE_CHECKING:
    from numpy.typing import NDArray

LIBRARY = load_library()
MODEL = SpectralModel()
MODEL.everyday = spectral_bank(MODEL.dimension, made_for="spectral 1")


def bell(seed: int, *, high_hz: float = 6200.0, duration_s: float = 1.5) -> NDArray[np.float32]:
    """Two tones that nothing everyday has together, in a room that differs a little."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(duration_s * RATE)) / RATE
    tones = np.sin(2 * np.pi * 4200 * time_s) + rng.uniform(0.7, 1.3) * np.sin(2 * np.pi * high_hz * time_s)
    ring = 0.1 * rng.uniform(0.5, 1) * tones * np.exp(-time_s)
    return np.asarray(room(duration_s, dbfs=-50, seed=seed) + ring, np.float32)


def buzz(seed: int) -> NDArray[np.float32]:
    """A low tone, always the same beside some other, of which everyday sound is full."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(2 * RATE) / RATE
    other = rng.uniform(0.3, 0.6) * np.sin(2 * np.pi * rng.uniform(80, 1500) * time_s)
    hum = 0.1 * (np.sin(2 * np.pi * 430 * time_s) + other)
    return np.asarray(room(2, seed=seed) + hum, np.float32)


def clips(*sounds: NDArray[np.float32]) -> list[HeardClip]:
    return [hear_clip(MODEL, sound, number, f"clip {number + 1}") for number, sound in enumerate(sounds)]


def learn(heard: list[HeardClip], model: SpectralModel = MODEL, name: str = "my bell") -> Lesson:
    words = replace(LIBRARY.in_words(name), kind=LabelKind.IMPULSIVE)
    return teach(model, LIBRARY, words, heard, [f"clip {number + 1}" for number in range(len(heard))])


@cache
def taught_label() -> Label:
    return learn(clips(*(bell(number) for number in range(3)))).label


def test_a_taught_sound_is_found_and_everyday_sound_is_not() -> None:
    lesson = learn(clips(*(bell(seed) for seed in range(5))))
    assert lesson.separation == Separation(5, 5, 5)
    assert lesson.separation.verdict is Verdict.GOOD
    assert lesson.label.threshold == pytest.approx(0.7)
    scorer = LabelScorer(MODEL, [lesson.label], LIBRARY.background)
    again = hear_clip(MODEL, bell(77), 0, "again")
    assert scorer.scores(again.embeddings).max() >= 0.7
    assert MODEL.everyday is not None
    everyday = scorer.scores(MODEL.everyday.embeddings())[:, 0]
    assert (everyday >= 0.7).mean() < 0.002
    assert scorer.scores(hear_clip(MODEL, bell(78, high_hz=500), 0, "other").embeddings).max() < 0.7


def test_with_another_model_or_without_a_bank_it_has_no_score() -> None:
    label = learn(clips(*(bell(seed) for seed in range(3)))).label
    again = hear_clip(MODEL, bell(77), 0, "again").embeddings
    for everyday in (None, spectral_bank(MODEL.dimension, made_for="spectral 2")):
        other = SpectralModel()
        other.everyday = everyday
        assert not LabelScorer(other, [label], LIBRARY.background).scores(again).any()


def test_no_text_is_said_to_be_nearer_than_a_sound_that_its_clips_tell() -> None:
    scorer = LabelScorer(MODEL, [taught_label()], LIBRARY.background, ["an alarm clock"])
    assert scorer.nearer_text(MODEL.embed_text(["an alarm clock"])[0], taught_label().id) is None


def test_other_labels_do_not_move_its_score_nor_it_theirs() -> None:
    label = learn(clips(*(bell(seed) for seed in range(4)))).label
    again = hear_clip(MODEL, bell(77), 0, "again").embeddings
    glass = LIBRARY.resolve("glass breaking")
    both = LabelScorer(MODEL, [glass, label], LIBRARY.background).scores(again)
    assert np.allclose(both[:, [1]], LabelScorer(MODEL, [label], LIBRARY.background).scores(again))
    assert np.allclose(both[:, [0]], LabelScorer(MODEL, [glass], LIBRARY.background).scores(again))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_the_score_rises_with_the_likeness_to_the_clips(seed: int) -> None:
    label = taught_label()
    scorer = LabelScorer(MODEL, [label], LIBRARY.background)
    assert label.taught is not None
    start = np.random.default_rng(seed).random(MODEL.dimension) * (np.arange(MODEL.dimension) < 10)
    target = label.taught.embeddings[0]
    path = np.stack([(1 - part) * start + part * target for part in (0.0, 0.5, 1.0)])
    values = scorer.scores(np.asarray(path / np.linalg.norm(path, axis=1, keepdims=True), np.float32))[:, 0]
    assert values[0] <= values[2]
    assert values[2] >= 0.7


def test_clips_of_one_kind_that_are_like_everyday_sound_cannot_be_told_apart() -> None:
    lesson = learn(clips(*(buzz(seed) for seed in range(6))))
    assert lesson.separation == Separation(6, 0, 0)
    assert lesson.separation.verdict is Verdict.CANNOT_BE_TOLD_APART
    assert lesson.label.threshold == pytest.approx(0.5)
    assert "do not rely on it" in lesson.separation.words


@pytest.mark.parametrize("pitches_hz", [(90, 300, 800, 1500), (80, 160, 300, 600, 1000, 1600)])
def test_clips_each_unlike_the_others_are_refused(pitches_hz: tuple[float, ...]) -> None:
    def hum(pitch_hz: float) -> NDArray[np.float32]:
        time_s = np.arange(2 * RATE) / RATE
        return np.asarray(
            room(2, seed=round(pitch_hz)) + 0.1 * np.sin(2 * np.pi * pitch_hz * time_s), np.float32
        )

    with pytest.raises(TeachingError) as error:
        learn(clips(*(hum(pitch_hz) for pitch_hz in pitches_hz)))
    assert (error.value.code, error.value.clip) == ("clips_of_no_one_kind", None)
    assert f"none of {len(pitches_hz)} would be found" in str(error.value)


@pytest.mark.parametrize("count", [0, 1, LEAST_CLIPS - 1, MOST_CLIPS + 1])
def test_too_few_or_too_many_clips_are_refused(count: int) -> None:
    [heard] = clips(bell(1))
    with pytest.raises(TeachingError) as error:
        learn([heard] * count)
    assert error.value.code == ("too_few_clips" if count < LEAST_CLIPS else "too_many_clips")


def test_the_same_clip_again_and_again_is_refused() -> None:
    one, other = clips(bell(1), bell(2))
    with pytest.raises(TeachingError) as error:
        learn([one, one, one, other])
    assert error.value.code == "clips_alike"
    assert "only 2 different" in str(error.value)


def test_a_clip_of_something_else_is_named() -> None:
    time_s = np.arange(2 * RATE) / RATE
    odd = np.asarray(room(2, seed=9) + 0.1 * np.sin(2 * np.pi * 300 * time_s), np.float32)
    with pytest.raises(TeachingError) as error:
        learn(clips(bell(0), bell(1), odd, bell(3), bell(4)))
    assert (error.value.code, error.value.clip) == ("unlike_clip", 2)
    assert str(error.value).startswith("clip 3 ")


@pytest.mark.parametrize(
    ("samples", "code"),
    [
        (np.zeros(RATE, np.float32), "silent_clip"),
        (1e-5 * room(1, dbfs=0), "silent_clip"),
        (bell(1)[: round(SHORTEST_S * RATE) - 10], "clip_too_short"),
        (np.tile(bell(1), 11)[: round((LONGEST_S + 1) * RATE)], "clip_too_long"),
    ],
)
def test_a_clip_that_teaches_nothing_is_named(samples: NDArray[np.float32], code: str) -> None:
    with pytest.raises(TeachingError) as error:
        hear_clip(MODEL, samples, 4, "clip 5")
    assert (error.value.code, error.value.clip) == (code, 4)
    assert str(error.value).startswith("clip 5 ")


def test_clips_of_one_second_teach_as_well_as_longer_ones() -> None:
    assert learn(clips(*(bell(seed, duration_s=1.0) for seed in range(4)))).separation.found_at_one_a_day == 4


@given(st.floats(0.3, 14), st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_of_a_clip_of_any_length_a_bounded_number_of_windows_is_kept(duration_s: float, seed: int) -> None:
    heard = hear_clip(MODEL, bell(seed, duration_s=duration_s), 0, "clip")
    assert 1 <= len(heard.examples) <= MOST_WINDOWS
    assert len(heard.embeddings) == len(heard.ends_s) >= 1
    assert np.all(np.diff(heard.ends_s) >= 0)


def test_the_length_of_the_clips_says_how_the_sound_behaves() -> None:
    assert kind_of([1.5] * 3) is LabelKind.IMPULSIVE
    assert kind_of([1.5, 8.0, 8.0]) is LabelKind.SUSTAINED


@pytest.mark.parametrize("window_s", [2.0, 10.0])
def test_the_window_is_no_part_of_how_long_an_event_sounded(window_s: float) -> None:
    assert length_of_event(window_s, window_s) == 0, "a click is heard in each window that holds it"
    assert length_of_event(window_s + 5, window_s) == 5
    assert length_of_event(0.5, window_s) == 0


def test_without_everyday_sound_nothing_can_be_promised() -> None:
    model = SpectralModel()
    model.everyday = None
    with pytest.raises(ModelError, match="everyday sound"):
        learn(clips(*(bell(seed) for seed in range(3))), model)


@given(st.integers(1, 20), st.data())
def test_verdicts_follow_the_shares(count: int, data: st.DataObject) -> None:
    an_hour = data.draw(st.integers(0, count))
    a_day = data.draw(st.integers(0, an_hour))
    found = Separation(count, a_day, an_hour)
    better = Separation(count, min(a_day + 1, count), min(an_hour + 1, count))
    order = [Verdict.CANNOT_BE_TOLD_APART, Verdict.FAIR, Verdict.GOOD]
    assert order.index(better.verdict) >= order.index(found.verdict)
    assert default_threshold(found) in (0.5, 0.7)
    assert f"{a_day} of {count} clips" in found.words


def test_a_taught_sound_is_resolved_by_name_and_id_until_it_is_forgotten() -> None:
    library = read_library()
    label = learn(clips(*(bell(seed) for seed in range(3)))).label
    library.teach([label])
    assert library.resolve("My  Bell") is label
    assert library.resolve(label.id) is label
    assert library.resolve("glass breaking").library
    assert load_library().taught == ()
    library.teach([])
    assert library.resolve("my bell").taught is None


@pytest.mark.parametrize("name", ["doorbell", "玻璃破碎", "normal", "Smoke Alarm"])
def test_a_name_of_the_library_cannot_be_taught(name: str) -> None:
    library = read_library()
    with pytest.raises(LabelError, match="choose another"):
        library.in_words(name)
