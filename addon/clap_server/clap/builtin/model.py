"""The built-in model: both towers with their weights, behind the interface of all models."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn import functional

from clap_server.clap.builtin.audio_tower import AudioTower, fill_up
from clap_server.clap.builtin.text_tower import TextTower, load_tokenizer, token_ids
from clap_server.clap.features import LogMel
from clap_server.clap.threads import use_threads
from clap_server.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clap_server.clap.everyday import EverydayBank

WEIGHTS, TOKENIZER, CONFIG = "weights.safetensors", "tokenizer.json", "config.json"
_TEXTS_AT_ONCE = 256


def build_towers(config: dict[str, Any]) -> tuple[AudioTower, TextTower]:
    """Make both towers, with random weights, as ``config.json`` describes them."""
    return AudioTower(**config["audio"]), TextTower(**config["text"])


class BuiltinClap:
    """A small CLAP that runs anywhere (see ``README.md`` beside the weights).

    A window shorter than ``window_s`` is put into its own quiet (see ``fill_up``), as in the training.

    Args:
        folder: with weights, tokenizer and configuration.
        device: as torch names it.

    Raises:
        ModelError: a file is missing or damaged; the message names it.
    """

    name = "builtin"
    builtin = True
    dtype = "float32"

    def __init__(self, folder: Path, device: str) -> None:
        config = _read_config(folder / CONFIG)
        try:
            self._audio, self._text = build_towers(config)
            self.sample_rate = int(config["sample_rate"])
            self.window_s = float(config["window_s"])
            self.dimension = int(config["audio"]["dimension"])
            max_tokens = int(config["text"]["max_tokens"])
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(folder / CONFIG, error) from error
        _load_weights(folder / WEIGHTS, self._audio, self._text)
        path = folder / TOKENIZER
        try:
            self._tokenizer = load_tokenizer(path, max_tokens)
        except Exception as error:  # tokenizers raises plain Exception for every failure
            raise _damaged(path, error) from error
        with (folder / WEIGHTS).open("rb") as file:
            self.identity = f"builtin@{hashlib.file_digest(file, 'sha256').hexdigest()}"
        self.device = device
        self.everyday: EverydayBank | None = None
        self._device = torch.device(device)
        self._log_mel = LogMel(self.sample_rate, dtype=torch.float32).to(self._device)
        for tower in (self._audio, self._text):
            tower.eval().requires_grad_(requires_grad=False).to(self._device)
        self._audio.fuse()
        self._audio.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it

    def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embed windows of mono audio; see ``ClapModel``.

        Raises:
            ModelError: a window is longer than ``window_s``.
        """
        if not windows:
            return np.zeros((0, self.dimension), np.float32)
        use_threads(1)
        longest = round(self.window_s * self.sample_rate)
        rows = []
        for window in windows:
            if len(window) > longest:
                raise ModelError(
                    f"A window of {len(window)} samples is too long: cut it to {longest} ({self.window_s} s)."
                )
            row = torch.from_numpy(np.ascontiguousarray(window, np.float32))
            rows.append(functional.pad(row, (0, longest - len(window))))
        with torch.inference_mode():
            mels = self._mels(rows)
            for mel, window in zip(mels, windows, strict=True):
                if len(window) < longest:
                    fill_up(mel, max(len(window) // self._log_mel.hop_length, 1))
            embeddings = self._audio(mels)
            return np.asarray(embeddings.cpu().numpy(), np.float32)

    def _mels(self, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        if self._device.type == "cpu":
            # One after the other they stay in the processor's cache: half the time of all at once.
            return torch.stack([self._log_mel(row) for row in rows])
        mels: torch.Tensor = self._log_mel(torch.stack(list(rows)).to(self._device))
        return mels

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts; see ``ClapModel``."""
        use_threads(1)
        parts = [np.zeros((0, self.dimension), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(texts), _TEXTS_AT_ONCE):
                ids = token_ids(self._tokenizer, texts[start : start + _TEXTS_AT_ONCE])
                parts.append(self._text(ids.to(self._device)).cpu().numpy())
        return np.concatenate(parts)


def _damaged(path: Path, error: Exception) -> ModelError:
    return ModelError(
        f"The built-in model's file {path} is missing or damaged ({error}): install clap-server again."
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if not isinstance(content, dict):
        raise _damaged(path, TypeError("no JSON object"))
    return content


def _load_weights(path: Path, audio: AudioTower, text: TextTower) -> None:
    try:
        weights = {name: value.float() for name, value in load_file(path).items()}
        for prefix, tower in (("audio.", audio), ("text.", text)):
            own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
            # BatchNorm's step counters are not needed to run and not stored.
            counters = {k: v for k, v in tower.state_dict().items() if k.endswith("num_batches_tracked")}
            tower.load_state_dict(own | counters)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise _damaged(path, error) from error
