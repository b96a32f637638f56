"""The audio tower of LAION's checkpoints, with random weights: theirs cannot be had where this is tested."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.clap.engines import choosing
from clap_server.clap.engines.checks import nearness
from clap_server.clap.huggingface import HuggingFaceClap
from tests.server.clap.checkpoints import write_htsat_tiny

if TYPE_CHECKING:
    from pathlib import Path


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
