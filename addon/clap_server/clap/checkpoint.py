"""What can be said of a checkpoint without transformers, which takes seconds to import."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from clap_server.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path


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
            f"config.json of the model {name!r} cannot be read ({first_line(error)}). Download it again."
        ) from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "clap":
        raise ModelError(
            f"{name!r} is not a CLAP model (its model_type is {kind!r}). Use one that is, such as "
            "laion/clap-htsat-fused, or 'builtin'."
        )


def first_line(error: BaseException) -> str:
    """What an error of a library says, without the rest that it says."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
