"""ONNX Runtime: an alternative on ARM, from a graph that is exported once."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from clap_server.clap.engines.engine import Source

_INPUT, _OUTPUT = "features", "embeddings"
_OPSET = 17


class OnnxRuntime:
    """Runs a graph on the CPU.

    Args:
        path: of the graph.
        name: of the engine.
        dtype: in which it computes.
        threads: to compute with.
    """

    def __init__(self, path: Path, name: str, dtype: str, threads: int) -> None:
        import onnxruntime

        self.name = name
        self.dtype = dtype
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that wait by spinning would take the cores from whoever decodes sound.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def embed(self, features: torch.Tensor) -> NDArray[np.float32]:
        """Embed; see ``Engine``."""
        [result] = self._session.run([_OUTPUT], {_INPUT: features.numpy()})
        return np.asarray(result, np.float32)

    def close(self) -> None:
        """See ``Engine``."""
        self._session = None


def missing(device: str, dtype: str) -> str | None:
    """Why it cannot be had on a device, in words; None if it can."""
    del device, dtype
    return None


def build(source: Source, name: str, dtype: str) -> OnnxRuntime:
    """Make it, and export its graph if that may be.

    Raises:
        EngineError: there is no graph and none may be made.
    """
    path = source.folder / "tower.onnx"
    if not path.exists():
        source.may_export("its graph")
        _export(source, path)
    return OnnxRuntime(path, name, dtype, source.threads)


def _export(source: Source, path: Path) -> None:
    import torch

    with warnings.catch_warnings(), torch.inference_mode():
        # The tracer warns of each shape that it takes for given, and given they are.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            source.tower(),
            (torch.zeros(2, 1, source.frames, source.mels),),
            str(path),
            # By tracing: the newer exporter fails on transformers' shifted windows.
            dynamo=False,
            input_names=[_INPUT],
            output_names=[_OUTPUT],
            dynamic_axes={_INPUT: {0: "windows"}, _OUTPUT: {0: "windows"}},
            opset_version=_OPSET,
        )
