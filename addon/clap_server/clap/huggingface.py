"""Any CLAP checkpoint in Hugging Face format."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import transformers
from transformers import AutoTokenizer, ClapFeatureExtractor
from transformers import ClapModel as TransformersClap

from clap_server.clap.features import LogMel, repeat_pad
from clap_server.clap.text_cache import TextCache
from clap_server.clap.threads import ALL, use_threads
from clap_server.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clap_server.clap.everyday import EverydayBank

DType = Literal["auto", "float32", "bfloat16"]

_LOGGER = logging.getLogger(__name__)

# Who loads a model here tells what goes on; bars of transformers would tear the log.
transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # the library's omission

# Windows and texts in one pass; bounds the memory that a long file or a long label list takes.
_AUDIO_BATCH = 32
_TEXT_BATCH = 64


class HuggingFaceClap:
    """A ``transformers.ClapModel`` with exact features, for windows of any batch.

    Two traps of transformers 5 are avoided. For checkpoints with fusion its feature extractor marks a
    *random* window of a batch as longer than 10 s, which moves the embedding; here no window is longer. And
    the fusion branch asks the device which windows are longer, for which a GPU has to stop; here the branch
    is switched off after loading, which computes the same when none is.

    Args:
        folder: ``config.json``, ``preprocessor_config.json``, tokenizer and weights.
        name: what the user calls it.
        device: as torch names it: ``cpu``, ``cuda:0``.
        dtype: ``bfloat16`` computes by autocast, about three times as fast where the device has it;
            ``auto`` does so on a GPU that has it.
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
        dtype: DType = "float32",
        cache_dir: Path,
        identity: str | None = None,
    ) -> None:
        self.name = name
        self.device = device
        self.dtype = resolve_dtype(dtype, device)
        self.everyday: EverydayBank | None = None
        check_config(folder, name)
        self._model = _load_weights(folder, name)
        try:
            extractor = ClapFeatureExtractor.from_pretrained(folder, local_files_only=True)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # the library raises whatever its parsers raise
            raise ModelError(
                f"The model {name!r} has no usable tokenizer or feature extractor ({_first_line(error)}). "
                "Download it again, with all its .json and .txt files."
            ) from error
        encoder = self._model.audio_model.audio_encoder
        encoder.enable_fusion = False
        encoder.patch_embed.enable_fusion = False
        self._model.to(device).eval()
        self.sample_rate: int = extractor.sampling_rate
        self.window_s = float(extractor.max_length_s)
        self.dimension: int = self._model.config.projection_dim
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
        positions = self._model.config.text_config.max_position_embeddings - 2  # RoBERTa keeps two for itself
        self._max_tokens = min(self._tokenizer.model_max_length, positions)
        self.identity = identity or weights_hash(folder)
        self._texts = TextCache(cache_dir / "text", f"{self.identity} {self.dtype}", self.dimension)

    def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embed windows; see ``ClapModel``.

        Raises:
            ValueError: a window is empty or longer than ``window_s``.
        """
        use_threads(ALL)
        result = np.empty((len(windows), self.dimension), np.float32)
        for first in range(0, len(windows), _AUDIO_BATCH):
            batch = repeat_pad(windows[first : first + _AUDIO_BATCH], self._samples, self._padding)
            with torch.inference_mode(), self._autocast():
                mel = self._log_mel(batch.to(self.device))
                features = self._model.get_audio_features(input_features=mel[:, None]).pooler_output
            result[first : first + _AUDIO_BATCH] = _normalised(features)
        return result

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts, from the cache where it has them; see ``ClapModel``."""
        return self._texts.embed(texts, self._compute_text)

    def _compute_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        parts = []
        for first in range(0, len(texts), _TEXT_BATCH):
            tokens = self._tokenizer(
                list(texts[first : first + _TEXT_BATCH]),
                padding=True,
                truncation=True,
                max_length=self._max_tokens,
                return_tensors="pt",
            ).to(self.device)
            with torch.inference_mode(), self._autocast():
                features = self._model.get_text_features(
                    input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
                ).pooler_output
            parts.append(_normalised(features))
        return np.concatenate(parts)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            torch.device(self.device).type, dtype=torch.bfloat16, enabled=self.dtype == "bfloat16"
        )


def resolve_dtype(dtype: DType, device: str) -> Literal["float32", "bfloat16"]:
    """Decide in which number format a device computes.

    Raises:
        ModelError: there is no such format here.
    """
    if dtype not in {"auto", "float32", "bfloat16"}:
        raise ModelError(f"The number format {dtype!r} is not known: use auto, float32 or bfloat16.")
    if dtype != "auto":
        return dtype
    gpu = torch.device(device).type == "cuda"
    return "bfloat16" if gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


def check_config(folder: Path, name: str) -> None:
    """Check that a folder holds a CLAP checkpoint that transformers computes rightly.

    Raises:
        ModelError: it does not.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"{name!r} holds no model: config.json is missing. Give a folder or a hub name of a CLAP model "
            "in Hugging Face format, such as laion/clap-htsat-fused."
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(
            f"config.json of the model {name!r} cannot be read ({_first_line(error)}). Download it again."
        ) from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "clap":
        raise ModelError(
            f"{name!r} is not a CLAP model (its model_type is {kind!r}). Use one that is, such as "
            "laion/clap-htsat-fused, or 'builtin'."
        )


def _load_weights(folder: Path, name: str) -> Any:
    try:
        loaded: Any = TransformersClap.from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # the library raises whatever its parsers raise
        raise ModelError(
            f"The weights of the model {name!r} cannot be loaded ({_first_line(error)}). The download may be "
            "incomplete: delete it and try again."
        ) from error
    model, info = loaded
    if info["missing_keys"]:
        # transformers would go on with random numbers in their place.
        raise ModelError(
            f"The weights of the model {name!r} are incomplete ({len(info['missing_keys'])} tensors missing, "
            f"such as {min(info['missing_keys'])}). Download it again."
        )
    audio = model.config.audio_config
    encoder = model.audio_model.audio_encoder
    smallest = min(min(resolution) for resolution in encoder.input_resolutions)
    if smallest < audio.window_size:
        raise ModelError(
            f"The model {name!r} has a stage of resolution {smallest}, smaller than its attention window of "
            f"{audio.window_size}, which transformers cannot compute. Use another model."
        )
    return model


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


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
