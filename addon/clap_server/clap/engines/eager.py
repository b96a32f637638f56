"""PyTorch as it is: in float32 the measure of all others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from clap_server.clap.engines import processor
from clap_server.clap.threads import use_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clap_server.clap.engines.engine import Source


class Eager:
    """Runs the tower's own code.

    Args:
        source: of the tower.
        name: of the engine.
        dtype: ``bfloat16`` computes matrix products in it by autocast, the rest in float32.
    """

    def __init__(self, source: Source, name: str, dtype: str) -> None:
        self.name = name
        self.dtype = dtype
        self._tower = source.tower()
        self._threads = source.threads
        self._kind = torch.device(source.device).type

    def embed(self, features: torch.Tensor) -> NDArray[np.float32]:
        """Embed; see ``Engine``."""
        use_threads(self._threads)
        with (
            torch.inference_mode(),
            torch.autocast(self._kind, torch.bfloat16, enabled=self.dtype == "bfloat16"),
        ):
            return np.asarray(self._tower(features).cpu().numpy(), np.float32)

    def close(self) -> None:
        """See ``Engine``; the tower is its owner's."""


def missing(device: str, dtype: str) -> str | None:
    """Why it cannot be had on a device, in words; None if it can."""
    if dtype == "bfloat16" and device == "cpu" and not processor.multiplies_bfloat16():
        return "this processor does not multiply in bfloat16"
    return None


def build(source: Source, name: str, dtype: str) -> Eager:
    """Make it."""
    return Eager(source, name, dtype)
