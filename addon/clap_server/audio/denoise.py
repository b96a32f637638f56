"""RNNoise, a small recurrent network that takes the noise out of speech (Valin 2018).

It comes with the package pyrnnoise, its weights in the library. Of that package only the library is loaded:
what else it imports (plots, file readers) is not needed, nor installed by our lock files.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import finalize

import numpy as np

from clap_server.audio.resample import Resampler
from clap_server.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 48_000
DELAY_S = 0.05
"""How much later the sound comes out: RNNoise's frame, and the filters of the resampling."""
_FULL_SCALE = 32768.0


@functools.cache
def _library() -> Any:
    """The native library, with its functions' types declared by the package itself.

    Raises:
        ConfigurationError: it is not installed, or cannot be loaded.
    """
    package = importlib.util.find_spec("pyrnnoise")
    if package is None or package.origin is None:
        raise ConfigurationError(
            "noise suppression is not installed on this server: install clap-server[denoise], or leave it off"
        )
    try:
        path = Path(package.origin).with_name("rnnoise.py")
        spec = importlib.util.spec_from_file_location("clap_server_rnnoise", path)
        if spec is None or spec.loader is None:
            raise ImportError(path.name)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except (ImportError, OSError, AttributeError) as error:
        raise ConfigurationError(
            f"noise suppression cannot be loaded on this server ({error}): leave it off"
        ) from error
    return module


def check_denoise() -> None:
    """Find out whether sound can be denoised here.

    Raises:
        ConfigurationError: it cannot; says what to do.
    """
    _library()


class Denoiser:
    """Takes the noise out of one stream.

    Args:
        sample_rate: of what comes in and goes out, in Hz.

    Raises:
        ConfigurationError: RNNoise is not installed, or cannot be loaded.
    """

    def __init__(self, sample_rate: int) -> None:
        module = _library()
        self._rate = sample_rate
        self._frame = int(module.FRAME_SIZE)
        self._process = module.lib.rnnoise_process_frame
        self._state = module.create()
        finalize(self, module.destroy, self._state)
        self._up = Resampler(RATE)
        self._down = Resampler(sample_rate)
        self._waiting = np.empty(0, np.float32)
        self._ready = np.zeros(round(DELAY_S * sample_rate), np.float32)

    def take(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Denoise the next ``(n,)`` samples.

        Returns:
            ``(n,)``: the sound of ``DELAY_S`` before.
        """
        waiting = np.concatenate((self._waiting, self._up.push(samples, self._rate)))
        whole = len(waiting) // self._frame * self._frame
        self._waiting = waiting[whole:]
        frames = np.ascontiguousarray(waiting[:whole] * np.float32(_FULL_SCALE))
        for start in range(0, whole, self._frame):
            frame = frames[start : start + self._frame].ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            self._process(self._state, frame, frame)
        clean = np.clip(frames / np.float32(_FULL_SCALE), -1.0, 1.0).astype(np.float32, copy=False)
        self._ready = np.concatenate((self._ready, self._down.push(clean, RATE)))
        count = len(samples)
        if len(self._ready) < count:
            # The filters of a rate may hold back more: silence first, and the sound that much later.
            self._ready = np.concatenate((np.zeros(count - len(self._ready), np.float32), self._ready))
        out, self._ready = self._ready[:count], self._ready[count:]
        return out
