"""OpenVINO: Intel's library for processors of all makers, from a graph that is exported once."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from clap_server.clap.engines import processor

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from clap_server.clap.engines.engine import Source


class OpenVino:
    """Runs a compiled graph.

    Args:
        model: read from disk.
        name: of the engine.
        dtype: in which it computes.
        threads: to compute with.
    """

    def __init__(self, model: Any, name: str, dtype: str, threads: int) -> None:
        self.name = name
        self.dtype = dtype
        half = dtype == "bfloat16" or (dtype == "int8" and processor.multiplies_bfloat16())
        compiled = (
            _library()
            .Core()
            .compile_model(
                model,
                "CPU",
                {
                    "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_NUM_THREADS": threads,
                    "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
                    # Whoever decodes sound on the same core would stand in the way.
                    "ENABLE_CPU_PINNING": False,
                },
            )
        )
        self._request: Any = compiled.create_infer_request()

    def embed(self, features: torch.Tensor) -> NDArray[np.float32]:
        """Embed; see ``Engine``."""
        result = self._request.infer([np.ascontiguousarray(features.numpy())], share_inputs=True)
        # A copy: the request writes the next result to the same place.
        return np.array(result[0], np.float32)

    def close(self) -> None:
        """See ``Engine``."""
        self._request = None


def missing(device: str, dtype: str) -> str | None:
    """Why it cannot be had on a device, in words; None if it can."""
    del device
    if dtype == "bfloat16" and not processor.multiplies_bfloat16():
        return "this processor does not multiply in bfloat16"
    if dtype == "int8" and not processor.multiplies_int8():
        return "on this processor 8-bit integers are no faster than float32"
    return None


def build(source: Source, name: str, dtype: str) -> OpenVino:
    """Make it, and export its graph if that may be.

    Raises:
        EngineError: there is no graph and none may be made.
    """
    path = source.folder / "tower.xml"
    if not path.exists():
        calibration = source.may_export("its graph")
        _export(source, path, calibration if dtype == "int8" else None)
    return OpenVino(_library().Core().read_model(path), name, dtype, source.threads)


def _library() -> Any:
    # It would report to its maker what is done with it.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


def _export(source: Source, path: Path, calibration: torch.Tensor | None) -> None:
    import torch

    library = _library()
    example = torch.zeros(2, 1, source.frames, source.mels)
    with warnings.catch_warnings(), torch.inference_mode():
        # The tracer warns of each shape that it takes for given, and given they are.
        warnings.simplefilter("ignore")
        model = library.convert_model(
            source.tower(),
            example_input=example,
            input=[library.PartialShape([-1, 1, source.frames, source.mels])],
        )
        if calibration is not None:
            model = _quantised(model, calibration.numpy())
    library.save_model(model, path, compress_to_fp16=False)


def _quantised(model: Any, calibration: NDArray[np.float32]) -> Any:
    """Have weights and activations in 8 bits, with ranges learnt from sounds (post-training quantisation)."""
    import nncf

    return nncf.quantize(
        model,
        nncf.Dataset([calibration[row : row + 1] for row in range(len(calibration))]),
        model_type=nncf.ModelType.TRANSFORMER,
        # Symmetric weights, asymmetric activations: after GELU these have one long side.
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(calibration),
    )
