"""Gives each model its bank of everyday sound: what it came with, what was made before, or a new one."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from clap_server.clap.everyday import EverydayBank
from clap_server.clap.model import ClapModel
from clap_server.detection.everyday.making import VERSION, synthesised_bank
from clap_server.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

_LOGGER = logging.getLogger(__name__)

FOLDER = "everyday"
"""Where banks lie within the folder of models."""

BUILTIN_FILE = "everyday.npz"


class _Checkpoint(ClapModel, Protocol):
    """A model that takes a bank."""

    everyday: EverydayBank | None


def model_key(model: ClapModel) -> str:
    """Say what a bank is made for: these weights, in this number format."""
    return f"{getattr(model, 'identity', model.name)} {model.dtype}"


def prepared(
    model: ClapModel, cache_dir: Path, progress: Callable[[str], None], *, own_dir: Path | None = None
) -> ClapModel:
    """Give a model its bank. Blocks; once per checkpoint for minutes.

    A bank that ``clap-server calibrate`` made of the user's own recordings joins it.

    Args:
        model: as it was loaded.
        cache_dir: keeps what is made.
        progress: called with a line of text.
        own_dir: where ``clap-server calibrate`` keeps its banks; ``cache_dir`` if left out.

    Returns:
        The same model.
    """
    bank = common_bank(model, cache_dir, progress)
    path = own_path(model.name, own_dir or cache_dir)
    own = read(path, model, "is not used: run `clap-server calibrate` again, or with --reset")
    give(model, bank if own is None else bank.joined(own))
    return model


def give(model: ClapModel, bank: EverydayBank) -> None:
    """Let a model's scores mean what this bank says."""
    cast("_Checkpoint", model).everyday = bank


def common_bank(model: ClapModel, cache_dir: Path, progress: Callable[[str], None]) -> EverydayBank:
    """A model's bank without the user's own recordings: shipped, made before, or made now. Blocks.

    Args:
        model: as it was loaded.
        cache_dir: keeps what is made.
        progress: called with a line of text.
    """
    key = model_key(model)
    bank = _shipped(model) if model.builtin else None
    path = bank_path(key, cache_dir)
    bank = bank or read(path, model, "is made again")
    if bank is None:
        bank = synthesised_bank(model, key, progress)
        try:
            bank.save(path)
        except OSError as error:
            _LOGGER.warning("The bank of everyday sound cannot be stored in %s: %s", path.parent, error)
    return bank


def preparer(cache_dir: Path) -> Callable[[ClapModel, Callable[[str], None]], ClapModel]:
    """Make what ``ModelHolder(prepare=...)`` takes, so that each model it loads has its bank.

    Args:
        cache_dir: folder ``models`` of the server's data folder.
    """

    def prepare(model: ClapModel, progress: Callable[[str], None]) -> ClapModel:
        return prepared(model, cache_dir, progress)

    return prepare


def _shipped(model: ClapModel) -> EverydayBank | None:
    from clap_server.clap import builtin

    return read(builtin.FOLDER / BUILTIN_FILE, model, "is replaced by a synthesised one")


def read(path: Path, model: ClapModel, consequence: str) -> EverydayBank | None:
    """Read a bank; None if there is none, or it is damaged or of another model, of which the log tells.

    Args:
        path: of the file.
        model: whose it should be.
        consequence: what happens if it cannot be used, for the log.
    """
    try:
        bank = EverydayBank.load(path)
    except FileNotFoundError:
        return None
    except ModelError as error:
        _LOGGER.warning("%s, and %s", error, consequence)
        return None
    if len(bank.mean) != model.dimension:
        _LOGGER.warning(
            "The bank of everyday sound %s has embeddings of another size than the model's and %s",
            path,
            consequence,
        )
        return None
    if bank.made_for != model_key(model):
        _LOGGER.warning(
            "The bank of everyday sound %s is of other weights or another number format and %s",
            path,
            consequence,
        )
        return None
    return bank


def bank_path(key: str, cache_dir: Path) -> Path:
    """Where the bank that is made for a model is kept."""
    return cache_dir / FOLDER / f"made-{_digest(f'{key} {VERSION}')}.npz"


def own_path(name: str, own_dir: Path) -> Path:
    """Where the bank of the user's own recordings for a model is kept.

    Args:
        name: of the model, whatever its weights, so that a bank of earlier ones is found and told about.
        own_dir: where ``clap-server calibrate`` keeps its banks.
    """
    folder = Path(name).expanduser()
    known_as = str(folder.resolve()) if name != "builtin" and folder.is_dir() else name
    return own_dir / FOLDER / f"own-{_digest(known_as)}.npz"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
