"""The model that comes with the package and needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clap_server.clap.builtin.model import BuiltinClap

if TYPE_CHECKING:
    from clap_server.clap.model import ClapModel

FOLDER = Path(__file__).resolve().parent


def load_builtin(device: str, folder: Path = FOLDER) -> ClapModel:
    """Load the built-in model.

    Args:
        device: as torch names it: ``cpu``, ``cuda:0``.
        folder: where its files are, if not in the package.

    Raises:
        ModelError: a file is missing or damaged; the message names it.
    """
    return BuiltinClap(folder, device)
