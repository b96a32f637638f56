"""The engines that there are."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clap_server.errors import ConfigurationError

if TYPE_CHECKING:
    from clap_server.clap.engines.engine import Engine, Source

AUTO = "auto"
_PACKAGE = "clap_server.clap.engines"
_TORCH = ("torch", "transformers")


@dataclass(frozen=True, slots=True)
class Kind:
    """One engine.

    Attributes:
        name: for settings, the log and the API.
        dtype: the number format it computes in.
        device: the kind of device it runs on, as torch names it; None: on any.
        module: its code. Has ``missing(device, dtype)`` and ``build(source, name, dtype)``, and imports its
            library no sooner than in the latter.
        libraries: the packages whose versions its speed and its exported graphs depend on.
    """

    name: str
    dtype: str
    device: str | None
    module: str
    libraries: tuple[str, ...]

    def missing(self, device: str) -> str | None:
        """Why it cannot be had on a device, in words; None if it may be tried."""
        kind = device.partition(":")[0]
        if self.device is not None and self.device != kind:
            return f"it does not run on {kind}"
        for library in self.libraries:
            if not installed(library):
                return f"the library {library} is not installed"
        found: str | None = self._code().missing(device, self.dtype)
        return found

    def build(self, source: Source) -> Engine:
        """Make it.

        Raises:
            EngineError: it cannot be had.
            Exception: whatever its library raises.
        """
        engine: Engine = self._code().build(source, self.name, self.dtype)
        return engine

    def versions(self) -> dict[str, str]:
        """Of its libraries."""
        return {library: importlib.metadata.version(library) for library in self.libraries}

    def _code(self) -> Any:
        return importlib.import_module(self.module)


def installed(library: str) -> bool:
    """Whether a library could be imported, as far as that is known without importing it."""
    try:
        return importlib.util.find_spec(library) is not None
    except ValueError:  # what stands in sys.modules in its place has none
        return False


EAGER = Kind("torch", "float32", None, f"{_PACKAGE}.eager", _TORCH)
"""The measure of all others; it is always there."""

KINDS = (
    EAGER,
    Kind("openvino", "float32", "cpu", f"{_PACKAGE}.openvino", (*_TORCH, "openvino")),
    Kind("onnxruntime", "float32", "cpu", f"{_PACKAGE}.onnxruntime", (*_TORCH, "onnx", "onnxruntime")),
    Kind("cuda-float16", "float16", "cuda", f"{_PACKAGE}.cuda", _TORCH),
    Kind("cuda-bfloat16", "bfloat16", "cuda", f"{_PACKAGE}.cuda", _TORCH),
    Kind("torch-bfloat16", "bfloat16", "cpu", f"{_PACKAGE}.eager", _TORCH),
    Kind("openvino-bfloat16", "bfloat16", "cpu", f"{_PACKAGE}.openvino", (*_TORCH, "openvino")),
    Kind("openvino-int8", "int8", "cpu", f"{_PACKAGE}.openvino", (*_TORCH, "openvino", "nncf")),
)
"""All engines, the more exact first."""


def check_name(wanted: str) -> None:
    """Check that an engine may be asked for.

    Raises:
        ConfigurationError: there is none of that name.
    """
    names = (AUTO, *(kind.name for kind in KINDS))
    if wanted not in names:
        raise ConfigurationError(f"The engine {wanted!r} is not known: use {', '.join(names)}.")
