from __future__ import annotations

import numpy as np
import pytest

from clap_server.audio.level import FLOOR_DBFS, level_dbfs
from tests.server.audio.helpers import sine


def test_a_full_scale_square_wave_has_0_dbfs() -> None:
    assert level_dbfs(np.tile(np.array([1, -1], np.float32), 100)) == pytest.approx(0.0)


def test_half_the_amplitude_is_6_db_less() -> None:
    loud, quiet = level_dbfs(sine(1000, 1)), level_dbfs(sine(1000, 1, amplitude=0.25))
    assert loud - quiet == pytest.approx(6.02, abs=0.01)


@pytest.mark.parametrize(
    "samples", [np.zeros(10, np.float32), np.zeros(0, np.float32), np.full(9, 1e-9, np.float32)]
)
def test_silence_has_the_floor_level(samples: np.ndarray) -> None:
    assert level_dbfs(samples) == FLOOR_DBFS
