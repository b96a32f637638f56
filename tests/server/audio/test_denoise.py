"""Noise goes, what is said stays, and the length never changes."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server import synthesis
from clap_server.audio import denoise
from clap_server.audio.denoise import DELAY_S, Denoiser, check_denoise
from clap_server.errors import ConfigurationError

RATE = 48_000


@pytest.mark.parametrize("rate", [16_000, 32_000, RATE])
def test_noise_goes(rate: int) -> None:
    noise = 0.05 * synthesis.noise(np.random.default_rng(1), rate, kind="white", duration_s=4.0)
    clean = Denoiser(rate).take(noise)
    assert clean.dtype == np.float32
    # What it needs to learn the noise is left out.
    assert np.std(clean[2 * rate :]) < 0.1 * np.std(noise[2 * rate :])


@pytest.mark.parametrize("rate", [16_000, 44_100, RATE])
def test_what_is_loud_stays_and_comes_a_moment_later(rate: int) -> None:
    babble = 0.5 * synthesis.babble(np.random.default_rng(1), rate, duration_s=4.0, talkers=1)
    clean = Denoiser(rate).take(babble)
    assert len(clean) == len(babble)
    delays = range(round(0.02 * rate), round(0.12 * rate), rate // 1000)
    likeness = [float(np.dot(clean[delay:], babble[: len(babble) - delay])) for delay in delays]
    assert delays[int(np.argmax(likeness))] / rate == pytest.approx(DELAY_S, abs=0.025)
    assert max(likeness) > 0.3 * np.linalg.norm(babble) * np.linalg.norm(clean)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=20))
def test_portions_change_nothing(sizes: list[int]) -> None:
    sound = 0.3 * synthesis.babble(np.random.default_rng(2), RATE, duration_s=1.5)[: sum(sizes)]
    whole = Denoiser(RATE).take(sound)
    denoiser, start, parts = Denoiser(RATE), 0, []
    for size in sizes:
        parts.append(denoiser.take(sound[start : start + size]))
        start += size
    assert [len(part) for part in parts] == [
        len(sound[sum(sizes[:n]) : sum(sizes[: n + 1])]) for n in range(len(sizes))
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


@pytest.fixture
def _forgotten() -> Any:
    denoise._library.cache_clear()
    yield
    denoise._library.cache_clear()


@pytest.mark.usefixtures("_forgotten")
def test_where_it_is_not_installed_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match=r"install clap-server\[denoise\]"):
        check_denoise()


@pytest.mark.usefixtures("_forgotten")
def test_a_library_that_does_not_load_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "spec_from_file_location", lambda *_: None)
    with pytest.raises(ConfigurationError, match="cannot be loaded on this server"):
        Denoiser(RATE)
