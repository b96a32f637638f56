"""CLAP checkpoints against transformers' own way, and the facts about transformers that we build on."""

from __future__ import annotations

import gc
import inspect
import json
import os
import shutil
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import ClapFeatureExtractor, ClapModel, ZeroShotAudioClassificationPipeline, pipeline

from clap_server.clap import huggingface
from clap_server.clap.engines.choosing import Choice
from clap_server.clap.engines.trials import Trial
from clap_server.clap.huggingface import HuggingFaceClap, caption, weights_hash
from clap_server.errors import ModelError
from tests.server.clap.checkpoints import WINDOW_S, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from clap_server.clap.engines.engine import Engine
    from clap_server.clap.model import ClapModel as OurClapModel

RATE = 48000
SOUNDS = ["a bell", "glass breaking", "very long description " * 8, "玻璃破碎"]
TEXTS = ["a bell", "a recording of glass breaking.", " the sound of " + SOUNDS[2], "玻璃破碎"]


def windows() -> list[NDArray[np.float32]]:
    """Sounds of different kinds and lengths."""
    rng = np.random.default_rng(5)
    time_s = np.arange(WINDOW_S * RATE) / RATE
    sounds = [
        rng.normal(0, 0.1, len(time_s)),
        0.5 * np.sin(2 * np.pi * 3100 * time_s) * (time_s % 0.2 < 0.1),
        rng.normal(0, 0.3, len(time_s)) * np.exp(-5 * time_s),
        0.3 * np.sin(2 * np.pi * 440 * time_s)[: RATE // 2],
        rng.normal(0, 0.01, RATE),
        np.zeros(RATE),
    ]
    return [sound.astype(np.float32) for sound in sounds]


@pytest.fixture(params=["fused", "unfused"])
def checkpoint(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(f"{request.param}_checkpoint")
    return folder


@pytest.fixture
def model(checkpoint: Path, tmp_path: Path) -> HuggingFaceClap:
    return load(checkpoint, tmp_path)


def load(folder: Path, cache_dir: Path, *, device: str = "cpu") -> HuggingFaceClap:
    return HuggingFaceClap(folder, name="tiny", device=device, cache_dir=cache_dir)


def in_transformers(folder: Path) -> Any:
    model: Any = ClapModel.from_pretrained(folder)
    return model.eval()


def test_it_fits_the_interface(model: HuggingFaceClap) -> None:
    fits: OurClapModel = model
    assert (fits.name, fits.builtin, fits.device, fits.dtype) == ("tiny", False, "cpu", "float32")
    assert (fits.sample_rate, fits.window_s, fits.dimension) == (RATE, WINDOW_S, 32)
    assert fits.everyday is None


def test_audio_embeddings_equal_those_of_transformers(checkpoint: Path, model: HuggingFaceClap) -> None:
    theirs = in_transformers(checkpoint)
    extractor = ClapFeatureExtractor.from_pretrained(checkpoint)
    inputs = extractor(windows(), sampling_rate=RATE, return_tensors="pt")
    inputs["is_longer"] = torch.zeros_like(inputs["is_longer"])
    with torch.inference_mode():
        expected = theirs.get_audio_features(**inputs).pooler_output
    np.testing.assert_allclose(model.embed_audio(windows()), expected.numpy(), atol=1e-5)


def test_text_embeddings_equal_those_of_transformers(checkpoint: Path, model: HuggingFaceClap) -> None:
    theirs = in_transformers(checkpoint)
    captions = [f"This is a sound of {words}." for words in SOUNDS]
    tokens = model._tokenizer(captions, padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.inference_mode():
        expected = theirs.get_text_features(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).pooler_output
    np.testing.assert_allclose(model.embed_text(TEXTS), expected.numpy(), atol=1e-5)


def test_it_goes_at_once_when_nobody_uses_it(checkpoint: Path, tmp_path: Path) -> None:
    model = load(checkpoint, tmp_path)
    model.embed_audio(windows()[:1])
    left = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert left() is None
    finally:
        gc.enable()


def test_texts_are_phrased_as_the_pipeline_of_transformers_does() -> None:
    run = inspect.signature(ZeroShotAudioClassificationPipeline.preprocess)
    template = run.parameters["hypothesis_template"].default
    assert (
        caption("glass breaking") == template.format("glass breaking") == "This is a sound of glass breaking."
    )
    for text in ("the sound of rain", "A recording of rain.", " rain "):
        assert caption(text) == "This is a sound of rain."
    assert caption("a recording studio") == "This is a sound of a recording studio."


def test_a_window_is_the_same_alone_and_at_every_place_in_a_batch(model: HuggingFaceClap) -> None:
    sounds = windows()
    alone = np.concatenate([model.embed_audio([sound]) for sound in sounds])
    assert np.abs(alone[0] - alone[1]).max() > 1e-3  # or the rest would prove nothing
    for shift in range(len(sounds)):
        order = [(n + shift) % len(sounds) for n in range(len(sounds))]
        np.testing.assert_allclose(model.embed_audio([sounds[n] for n in order]), alone[order], atol=1e-5)


def test_more_windows_than_one_pass_takes(model: HuggingFaceClap) -> None:
    short = [sound[: RATE // 2] for sound in windows()]
    many = [short[n % len(short)] for n in range(35)]
    found = model.embed_audio(many)
    assert found.shape == (35, 32)
    np.testing.assert_allclose(found[33:], model.embed_audio(many[33:]), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_nothing_in_nothing_out(model: HuggingFaceClap) -> None:
    assert model.embed_audio([]).shape == (0, 32)
    assert model.embed_text([]).shape == (0, 32)


def test_a_text_is_the_same_alone_and_among_others(model: HuggingFaceClap) -> None:
    alone = np.concatenate([model._compute_text([text]) for text in TEXTS])
    np.testing.assert_allclose(model._compute_text(TEXTS), alone, atol=1e-5)
    np.testing.assert_allclose(model._compute_text(TEXTS * 20)[-4:], alone, atol=1e-5)


@pytest.mark.parametrize("seconds", [0.0, WINDOW_S + 0.01])
def test_a_window_of_no_usable_length_is_refused(model: HuggingFaceClap, seconds: float) -> None:
    with pytest.raises(ValueError, match="samples"):
        model.embed_audio([np.zeros(int(seconds * RATE), np.float32)])


class Failing:
    """An engine that computes once and never again."""

    name = "failing"
    dtype = "bfloat16"
    closed = False

    def __init__(self, works: Engine) -> None:
        self._works: Engine | None = works

    def embed(self, features: torch.Tensor) -> NDArray[np.float32]:
        works, self._works = self._works, None
        if works is None:
            raise RuntimeError("the device is lost\nand more")
        return works.embed(features)

    def close(self) -> None:
        self.closed = True


def test_another_engine_does_the_work_and_the_tower_goes(
    model: HuggingFaceClap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, text = model.embed_audio(windows()), model.embed_text(TEXTS)
    assert (model.engine, model.dtype, model.engine_trials) == ("torch", "float32", ())
    failing = Failing(model._engine)
    trials = (Trial("failing", 1.0, 1.0, 0.0), Trial("torch", 2.0, 1.0, 0.0))
    monkeypatch.setattr(huggingface, "choose", lambda *_: Choice(failing, trials))
    model.use_engine("auto", tmp_path, print)
    assert (model.engine, model.dtype, model.engine_trials) == ("failing", "bfloat16", trials)
    assert model._tower is None
    np.testing.assert_array_equal(model.embed_audio(windows()), expected)
    np.testing.assert_array_equal(model.embed_text(TEXTS), text)


def test_an_engine_that_fails_in_use_is_given_up_and_no_window_lost(
    model: HuggingFaceClap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = model.embed_audio(windows())
    failing = Failing(model._engine)
    trials = (Trial("failing", 1.0, 1.0, 0.0), Trial("torch", 2.0, 1.0, 0.0))
    monkeypatch.setattr(huggingface, "choose", lambda *_: Choice(failing, trials))
    model.use_engine("auto", tmp_path, print)
    model.embed_audio(windows())
    np.testing.assert_allclose(model.embed_audio(windows()), expected, atol=1e-6)
    assert (model.engine, model.dtype, failing.closed) == ("torch", "float32", True)
    problem = "it failed while it was in use (the device is lost)"
    assert model.engine_trials == (Trial("failing", 1.0, 1.0, 0.0, problem), trials[1])
    assert f"The engine failing is given up: {problem}. PyTorch computes instead" in caplog.text


def test_text_embeddings_survive_a_restart_and_are_not_shared_between_weights(
    fused_checkpoint: Path, unfused_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(fused_checkpoint, tmp_path).embed_text(TEXTS)
    again = load(fused_checkpoint, tmp_path)
    monkeypatch.setattr(again._model, "get_text_features", None)  # would fail if it were used
    np.testing.assert_array_equal(again.embed_text(TEXTS), first)
    other = load(unfused_checkpoint, tmp_path)
    assert other.identity != again.identity
    np.testing.assert_allclose(other.embed_text(TEXTS), other._compute_text(TEXTS), atol=1e-5)


def test_identity_follows_the_content(fused_checkpoint: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(fused_checkpoint, tmp_path / "copy")
    assert weights_hash(copy) == weights_hash(fused_checkpoint)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert weights_hash(copy) != weights_hash(fused_checkpoint)


def change_config(folder: Path, **text_config: int) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= text_config
    (folder / "config.json").write_text(json.dumps(config))


BREAK: dict[str, Callable[[Path], object]] = {
    "no config": lambda folder: (folder / "config.json").unlink(),
    "config is no JSON": lambda folder: (folder / "config.json").write_text("{"),
    "config is a list": lambda folder: (folder / "config.json").write_text("[]"),
    "another model": lambda folder: (folder / "config.json").write_text('{"model_type": "whisper"}'),
    "weights cut short": lambda folder: os.truncate(folder / "model.safetensors", 5000),
    "weights are text": lambda folder: (folder / "model.safetensors").write_text("not weights"),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "another shape": lambda folder: change_config(folder, intermediate_size=64),
    "more layers than weights": lambda folder: change_config(folder, num_hidden_layers=2),
    "no extractor": lambda folder: (folder / "preprocessor_config.json").unlink(),
    "tokenizer is no JSON": lambda folder: (folder / "tokenizer.json").write_text("{"),
}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no config", "config.json is missing. Give a folder or a hub name"),
        ("config is no JSON", "cannot be read"),
        ("config is a list", "not a CLAP model"),
        ("another model", "not a CLAP model .*'whisper'"),
        ("weights cut short", "cannot be loaded"),
        ("weights are text", "cannot be loaded"),
        ("no weights", "cannot be loaded"),
        ("another shape", "cannot be loaded"),
        ("more layers than weights", "incomplete .*Download it again"),
        ("no extractor", "no usable tokenizer or feature extractor"),
        ("tokenizer is no JSON", "no usable tokenizer or feature extractor"),
    ],
)
def test_a_broken_checkpoint_is_refused_in_words(
    unfused_checkpoint: Path, tmp_path: Path, what: str, message: str
) -> None:
    folder = shutil.copytree(unfused_checkpoint, tmp_path / "broken")
    BREAK[what](folder)
    with pytest.raises(ModelError, match=message):
        load(folder, tmp_path)


def test_a_stage_smaller_than_its_attention_window_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "small", fused=False, stages=4)
    with pytest.raises(ModelError, match="stage of resolution 4, smaller than its attention window of 8"):
        load(folder, tmp_path)


# What follows tests transformers: when one of these fails, a workaround here may be needless or wrong.


def test_fact_the_extractor_marks_a_random_window_as_longer() -> None:
    extractor = ClapFeatureExtractor(max_length_s=WINDOW_S, truncation="fusion")
    marked = set()
    for seed in range(20):
        np.random.seed(seed)  # noqa: NPY002 - it is the generator that the extractor uses
        longer = extractor([np.zeros(100, np.float32)] * 3, sampling_rate=RATE)["is_longer"]
        assert sum(flag for (flag,) in longer) == 1
        marked.add([flag for (flag,) in longer].index(True))
    assert marked == {0, 1, 2}


def test_fact_the_mark_moves_an_embedding(fused_checkpoint: Path) -> None:
    theirs = in_transformers(fused_checkpoint)
    extractor = ClapFeatureExtractor.from_pretrained(fused_checkpoint)
    inputs = extractor(windows()[:1], sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        marked = theirs.get_audio_features(**inputs).pooler_output
        unmarked = theirs.get_audio_features(inputs["input_features"], torch.tensor([[False]])).pooler_output
    assert (marked - unmarked).abs().max() > 1e-4


def test_fact_the_fusion_branch_asks_the_device(
    fused_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    original = torch.where

    def where(*arguments: Any, **keywords: Any) -> Any:
        if len(arguments) == 1 and not keywords:  # torch.where(condition): as many results as are true
            asked.append(arguments[0].shape)
        return original(*arguments, **keywords)

    monkeypatch.setattr(torch, "where", where)
    theirs = in_transformers(fused_checkpoint)
    with torch.inference_mode():
        theirs.get_audio_features(torch.zeros(1, 4, 201, 64), torch.tensor([[False]]))
    assert len(asked) == 1
    load(fused_checkpoint, tmp_path).embed_audio(windows()[:1])
    assert len(asked) == 1


def test_fact_attention_fails_when_a_stage_is_smaller_than_its_window(tmp_path: Path) -> None:
    theirs = in_transformers(write_checkpoint(tmp_path, fused=False, stages=4))
    with pytest.raises(RuntimeError):
        theirs.get_audio_features(torch.zeros(1, 1, 201, 64))


def test_fact_the_pipeline_knows_no_none_of_these(unfused_checkpoint: Path) -> None:
    classify = pipeline("zero-shot-audio-classification", model=str(unfused_checkpoint), device="cpu")
    (only,) = classify(windows()[0], candidate_labels=["glass breaking"])
    assert only["score"] == pytest.approx(1.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_the_gpu_gives_the_same_embeddings(checkpoint: Path, model: HuggingFaceClap, tmp_path: Path) -> None:
    on_gpu = load(checkpoint, tmp_path / "gpu", device="cuda:0")
    assert (on_gpu.embed_audio(windows()) * model.embed_audio(windows())).sum(axis=1).min() > 0.9999
    assert (on_gpu.embed_text(TEXTS) * model.embed_text(TEXTS)).sum(axis=1).min() > 0.9999
