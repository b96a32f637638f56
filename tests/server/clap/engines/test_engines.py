"""Each engine with its real library, against PyTorch in float32."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from clap_server.clap.engines import choosing, kinds, processor
from clap_server.clap.engines.engine import EngineError
from clap_server.clap.engines.kinds import KINDS
from clap_server.clap.huggingface import HuggingFaceClap

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from clap_server.clap.engines.engine import Engine
    from clap_server.clap.engines.kinds import Kind

# The least cosine with float32 that an engine has to have on tiny random models, by its number format.
LEAST = {"float32": 0.99999, "bfloat16": 0.999, "int8": 0.9}
NAMES = [kind.name for kind in KINDS if kind.device in {None, "cpu"}]


def kind_of(name: str) -> Kind:
    [kind] = [kind for kind in KINDS if kind.name == name]
    return kind


def built(model: HuggingFaceClap, name: str, folder: Path, *, export: bool) -> Engine:
    """Make an engine as a trial does, or as the server does after it."""
    source = model.subject.source(folder)
    if export:
        folder.mkdir()
        sounds = choosing.calibration_sounds(model.sample_rate, model.window_s)
        source = replace(source, calibration=model.features(sounds))
    return kind_of(name).build(source)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("checkpoint", ["fused", "unfused"])
def test_an_engine_computes_what_pytorch_does(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    windows: list[NDArray[np.float32]],
    checkpoint: str,
    name: str,
) -> None:
    folder = request.getfixturevalue(f"{checkpoint}_checkpoint")
    model = HuggingFaceClap(folder, name="tiny", device="cpu", cache_dir=tmp_path)
    expected = model.embed_audio(windows)
    features = model.features(windows)
    engine = built(model, name, tmp_path / "engine", export=True)
    assert (engine.name, engine.dtype) == (name, kind_of(name).dtype)
    together = engine.embed(features)
    assert (together.shape, together.dtype) == (expected.shape, np.float32)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-4)
    assert (together * expected).sum(axis=1).min() > LEAST[engine.dtype]
    # Alone and among others, in any number, and what was given out stays as it was.
    kept = together.copy()
    for count in (1, 3, 2, 5):
        np.testing.assert_allclose(engine.embed(features[:count]), kept[:count], atol=2e-3)
    np.testing.assert_array_equal(together, kept)
    engine.close()

    again = built(model, name, tmp_path / "engine", export=False)
    np.testing.assert_allclose(again.embed(features), kept, atol=2e-3)
    again.close()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("name", [kind.name for kind in KINDS if kind.device == "cuda"])
def test_the_gpu_computes_what_the_processor_does(
    fused_checkpoint: Path, tmp_path: Path, windows: list[NDArray[np.float32]], name: str
) -> None:
    on_cpu = HuggingFaceClap(fused_checkpoint, name="tiny", device="cpu", cache_dir=tmp_path)
    model = HuggingFaceClap(fused_checkpoint, name="tiny", device="cuda:0", cache_dir=tmp_path)
    assert kind_of(name).missing("cuda:0") is None
    engine = kind_of(name).build(model.subject.source(tmp_path))
    # More than the largest recorded batch, and no number of which there is a graph.
    many = [windows[row % len(windows)] for row in range(37)]
    found = engine.embed(model.features(many))
    assert (found * on_cpu.embed_audio(many)).sum(axis=1).min() > 0.999
    for count in (1, 3):
        np.testing.assert_allclose(engine.embed(model.features(many[:count])), found[:count], atol=2e-3)
    engine.close()


def test_a_gpu_engine_is_not_tried_on_the_processor() -> None:
    assert kind_of("cuda-float16").missing("cpu") == "it does not run on cpu"


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("torch")])
def test_a_server_exports_nothing(model: HuggingFaceClap, tmp_path: Path, name: str) -> None:
    with pytest.raises(EngineError, match="its graph is not where it was put"):
        built(model, name, tmp_path, export=False)
    assert not list(tmp_path.glob("tower*"))


def test_openvino_and_nncf_report_to_nobody(model: HuggingFaceClap, tmp_path: Path) -> None:
    built(model, "openvino-int8", tmp_path / "engine", export=True).close()
    assert sys.modules["openvino_telemetry"] is None


def test_a_library_that_is_missing_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert kind_of("openvino").missing("cpu") == "the library openvino is not installed"
    assert kinds.EAGER.missing("cpu") is None


def test_a_processor_without_the_number_format_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    for able in (False, True):
        monkeypatch.setattr(processor, "multiplies_bfloat16", lambda able=able: able)
        monkeypatch.setattr(processor, "multiplies_int8", lambda able=able: able)
        reasons = {kind_of(name).missing("cpu") for name in ("torch-bfloat16", "openvino-bfloat16")}
        assert reasons == {None if able else "this processor does not multiply in bfloat16"}
        assert (kind_of("openvino-int8").missing("cpu") is None) == able


def test_the_processor_is_known_by_what_it_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()
    for found in ({"avx2": True}, {"avx2": True, "avx512_vnni": True, "avx512_bf16": False}, {"bf16": True}):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda found=found: found)
        names.add(processor.description())
        assert processor.multiplies_bfloat16() == ("bf16" in found)
        assert processor.multiplies_int8() == ("avx512_vnni" in found)
    assert len(names) == 3
