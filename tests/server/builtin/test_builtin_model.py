"""The built-in model keeps the promises of the model interface."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server import synthesis
from clap_server.clap.builtin import FOLDER, load_builtin
from clap_server.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from clap_server.clap.model import ClapModel

FILES = ("weights.safetensors", "tokenizer.json", "config.json")


def test_it_says_what_it_is(builtin: ClapModel) -> None:
    assert (builtin.name, builtin.builtin, builtin.device, builtin.dtype) == (
        "builtin",
        True,
        "cpu",
        "float32",
    )
    assert (builtin.sample_rate, builtin.window_s) == (48_000, 2.0)
    assert load_builtin("cpu").everyday is None, "what prepares a model gives it its bank"


def test_its_files_are_small_and_name_their_sources() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 20_000_000
    for name in ("ATTRIBUTION.md", "ATTRIBUTION-everyday.md"):
        attribution = (FOLDER / name).read_text("utf-8")
        assert "CC-BY" in attribution
        assert "-SA" not in attribution


def test_an_embedding_is_the_same_alone_and_at_every_place_of_a_batch(builtin: ClapModel) -> None:
    rng = np.random.default_rng(1)
    lengths = [96_000, 9_600, 50_000, 96_000, 1]
    windows = [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in lengths]
    together = builtin.embed_audio(windows)
    assert together.shape == (5, builtin.dimension)
    assert together.dtype == np.float32
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    for place, window in enumerate(windows):
        assert np.allclose(builtin.embed_audio([window])[0], together[place], atol=1e-5)
        assert np.allclose(builtin.embed_audio([*windows[::-1], window])[-1], together[place], atol=1e-5)


def test_a_short_window_goes_on_quietly(builtin: ClapModel) -> None:
    hiss = 0.01 * synthesis.noise(np.random.default_rng(2), kind="white", duration_s=2.0)
    crash = synthesis.glass_break(np.random.default_rng(2), duration_s=1.2)
    over_hiss = synthesis.mix_at(hiss, crash, 0.0, 40.0)
    whole, start, broken, break_alone = builtin.embed_audio(
        [hiss, hiss[:24_000], over_hiss, over_hiss[:72_000]]
    )
    assert whole @ start > 0.9
    assert broken @ break_alone > 0.9
    assert whole @ broken < 0.6


def test_a_window_that_is_too_long_is_refused(builtin: ClapModel) -> None:
    with pytest.raises(ModelError, match="96001 samples is too long"):
        builtin.embed_audio([np.zeros(96_001, np.float32)])


def test_loudness_does_not_change_what_a_sound_is(builtin: ClapModel) -> None:
    crash = synthesis.glass_break(np.random.default_rng(3), duration_s=1.5)
    embeddings = builtin.embed_audio([crash * np.float32(gain) for gain in (1.0, 0.1, 0.01)])
    assert (embeddings @ embeddings[0]).min() > 0.9


def test_no_windows_and_empty_ones_can_be_embedded(builtin: ClapModel) -> None:
    assert builtin.embed_audio([]).shape == (0, builtin.dimension)
    assert np.isfinite(builtin.embed_audio([np.zeros(0, np.float32)])).all()


def test_nothing_and_many_texts_can_be_embedded(builtin: ClapModel) -> None:
    assert builtin.embed_text([]).shape == (0, builtin.dimension)
    texts = [f"the sound of number {n}" for n in range(300)]
    many = builtin.embed_text(texts)
    assert many.shape == (300, builtin.dimension)
    assert np.linalg.norm(many, axis=1) == pytest.approx(np.ones(300), abs=1e-5)
    assert np.allclose(builtin.embed_text(texts[299:])[0], many[299], atol=1e-5)
    assert np.isfinite(builtin.embed_text(["玻璃破碎", "", "x " * 500])).all()


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("somebody smashes a window", "glass breaking", "a dog barking"),
        ("shattering pane", "glass breaking", "glasses clinking together"),
        ("smoke detector beeping", "a smoke alarm beeping", "a telephone ringing"),
        ("a hound barks", "a dog barking", "a baby crying"),
        ("an infant is wailing", "a baby crying", "a siren"),
        ("people chatting", "people talking", "people shouting angrily"),
    ],
)
def test_texts_lie_near_what_means_the_same(builtin: ClapModel, text: str, near: str, far: str) -> None:
    own, same, other = builtin.embed_text([text, near, far])
    assert own @ same > own @ other + 0.1


def copy_of_the_model(folder: Path) -> Path:
    for name in FILES:
        shutil.copyfile(FOLDER / name, folder / name)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (copy_of_the_model(tmp_path) / name).unlink()
    with pytest.raises(ModelError, match=name):
        load_builtin("cpu", tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    path = copy_of_the_model(tmp_path) / name
    content = path.read_bytes()
    path.write_bytes(content[: min(1000, len(content) // 2)])
    with pytest.raises(ModelError, match=name):
        load_builtin("cpu", tmp_path)


@pytest.mark.parametrize("change", [{"audio": {"channels": [4, 8], "dimension": 16}}, []])
def test_a_configuration_of_another_model_is_refused(
    tmp_path: Path, change: dict[str, object] | list[str]
) -> None:
    path = copy_of_the_model(tmp_path) / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **change} if isinstance(change, dict) else change))
    with pytest.raises(ModelError, match=r"config\.json|weights\.safetensors"):
        load_builtin("cpu", tmp_path)
