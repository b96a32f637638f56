"""Libraries that only evaluation needs, and that are installed with it."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from clap_server.errors import ConfigurationError


def require(module: str, package: str) -> Any:
    """Import a module of the extra ``evaluate``.

    Args:
        module: as Python imports it.
        package: as people know it.

    Raises:
        ConfigurationError: it is not installed; the message says how to install it.
    """
    try:
        # What a library has to say about its own code on import is no news for the user.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f"Evaluation needs {package}: install it with pip install 'clap-server[evaluate]'."
        ) from error
