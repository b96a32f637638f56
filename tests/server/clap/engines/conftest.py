"""What the tests of engines share."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest

from clap_server.clap.engines import checks, choosing
from clap_server.clap.huggingface import HuggingFaceClap

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

# The same each time, and it takes a second to make them.
_check_sounds = cache(checks.check_sounds)
_calibration_sounds = cache(checks.calibration_sounds)


@pytest.fixture(autouse=True)
def _sounds_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "check_sounds", _check_sounds)
    monkeypatch.setattr(choosing, "calibration_sounds", _calibration_sounds)


@pytest.fixture
def model(unfused_checkpoint: Path, tmp_path: Path) -> HuggingFaceClap:
    return HuggingFaceClap(unfused_checkpoint, name="tiny", device="cpu", cache_dir=tmp_path)


@pytest.fixture
def windows(model: HuggingFaceClap) -> list[NDArray[np.float32]]:
    """Sounds that a model tells apart."""
    return _check_sounds(model.sample_rate, model.window_s)[:5]
