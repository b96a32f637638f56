"""The log-mel spectrogram against the extractor of transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
import torch
from transformers import ClapFeatureExtractor
from transformers.audio_utils import mel_filter_bank

from clap_server.clap.features import LogMel, mel_filters, repeat_pad

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 48000
Filters = Literal["slaney", "htk"]


def sounds(seconds: float) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    time_s = np.arange(int(seconds * RATE)) / RATE
    every = {
        "noise": rng.normal(0, 0.1, len(time_s)),
        "tone": 0.9 * np.sin(2 * np.pi * 3100 * time_s),
        "pulses": np.where(time_s % 0.2 < 0.1, 0.5 * np.sin(2 * np.pi * 520 * time_s), 0.0),
        "silence": np.zeros(len(time_s)),
    }
    return {name: sound.astype(np.float32) for name, sound in every.items()}


@pytest.mark.parametrize("filters", ["slaney", "htk"])
@pytest.mark.parametrize("sound", ["noise", "tone", "pulses", "silence"])
def test_spectrogram_equals_the_extractor_of_transformers(filters: Filters, sound: str) -> None:
    extractor = ClapFeatureExtractor(
        frequency_min=50,
        frequency_max=14000,
        max_length_s=3,
        truncation="fusion" if filters == "htk" else "rand_trunc",
    )
    samples = sounds(3)[sound]
    expected = extractor(samples, sampling_rate=RATE, return_tensors="pt")["input_features"][0, 0]
    found = LogMel(filters=filters)(torch.from_numpy(samples)[None])[0]
    assert found.shape == expected.shape == (301, 64)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected.float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("filters", ["slaney", "htk"])
def test_filters_equal_those_of_transformers(filters: Filters) -> None:
    expected = mel_filter_bank(
        num_frequency_bins=513,
        num_mel_filters=64,
        min_frequency=50.0,
        max_frequency=14000.0,
        sampling_rate=RATE,
        norm="slaney" if filters == "slaney" else None,
        mel_scale=filters,
    )
    np.testing.assert_allclose(
        mel_filters(sample_rate=RATE, n_fft=1024, n_mels=64, fmin_hz=50.0, fmax_hz=14000.0, filters=filters),
        expected,
        atol=1e-12,
    )


def test_the_two_kinds_of_filters_differ_so_mixing_them_up_would_be_seen() -> None:
    samples = torch.from_numpy(sounds(1)["noise"])
    assert (LogMel(filters="htk")(samples) - LogMel(filters="slaney")(samples)).abs().max() > 10


def test_a_row_of_a_batch_is_the_same_alone() -> None:
    rows = torch.from_numpy(np.stack(list(sounds(1).values())))
    log_mel = LogMel()
    batch = log_mel(rows)
    for row, found in zip(rows, batch, strict=True):
        assert torch.equal(log_mel(row), found)


def test_frames_tells_the_length_before_computing() -> None:
    log_mel = LogMel()
    for samples in (1024, 47999, 48000, 48001):
        assert log_mel(torch.zeros(samples)).shape[0] == log_mel.frames(samples)


def test_autocast_leaves_the_spectrogram_exact() -> None:
    samples = torch.from_numpy(sounds(1)["noise"])
    log_mel = LogMel()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = log_mel(samples)
    assert torch.equal(found, log_mel(samples))


@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.0, 1.3, 1.9, 3.0])
def test_short_windows_are_filled_up_as_the_extractor_does(seconds: float, padding: str) -> None:
    extractor = ClapFeatureExtractor(
        frequency_min=50, max_length_s=3, truncation="rand_trunc", padding=padding
    )
    samples = sounds(seconds)["noise"]
    expected = extractor(samples, sampling_rate=RATE, return_tensors="pt")["input_features"][0, 0]
    found = LogMel()(repeat_pad([samples], 3 * RATE, padding))[0]
    assert torch.allclose(found, expected.float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("count", [0, 101])
def test_a_window_of_no_usable_length_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 100 samples"):
        repeat_pad([np.zeros(count, np.float32)], 100)


def test_an_unknown_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown padding"):
        repeat_pad([np.zeros(10, np.float32)], 100, "mirror")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_the_gpu_computes_the_same_spectrogram() -> None:
    rows = torch.from_numpy(np.stack(list(sounds(2).values())))
    log_mel = LogMel()
    expected = log_mel(rows)
    assert torch.allclose(log_mel.cuda()(rows.cuda()).cpu(), expected, atol=1e-3, rtol=0)
