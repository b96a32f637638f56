"""The audio tower of LAION's checkpoints, with random weights: theirs cannot be had where this is tested."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import ClapFeatureExtractor, ClapModel

from clap_server.clap.engines import choosing
from clap_server.clap.engines.checks import nearness
from clap_server.clap.huggingface import HuggingFaceClap
from tests.server.clap.checkpoints import write_htsat_tiny

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("fused", [True, False])
def test_laions_configurations_hear_what_transformers_hears(tmp_path: Path, fused: bool) -> None:
    folder = write_htsat_tiny(tmp_path / "checkpoint", fused=fused)
    model = HuggingFaceClap(folder, name="tiny", device="cpu", cache_dir=tmp_path)
    whole, *_, other = choosing.check_sounds(model.sample_rate, model.window_s)
    # As a stream begins: half a second, repeated; 3 s, repeated three times, with silence after it.
    sounds = [whole, other, whole[: model.sample_rate // 2], other[: 3 * model.sample_rate]]
    extractor = ClapFeatureExtractor.from_pretrained(folder)
    assert extractor.padding == "repeatpad"
    inputs = extractor(sounds, sampling_rate=model.sample_rate, return_tensors="pt")
    inputs["is_longer"] = torch.zeros_like(inputs["is_longer"])
    theirs: Any = ClapModel.from_pretrained(folder)
    with torch.inference_mode():
        expected = theirs.eval().get_audio_features(**inputs).pooler_output.numpy()
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)
    # With random weights all sounds lie near each other: the differences between them are what has to agree.
    apart = np.linalg.norm(expected[0] - expected[1])
    assert np.abs(model.embed_audio(sounds) - expected).max() < 0.01 * apart


def test_the_tower_of_laions_checkpoints_runs_in_openvino(tmp_path: Path) -> None:
    folder = write_htsat_tiny(tmp_path / "checkpoint", fused=True)
    model = HuggingFaceClap(folder, name="tiny", device="cpu", cache_dir=tmp_path)
    sounds = choosing.check_sounds(model.sample_rate, model.window_s)
    expected = model.embed_audio(sounds)
    assert expected.shape == (len(sounds), 512)
    model.use_engine("openvino", tmp_path, lambda _: None)
    assert model.engine == "openvino"
    near = nearness(model.embed_audio(sounds), expected)
    assert near.cosine > 0.99999
    assert near.deviation < 0.01
    [trial] = model.engine_trials
    assert trial.deviation == pytest.approx(near.deviation, abs=0.005)
    np.testing.assert_allclose(model.embed_audio(sounds[2:3]), expected[2:3], atol=1e-4)
