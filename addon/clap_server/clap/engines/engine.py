"""What an engine is, and what it is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from clap_server.errors import ClapServerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from clap_server.clap.engines.tower import AudioTower


class EngineError(ClapServerError):
    """An engine cannot be had here; says why."""


class Engine(Protocol):
    """Runs the audio tower. Methods are safe to call from one thread at a time."""

    @property
    def name(self) -> str:
        """Which one it is (see ``kinds.KINDS``)."""

    @property
    def dtype(self) -> str:
        """The number format it computes in: ``float32``, ``bfloat16``, ``float16``, ``int8``."""

    def embed(self, features: torch.Tensor) -> NDArray[np.float32]:
        """Embed log-mel windows.

        Args:
            features: ``(n, 1, frames, mels)`` float32 on the engine's device, ``n`` at least 1.

        Returns:
            ``(n, dimension)``, L2-normalised. A window's row does not depend on the others.
        """

    def close(self) -> None:
        """Give back what it holds; it is not used after."""


@dataclass(frozen=True)
class Source:
    """What an engine is made from.

    Attributes:
        tower: gives the audio tower in float32 on ``device``; an engine that has its graph on disk never
            asks for it.
        device: as torch names it.
        frames: of a window.
        mels: mel bins of a frame.
        threads: to compute with on a CPU.
        folder: for what is exported once; this engine's own. Exists.
        calibration: features of sounds from which a quantisation learns its ranges, ``(n, 1, frames, mels)``;
            None where nothing may be exported.
    """

    tower: Callable[[], AudioTower]
    device: str
    frames: int
    mels: int
    threads: int
    folder: Path
    calibration: torch.Tensor | None = None

    def may_export(self, what: str) -> torch.Tensor:
        """Check that something that is not on disk may be made now.

        Args:
            what: for the message.

        Returns:
            Features of sounds from which a quantisation learns its ranges.

        Raises:
            EngineError: it may not.
        """
        if self.calibration is None:
            raise EngineError(f"{what} is not where it was put")
        return self.calibration
