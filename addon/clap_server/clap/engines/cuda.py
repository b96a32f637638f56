"""An NVIDIA GPU in half precision, replaying a recorded graph for each size of batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clap_server.clap.engines.engine import Source

BUCKETS = (1, 2, 4, 8, 16, 32)
"""Sizes of batches of which there is a graph; others are filled up to the next one, or cut."""

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
# PyTorch asks for some runs on another stream before a graph is recorded.
_WARM_UPS = 3


class Cuda:
    """Launches a batch's hundreds of kernels as one.

    Args:
        source: of the tower.
        name: of the engine.
        dtype: ``float16`` or ``bfloat16``, for matrix products by autocast.
    """

    def __init__(self, source: Source, name: str, dtype: str) -> None:
        self.name = name
        self.dtype = dtype
        self._tower = source.tower()
        self._device = torch.device(source.device)
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor, torch.Tensor]] = {}
        with torch.inference_mode(), torch.cuda.device(self._device):
            # The largest first: smaller ones then live in its memory.
            for size in reversed(BUCKETS):
                self._graphs[size] = self._record(size, source.frames, source.mels)

    def _record(
        self, size: int, frames: int, mels: int
    ) -> tuple[torch.cuda.CUDAGraph, torch.Tensor, torch.Tensor]:
        features = torch.zeros(size, 1, frames, mels, device=self._device)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's omission
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._compute(features)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        first = next(iter(self._graphs.values()), None)
        with torch.cuda.graph(graph, pool=first[0].pool() if first else None):
            embeddings = self._compute(features)
        return graph, features, embeddings

    def _compute(self, features: torch.Tensor) -> torch.Tensor:
        # Without autocast's cache of converted weights, which a recorded graph must not share.
        with torch.autocast("cuda", _DTYPES[self.dtype], cache_enabled=False):
            embeddings: torch.Tensor = self._tower(features)
        return embeddings

    def embed(self, features: torch.Tensor) -> NDArray[np.float32]:
        """Embed; see ``Engine``."""
        rows = []
        with torch.inference_mode(), torch.cuda.device(self._device):
            for part in torch.split(features, BUCKETS[-1]):
                size = next(size for size in BUCKETS if size >= len(part))
                graph, given, embeddings = self._graphs[size]
                given[: len(part)].copy_(part)
                graph.replay()
                rows.append(embeddings[: len(part)].cpu().numpy())
        return np.concatenate(rows).astype(np.float32, copy=False)

    def close(self) -> None:
        """See ``Engine``."""
        self._graphs.clear()


def missing(device: str, dtype: str) -> str | None:
    """Why it cannot be had on a device, in words; None if it can."""
    if dtype == "bfloat16":
        with torch.cuda.device(torch.device(device)):
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                return "this GPU does not multiply in bfloat16"
    return None


def build(source: Source, name: str, dtype: str) -> Cuda:
    """Make it."""
    return Cuda(source, name, dtype)
