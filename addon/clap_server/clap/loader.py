"""From a model's name to a model."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from clap_server.clap.checkpoint import check_config
from clap_server.clap.downloading import blame_damage, download
from clap_server.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clap_server.clap.model import ClapModel

_LOGGER = logging.getLogger(__name__)

AUTO = "auto"
BUILTIN = "builtin"
FULL = "laion/clap-htsat-unfused"
"""What ``auto`` stands for: of LAION's checkpoints the one whose published figures hold for windows as they
are embedded here. The fused one is made for recordings of more than 10 s, of which no window is."""


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
    """Decide which model ``auto`` means where nothing can be tried first: the full one on a GPU alone."""
    if requested != AUTO:
        return requested
    return FULL if torch.device(device).type == "cuda" else BUILTIN


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Files of a model in Hugging Face format.

    Attributes:
        name: what the user calls it.
        folder: with all files.
        identity: of the weights; None if only their content tells.
    """

    name: str
    folder: Path
    identity: str | None


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
    if name == BUILTIN:
        from clap_server.clap.builtin import load_builtin

        with _memory_told(name, target):
            return load_builtin(target)
    checkpoint = find_checkpoint(name, cache_dir, tell)
    return load_checkpoint(checkpoint, device=target, cache_dir=cache_dir, progress=tell, engine=engine)


def find_checkpoint(
    name: str,
    cache_dir: Path,
    progress: Callable[[str], None],
    *,
    admit: Callable[[int], None] = lambda _: None,
    newest: bool = True,
) -> Checkpoint:
    """Have the files of a model, downloading them if need be. Blocks.

    Args:
        name: a folder, or a name on the Hugging Face hub.
        cache_dir: folder for downloads.
        progress: see ``load_model``.
        admit: see ``download``.
        newest: see ``download``.

    Raises:
        ModelError: they cannot be had; the message says what to do.
    """
    folder = Path(name).expanduser()
    if _is_folder_name(name):
        if not folder.is_dir():
            raise ModelError(f"There is no folder {name!r}: check the path of the model.")
        return Checkpoint(name, folder, None)
    folder = download(
        name,
        cache_dir / "hub",
        progress,
        inspect=lambda settings: check_config(settings, name),
        admit=admit,
        newest=newest,
    )
    return Checkpoint(name, folder, f"{name}@{folder.name}")  # a snapshot's folder has its commit's name


def load_checkpoint(
    checkpoint: Checkpoint,
    *,
    device: str,
    cache_dir: Path,
    progress: Callable[[str], None],
    engine: str = "torch",
) -> ClapModel:
    """Load a model whose files are there. Blocks.

    Args:
        checkpoint: its files.
        device: as torch names it.
        cache_dir: see ``load_model``.
        progress: see ``load_model``.
        engine: see ``load_model``.

    Raises:
        DamagedError: files of a download were damaged; they were thrown away.
        ModelError: the model cannot be used; the message says what to do.
        ConfigurationError: there is no such engine.
    """
    from clap_server.clap.huggingface import HuggingFaceClap

    name = checkpoint.name
    progress(f"Loading {name}")
    with _memory_told(name, device):
        try:
            model = HuggingFaceClap(
                checkpoint.folder,
                name=name,
                device=device,
                cache_dir=cache_dir,
                identity=checkpoint.identity,
            )
        except ModelError as error:
            if checkpoint.identity is not None:
                blame_damage(name, checkpoint.folder, error)
            raise
        if engine != "torch":
            model.use_engine(engine, cache_dir, progress)
    return model


@contextmanager
def _memory_told(name: str, device: str) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"The memory of {device} is too small for the model {name!r}: free some, use another device or "
            "a smaller model."
        ) from error


def _is_folder_name(name: str) -> bool:
    return name.startswith(("/", ".", "~")) or (bool(name) and Path(name).is_dir())
