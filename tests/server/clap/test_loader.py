"""From a name to a model, over a real local HTTP server that speaks the hub's protocol."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from transformers import ClapModel

from clap_server.clap.huggingface import HuggingFaceClap
from clap_server.clap.loader import FULL, load_model, resolve_device, resolve_name
from clap_server.errors import ModelError
from tests.server.clap.hub import COMMIT, Hub

if TYPE_CHECKING:
    from pathlib import Path

NAME = "someone/tiny-clap"
WINDOW = np.random.default_rng(0).normal(0, 0.1, 48000).astype(np.float32)


def test_a_hub_model_is_downloaded_with_progress(hub: Hub, fused_checkpoint: Path, tmp_path: Path) -> None:
    hub.models[NAME] = fused_checkpoint
    lines: list[str] = []
    model = load_model(NAME, device="cpu", cache_dir=tmp_path, progress=lines.append)
    assert (model.name, model.builtin) == (NAME, False)
    percents = [int(found[1]) for line in lines if (found := re.search(r"\((\d+) %\)", line))]
    assert percents == sorted(set(percents))
    assert percents[-1] == 100
    assert re.match(rf"Downloading {NAME}: \d+ of \d+ MB", lines[0])
    assert isinstance(model, HuggingFaceClap)
    assert model.identity == f"{NAME}@{COMMIT}"
    local = load_model(str(fused_checkpoint), device="cpu", cache_dir=tmp_path)
    np.testing.assert_allclose(model.embed_audio([WINDOW]), local.embed_audio([WINDOW]), atol=1e-6)


def test_a_downloaded_model_is_had_without_network(
    hub: Hub, unfused_checkpoint: Path, tmp_path: Path
) -> None:
    hub.models[NAME] = unfused_checkpoint
    load_model(NAME, device="cpu", cache_dir=tmp_path)
    downloads = sum("resolve" in path for path in hub.requests)
    hub.down = True
    assert load_model(NAME, device="cpu", cache_dir=tmp_path).name == NAME
    assert sum("resolve" in path for path in hub.requests) == downloads


def test_a_checkpoint_without_safetensors_is_taken_as_it_is(
    hub: Hub, unfused_checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    for path in unfused_checkpoint.iterdir():
        if path.suffix == ".json":
            (folder / path.name).write_bytes(path.read_bytes())
    whole = load_model(str(unfused_checkpoint), device="cpu", cache_dir=tmp_path)
    weights: Any = ClapModel.from_pretrained(unfused_checkpoint)
    torch.save(weights.state_dict(), folder / "pytorch_model.bin")
    hub.models[NAME] = folder
    model = load_model(NAME, device="cpu", cache_dir=tmp_path)
    np.testing.assert_allclose(model.embed_audio([WINDOW]), whole.embed_audio([WINDOW]), atol=1e-6)


def test_an_error_in_progress_ends_the_download(hub: Hub, unfused_checkpoint: Path, tmp_path: Path) -> None:
    hub.models[NAME] = unfused_checkpoint

    class EnoughError(Exception):
        pass

    def stop(_: str) -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        load_model(NAME, device="cpu", cache_dir=tmp_path, progress=stop)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("someone/no-such-model", "has no model 'someone/no-such-model'"),
        ("not a name!", "neither a folder nor a name"),
        ("a/b/c", "neither a folder nor a name"),
        ("/no/such/folder", "no folder '/no/such/folder'"),
        ("./no-such-folder", "no folder"),
        ("", "neither a folder nor a name"),
    ],
)
def test_an_unknown_name_is_told_in_words(hub: Hub, tmp_path: Path, name: str, message: str) -> None:
    assert hub.url
    with pytest.raises(ModelError, match=message):
        load_model(name, device="cpu", cache_dir=tmp_path)


def test_a_gated_model_is_told_in_words(hub: Hub, unfused_checkpoint: Path, tmp_path: Path) -> None:
    hub.models[NAME] = unfused_checkpoint
    hub.gated.add(NAME)
    with pytest.raises(ModelError, match="accept its terms"):
        load_model(NAME, device="cpu", cache_dir=tmp_path)


def test_a_hub_that_is_down_is_told_in_words(hub: Hub, tmp_path: Path) -> None:
    hub.down = True
    with pytest.raises(ModelError, match="cannot be reached or breaks off: check the network"):
        load_model(NAME, device="cpu", cache_dir=tmp_path)


def test_no_network_is_told_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ModelError, match="cannot be reached"):
            load_model(NAME, device="cpu", cache_dir=tmp_path)


def test_a_cache_that_cannot_be_written_is_told_in_words(
    hub: Hub, unfused_checkpoint: Path, tmp_path: Path
) -> None:
    hub.models[NAME] = unfused_checkpoint
    (tmp_path / "hub").write_text("in the way")
    with pytest.raises(ModelError, match=r"cannot be stored .*make room"):
        load_model(NAME, device="cpu", cache_dir=tmp_path)


def test_another_kind_of_model_is_told_in_words(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "whisper"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "whisper"}')
    hub.models[NAME] = folder
    with pytest.raises(ModelError, match="not a CLAP model"):
        load_model(NAME, device="cpu", cache_dir=tmp_path)


@pytest.mark.parametrize("device", ["tpu", "meta", "", "cuda:x"])
def test_an_unknown_device_is_told_in_words(device: str) -> None:
    with pytest.raises(ModelError, match="use auto, cpu, cuda or cuda:1"):
        resolve_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="tells what happens without an NVIDIA GPU")
def test_without_a_gpu_the_cpu_runs_the_builtin_model() -> None:
    assert resolve_device("auto") == "cpu"
    assert resolve_device("cpu:0") == "cpu"
    with pytest.raises(ModelError, match="No NVIDIA GPU can be used"):
        resolve_device("cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_with_a_gpu_it_runs_the_fused_model() -> None:
    assert resolve_device("auto") == resolve_device("cuda") == "cuda:0"
    with pytest.raises(ModelError, match="no GPU number 99"):
        resolve_device("cuda:99")


def test_auto_depends_on_the_device() -> None:
    assert resolve_name("auto", "cpu") == "builtin"
    assert resolve_name("auto", "cuda:0") == FULL
    assert resolve_name("builtin", "cuda:0") == "builtin"
