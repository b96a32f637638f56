"""Learning with the model that is shipped, on synthesised sounds of a home."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server import synthesis
from clap_server.clap.builtin import load_builtin
from clap_server.clap.everyday import Piece
from clap_server.detection.everyday.making import BankMaker
from clap_server.detection.everyday.scale import LEAST_BLOCKS
from clap_server.detection.examples import Examples, made_for
from clap_server.detection.labels import LabelKind
from clap_server.detection.library import load_library
from clap_server.detection.scoring import LabelScorer
from clap_server.detection.teaching import hear_clip, teach

if TYPE_CHECKING:
    from clap_server.clap.builtin.model import BuiltinClap

RATE = synthesis.SAMPLE_RATE
LIBRARY = load_library()
_EVERYDAY = (synthesis.dishes, synthesis.cutlery, synthesis.coins, synthesis.babble, synthesis.thud)


def placed(sound: np.ndarray, seed: int, *, snr_db: float = 20.0) -> np.ndarray:
    """In a room of its own, over noise of its own."""
    rng = np.random.default_rng(seed)
    wet = synthesis.reverberate(sound, rng, RATE)
    noise = synthesis.noise(rng, RATE, duration_s=len(wet) / RATE + 1.2)
    scene = np.zeros(len(wet) + RATE, np.float32)
    scene += 0.02 * np.resize(noise, len(scene))
    return synthesis.mix_at(scene, wet, 0.6, snr_db, RATE)


@pytest.fixture(scope="module")
def model() -> BuiltinClap:
    found = load_builtin("cpu")
    maker = BankMaker(found)
    for number in range(LEAST_BLOCKS + 2):
        rng = np.random.default_rng(number)
        sound = _EVERYDAY[number % len(_EVERYDAY)](rng, RATE)[: round(0.5 * RATE)]
        maker.add([sound + 0.01 * rng.standard_normal(len(sound)).astype(np.float32)], Piece())
    found.everyday = maker.bank("builtin for a test", "synthesised sounds")
    return found


def test_the_same_cutlery_stays_away_and_breaking_glass_does_not(model: BuiltinClap) -> None:
    cutlery = synthesis.cutlery(np.random.default_rng(50), RATE)
    heard = hear_clip(model, placed(cutlery, 1), 0, "cutlery")
    glass, metal = LIBRARY.resolve("glass breaking"), LIBRARY.resolve("metal impact")
    wrong = (Examples.of(made_for(model), [heard.examples]),)
    before = LabelScorer(model, [glass, metal], LIBRARY.background)
    after = LabelScorer(model, [replace(glass, wrong=wrong), metal], LIBRARY.background)
    again = hear_clip(model, 0.5 * placed(cutlery, 2), 0, "again").examples
    assert after.scores(again)[:, 0].mean() < 0.5 * before.scores(again)[:, 0].mean()
    panes = np.concatenate(
        [
            hear_clip(
                model, placed(synthesis.glass_break(np.random.default_rng(seed), RATE), seed), 0, "pane"
            ).examples
            for seed in range(4)
        ]
    )
    assert after.scores(panes)[:, 0].max() == pytest.approx(before.scores(panes)[:, 0].max(), abs=0.05)
    assert np.array_equal(after.scores(again)[:, 1], before.scores(again)[:, 1])


def test_my_chime_is_learnt_from_five_clips(model: BuiltinClap) -> None:
    time_s = np.arange(round(0.9 * RATE)) / RATE
    notes = [np.sin(2 * np.pi * hz * time_s) * np.exp(-4 * time_s) for hz in (830.0, 660.0)]
    sound = np.concatenate(notes).astype(np.float32)
    clips = [hear_clip(model, placed(sound, seed), seed, f"clip {seed}") for seed in range(5)]
    words = replace(LIBRARY.in_words("my doorbell"), kind=LabelKind.IMPULSIVE)
    lesson = teach(model, LIBRARY, words, clips, [f"clip {seed}" for seed in range(5)])
    assert lesson.separation.found_at_one_an_hour >= 4
    scorer = LabelScorer(model, [lesson.label], LIBRARY.background)
    found = [
        scorer.scores(hear_clip(model, placed(sound, seed, snr_db=12), 0, "again").embeddings).max()
        for seed in range(20, 24)
    ]
    assert sum(score >= 0.5 for score in found) >= 3
