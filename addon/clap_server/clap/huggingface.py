"""Any CLAP checkpoint in Hugging Face format."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from transformers import AutoTokenizer, ClapFeatureExtractor

from clap_server.clap.checkpoint import check_config, first_line
from clap_server.clap.engines.choosing import Subject, choose
from clap_server.clap.engines.eager import Eager
from clap_server.clap.engines.kinds import EAGER, check_name
from clap_server.clap.engines.tower import AudioTower, load_checkpoint
from clap_server.clap.features import LogMel, repeat_pad
from clap_server.clap.text_cache import TextCache
from clap_server.clap.threads import ALL, use_threads
from clap_server.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clap_server.clap.engines.engine import Engine
    from clap_server.clap.engines.trials import Trial
    from clap_server.clap.everyday import EverydayBank

_LOGGER = logging.getLogger(__name__)

# Who loads a model here tells what goes on; bars of transformers would tear the log.
transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # the library's omission

# Windows and texts in one pass; bounds the memory that a long file or a long label list takes.
_AUDIO_BATCH = 32
_TEXT_BATCH = 64

_CAPTION = "This is a sound of {}."
_PHRASING = re.compile(r"(the sound|a recording) of\s+", re.IGNORECASE)


class HuggingFaceClap:
    """A ``transformers.ClapModel`` with exact features, for windows of any batch.

    Two traps of transformers 5 are avoided. For checkpoints with fusion its feature extractor marks a
    *random* window of a batch as longer than 10 s, which moves the embedding; here no window is longer. And
    the fusion branch asks the device which windows are longer; ``AudioTower`` switches it off.

    Its audio tower is run by PyTorch in float32, and by another engine after ``use_engine``.

    Args:
        folder: ``config.json``, ``preprocessor_config.json``, tokenizer and weights.
        name: what the user calls it.
        device: as torch names it: ``cpu``, ``cuda:0``.
        cache_dir: folder for text embeddings.
        identity: of the weights; by default a hash of them.

    Raises:
        ModelError: it is not a CLAP checkpoint, or a file is missing or damaged.
    """

    builtin = False

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        device: str,
        cache_dir: Path,
        identity: str | None = None,
    ) -> None:
        self.name = name
        self.device = device
        self.everyday: EverydayBank | None = None
        check_config(folder, name)
        self._folder = folder
        model: Any = load_checkpoint(folder, name)
        try:
            extractor = ClapFeatureExtractor.from_pretrained(folder, local_files_only=True)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # the library raises whatever its parsers raise
            raise ModelError(
                f"The model {name!r} has no usable tokenizer or feature extractor ({first_line(error)}). "
                "Download it again, with all its .json and .txt files."
            ) from error
        self.sample_rate: int = extractor.sampling_rate
        self.window_s = float(extractor.max_length_s)
        self.dimension: int = model.config.projection_dim
        self._samples = int(extractor.nb_max_samples)
        self._padding = extractor.padding
        self._log_mel = LogMel(
            sample_rate=self.sample_rate,
            n_fft=extractor.fft_window_size,
            hop_length=extractor.hop_length,
            n_mels=extractor.feature_size,
            fmin_hz=extractor.frequency_min,
            fmax_hz=extractor.frequency_max,
            filters="htk" if extractor.truncation == "fusion" else "slaney",
        ).to(device)
        positions = model.config.text_config.max_position_embeddings - 2  # RoBERTa keeps two for itself
        self._max_tokens = min(self._tokenizer.model_max_length, positions)
        self.identity = identity or weights_hash(folder)
        # Texts under another name were embedded as they are.
        self._texts = TextCache(cache_dir / "text", f"{self.identity} float32 captions", self.dimension)
        self._tower: AudioTower | None = AudioTower(model).to(device)
        # What is left of it is for texts alone: the tower can go when another engine does its work.
        model.audio_model = model.audio_projection = None
        self._model = model.to(device).eval()
        self._engine: Engine = self.subject.build(EAGER, folder)
        self.engine_trials: tuple[Trial, ...] = ()

    @property
    def dtype(self) -> str:
        """The number format in which sound is embedded; texts are in float32."""
        return self._engine.dtype

    @property
    def engine(self) -> str:
        """What runs the audio tower (see ``engines.kinds``)."""
        return self._engine.name

    def use_engine(self, wanted: str, cache_dir: Path, progress: Callable[[str], None]) -> None:
        """Have sound embedded by the fastest engine that can be used here, or by a certain one.

        Blocks: for minutes when a model comes to a machine, for a moment later. Embeddings stay near those
        of float32 (see ``engines.checks``).

        Args:
            wanted: ``auto``, or the name of an engine.
            cache_dir: keeps what was measured and exported.
            progress: called with a line of text; what it raises ends the choice.

        Raises:
            ConfigurationError: there is no such engine.
        """
        check_name(wanted)
        choice = choose(self.subject, wanted, cache_dir, progress)
        self._engine, self.engine_trials = choice.engine, choice.trials
        if not isinstance(self._engine, Eager):
            self._tower = None

    def features(self, windows: Sequence[NDArray[np.float32]]) -> torch.Tensor:
        """Compute what the audio tower takes.

        Args:
            windows: see ``embed_audio``.

        Returns:
            ``(n, 1, frames, mels)`` in dB on the model's device.

        Raises:
            ValueError: a window is empty or longer than ``window_s``.
        """
        use_threads(ALL)
        batch = repeat_pad(windows, self._samples, self._padding)
        if self.device != "cpu":
            batch = batch.pin_memory()
        with torch.inference_mode():
            mel: torch.Tensor = self._log_mel(batch.to(self.device, non_blocking=True))
            return mel[:, None]

    def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embed windows; see ``ClapModel``.

        Raises:
            ValueError: a window is empty or longer than ``window_s``.
        """
        result = np.empty((len(windows), self.dimension), np.float32)
        for first in range(0, len(windows), _AUDIO_BATCH):
            rows = slice(first, first + _AUDIO_BATCH)
            result[rows] = self._embed(self.features(windows[rows]))
        return result

    def _embed(self, features: torch.Tensor) -> NDArray[np.float32]:
        try:
            return self._engine.embed(features)
        except Exception as error:
            if self.engine == EAGER.name:
                raise
            self._fall_back(f"it failed while it was in use ({first_line(error)})")
        return self._engine.embed(features)

    def _fall_back(self, problem: str) -> None:
        """Let PyTorch compute from here on."""
        _LOGGER.error("The engine %s is given up: %s. PyTorch computes instead", self.engine, problem)
        self.engine_trials = tuple(
            replace(trial, problem=problem) if trial.engine == self.engine else trial
            for trial in self.engine_trials
        )
        failed, self._engine = self._engine, self.subject.build(EAGER, self._folder)
        failed.close()

    def _have_tower(self) -> AudioTower:
        if self._tower is None:
            self._tower = AudioTower(load_checkpoint(self._folder, self.name)).to(self.device)
        return self._tower

    @property
    def subject(self) -> Subject:
        """What engines are made for. Kept nowhere: it holds the model, which is to go when nobody uses it."""
        return Subject(
            checkpoint=self._folder,
            identity=self.identity,
            device=self.device,
            sample_rate=self.sample_rate,
            window_s=self.window_s,
            frames=self._log_mel.frames(self._samples),
            mels=self._log_mel.n_mels,
            threads=ALL,
            tower=self._have_tower,
            features=self.features,
        )

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts as captions, from the cache where it has them; see ``ClapModel`` and ``caption``."""
        return self._texts.embed(texts, self._compute_text)

    def _compute_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        parts = []
        for first in range(0, len(texts), _TEXT_BATCH):
            tokens = self._tokenizer(
                [caption(text) for text in texts[first : first + _TEXT_BATCH]],
                padding=True,
                truncation=True,
                max_length=self._max_tokens,
                return_tensors="pt",
            ).to(self.device)
            with torch.inference_mode():
                features = self._model.get_text_features(
                    input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
                ).pooler_output
            parts.append(_normalised(features))
        return np.concatenate(parts)


def caption(text: str) -> str:
    """Phrase a text as LAION's checkpoints were evaluated, and as the pipeline of transformers does.

    By this their figures on ESC-50 and UrbanSound8K are reproduced; with bare words, or an ensemble of
    phrasings, they are lower (pymill.com/docs/reproducibility).

    Args:
        text: a sound in words. Phrasings that the label library adds for other models are left out.
    """
    words = text.strip().rstrip(".")
    phrasing = _PHRASING.match(words)
    return _CAPTION.format(words[phrasing.end() :] if phrasing else words)


def weights_hash(folder: Path) -> str:
    """Identify a checkpoint by the content of all its files.

    Args:
        folder: of the checkpoint.

    Returns:
        A hexadecimal SHA-256.
    """
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in {".safetensors", ".bin", ".json", ".txt"}:
            with path.open("rb") as file:
                total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def _normalised(features: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy())
