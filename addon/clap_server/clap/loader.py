"""From a model's name to a model."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from clap_server.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from clap_server.clap.model import ClapModel

_LOGGER = logging.getLogger(__name__)

BUILTIN = "builtin"
GPU_DEFAULT = "laion/clap-htsat-fused"
_MEGABYTE = 1_000_000


def resolve_device(device: str) -> str:
    """Decide where to run.

    Args:
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:1``.

    Returns:
        The device as torch names it.

    Raises:
        ModelError: there is no such device.
    """
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        wanted = torch.device(device)
    except RuntimeError:
        wanted = torch.device("meta")
    if wanted.type not in {"cpu", "cuda"}:
        raise ModelError(f"The device {device!r} is not known: use auto, cpu, cuda or cuda:1.")
    if wanted.type == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        raise ModelError(
            "No NVIDIA GPU can be used: check the driver, and that torch was built for CUDA; or use the cpu."
        )
    index = wanted.index or 0
    if index >= torch.cuda.device_count():
        raise ModelError(
            f"There is no GPU number {index}: this machine has {torch.cuda.device_count()}, counted from 0."
        )
    return f"cuda:{index}"


def resolve_name(requested: str, device: str) -> str:
    """Decide which model ``auto`` means: LAION's fused one where it runs on a GPU, else the built-in one."""
    if requested != "auto":
        return requested
    return GPU_DEFAULT if torch.device(device).type == "cuda" else BUILTIN


def load_model(
    name: str,
    *,
    device: str = "auto",
    cache_dir: Path,
    progress: Callable[[str], None] | None = None,
    engine: str = "torch",
) -> ClapModel:
    """Load a model, downloading it if need be. Blocks, for minutes when it downloads.

    Args:
        name: ``builtin``, ``auto``, a folder, or a name on the Hugging Face hub.
        device: see ``resolve_device``.
        cache_dir: folder for downloads and text embeddings.
        progress: called with a line of text whenever there is something new to tell; from any thread. What it
            raises ends the load.
        engine: runs the audio tower of checkpoints in Hugging Face format: the name of one, or ``auto``, the
            fastest that can be used here, which for a new model takes minutes to find out.

    Raises:
        ModelError: the model cannot be had; the message says what to do.
        ConfigurationError: there is no such engine.
    """
    tell = progress or _LOGGER.info
    target = resolve_device(device)
    name = resolve_name(name.strip(), target)
    try:
        if name == BUILTIN:
            from clap_server.clap.builtin import load_builtin

            return load_builtin(target)
        from clap_server.clap.huggingface import HuggingFaceClap

        folder = Path(name).expanduser()
        identity = None
        if not _is_folder_name(name):
            folder = download(name, cache_dir / "hub", tell)
            identity = f"{name}@{folder.name}"  # a snapshot's folder has the name of its commit
        elif not folder.is_dir():
            raise ModelError(f"There is no folder {name!r}: check the path of the model.")
        tell(f"Loading {name}")
        model = HuggingFaceClap(folder, name=name, device=target, cache_dir=cache_dir, identity=identity)
        if engine != "torch":
            model.use_engine(engine, cache_dir, tell)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"The memory of {target} is too small for the model {name!r}: free some, use another device or "
            "a smaller model."
        ) from error
    return model


def _is_folder_name(name: str) -> bool:
    return name.startswith(("/", ".", "~")) or (bool(name) and Path(name).is_dir())


def download(name: str, cache_dir: Path, progress: Callable[[str], None]) -> Path:
    """Download a checkpoint from the Hugging Face hub, or find it in the cache.

    Args:
        name: ``owner/model``.
        cache_dir: where downloads are kept.
        progress: told of each further percent.

    Returns:
        The folder of the checkpoint's newest revision that can be had.

    Raises:
        ModelError: unknown name, no network and not in the cache, or no room.
    """
    import httpx
    from huggingface_hub import errors, snapshot_download

    bars = _bars_that_tell(name, progress)

    def fetch(patterns: list[str]) -> Path:
        return Path(snapshot_download(name, cache_dir=cache_dir, allow_patterns=patterns, tqdm_class=bars))

    try:
        folder = fetch(["*.json", "*.txt", "model*.safetensors"])
        if not any(folder.glob("model*.safetensors")):
            folder = fetch(["*.json", "*.txt", "pytorch_model*.bin"])
    except errors.HFValidationError as error:
        raise ModelError(
            f"{name!r} is neither a folder nor a name on the Hugging Face hub: use 'builtin', a folder, or a "
            f"name such as {GPU_DEFAULT}."
        ) from error
    except errors.GatedRepoError as error:
        raise ModelError(
            f"The model {name!r} is only given to those who accept its terms: do so on the Hugging Face hub "
            "and set HF_TOKEN, or use another model."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"The Hugging Face hub has no model {name!r}, or keeps it private: check the name, "
            f"such as {GPU_DEFAULT}."
        ) from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, httpx.HTTPError) as error:
        raise ModelError(
            f"The model {name!r} cannot be downloaded, because the Hugging Face hub cannot be reached "
            "or breaks off: check the network and try again."
        ) from error
    except OSError as error:
        raise ModelError(
            f"The model {name!r} cannot be stored ({error.strerror or error}): make room in the data folder."
        ) from error
    return folder


def _bars_that_tell(name: str, progress: Callable[[str], None]) -> type[Any]:
    """Make a class of progress bars that draw nothing and tell the bytes that have come.

    ``snapshot_download`` makes several: of files, of bytes received, of bytes written. Those of bytes carry
    the unit B.
    """
    from huggingface_hub.utils.tqdm import tqdm

    lock = threading.Lock()
    told = -1

    base: Any = tqdm

    class Bar(base):  # type: ignore[misc]  # the base has no types
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            self._of_bytes = keywords.get("unit") == "B"
            super().__init__(*arguments, **{**keywords, "disable": True})

        def update(self, n: float | None = 1) -> None:
            nonlocal told
            self.n += n or 0
            if not self._of_bytes or not self.total:
                return
            with lock:
                percent = min(100, int(100 * self.n / self.total))
                if percent <= told:
                    return
                told = percent
            progress(
                f"Downloading {name}: {self.n / _MEGABYTE:.0f} of {self.total / _MEGABYTE:.0f} MB "
                f"({percent} %)"
            )

    return Bar
