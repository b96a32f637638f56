"""How long a model takes for a window on this machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from clap_server.clap.deciding import BATCH, Speed
from clap_server.clap.engines.checks import check_sounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from clap_server.clap.model import ClapModel

_ROUNDS = 3


def measure(model: ClapModel) -> Speed:
    """Time a model with all that belongs to a window: features, tower, the way to the device. Blocks.

    Args:
        model: that nobody else uses.
    """
    sounds = check_sounds(model.sample_rate, model.window_s)[:BATCH]
    model.embed_audio(sounds)  # the first time things are set up
    return Speed(_fastest_ms(model, sounds[:1]), _fastest_ms(model, sounds))


def _fastest_ms(model: ClapModel, windows: Sequence[NDArray[np.float32]]) -> float:
    """Of several times: what else runs in a moment only adds to it."""
    times = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        model.embed_audio(windows)
        times.append(time.perf_counter() - started)
    return 1000 * min(times) / len(windows)
