"""How near an engine has to come to float32, and on which sounds."""

from __future__ import annotations

import numpy as np
import pytest

from clap_server.clap.engines.checks import (
    MAX_DEVIATION,
    MIN_COSINE,
    calibration_sounds,
    check_sounds,
    nearness,
)

RATE = 48_000


def embeddings(count: int, dimension: int = 64, *, spread: float = 1.0) -> np.ndarray:
    """Directions around one that all have in common."""
    rng = np.random.default_rng(2)
    rows = np.eye(1, dimension) + spread * rng.normal(0, dimension**-0.5, (count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def moved(rows: np.ndarray, cosine: float) -> np.ndarray:
    """Rows turned each by the angle of that cosine, away from all others."""
    free = np.random.default_rng(9).normal(size=rows.shape)
    free -= (free * rows).sum(axis=1, keepdims=True) * rows
    free /= np.linalg.norm(free, axis=1, keepdims=True)
    return (cosine * rows + np.sqrt(1 - cosine**2) * free).astype(np.float32)


def test_what_is_equal_is_near() -> None:
    rows = embeddings(6)
    near = nearness(rows, rows)
    assert (near.cosine, near.deviation, near.problem) == (pytest.approx(1.0), 0.0, None)


@pytest.mark.parametrize(
    ("cosine", "near"), [(0.999, True), (MIN_COSINE + 0.001, True), (MIN_COSINE - 0.001, False)]
)
def test_the_least_cosine_decides(cosine: float, near: bool) -> None:
    rows = embeddings(6)
    found = rows.copy()
    found[3] = moved(rows, cosine)[3]
    assert nearness(found, rows).cosine == pytest.approx(cosine, abs=1e-5)
    assert (nearness(found, rows).problem is None) == near


def test_where_all_sounds_are_alike_the_cosine_does_not_suffice() -> None:
    rows = embeddings(6, spread=0.05)
    deaf = np.repeat(rows.mean(axis=0, keepdims=True), 6, axis=0)
    found = nearness(deaf, rows)
    assert found.cosine > MIN_COSINE
    assert found.deviation > MAX_DEVIATION
    assert "of the distance between two sounds" in (found.problem or "")


def test_an_embedding_of_another_length_is_not_near() -> None:
    rows = embeddings(6)
    assert nearness(2 * rows, rows).problem is not None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_near(value: float) -> None:
    rows = embeddings(6)
    found = rows.copy()
    found[2, 1] = value
    assert nearness(found, rows).problem is not None


def test_another_shape_is_not_near() -> None:
    rows = embeddings(6)
    assert nearness(rows[:5], rows).problem is not None
    assert nearness(rows[:, :32], rows).problem is not None


@pytest.mark.parametrize("window_s", [1.0, 2.0, 10.0])
def test_check_sounds_are_whole_windows_and_the_same_each_time(window_s: float) -> None:
    sounds = check_sounds(RATE, window_s)
    for sound, again in zip(sounds, check_sounds(RATE, window_s), strict=True):
        np.testing.assert_array_equal(sound, again)
        assert sound.shape == (round(window_s * RATE),)
        assert sound.dtype == np.float32
        assert 1e-4 < np.abs(sound).max() <= 1.0


def test_nothing_is_calibrated_on_what_is_checked() -> None:
    checked = {sound.tobytes() for sound in check_sounds(RATE, 1.0)}
    calibrated = {sound.tobytes() for sound in calibration_sounds(RATE, 1.0)}
    assert checked
    assert calibrated
    assert not checked & calibrated
