"""Calibration on synthesised sounds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.clap.huggingface import HuggingFaceClap
from clap_server.clap.model import Calibration
from clap_server.detection.calibration import fit as calibration
from clap_server.detection.calibration.fit import KNOWN_SD, calibrated, fit, preparer
from clap_server.detection.library import load_library
from clap_server.detection.scoring import UNCALIBRATED, sigmoid
from clap_server.errors import ModelError
from tests.server.clap.checkpoints import write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LIBRARY = load_library()


def even(targets: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights with which positives and negatives count the same."""
    return np.asarray(np.where(targets, 0.5 / targets.sum(), 0.5 / (~targets).sum()) * len(targets))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), fused=True)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The server's data folder, rather than that of who runs the tests."""
    monkeypatch.setenv("CLAP_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def few_sounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of each kind: what is tested here does not depend on how many there are."""
    monkeypatch.setattr(calibration, "_EXAMPLES", 1)


def load(folder: Path, cache_dir: Path) -> HuggingFaceClap:
    return HuggingFaceClap(folder, name="tiny", device="cpu", cache_dir=cache_dir)


def drawn(scale: float, bias: float, count: int = 20_000) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Margins and outcomes of a model whose true curve is known."""
    rng = np.random.default_rng(11)
    margins = rng.uniform(-0.4, 0.4, count)
    return margins, rng.random(count) < sigmoid(scale * margins + bias)


@pytest.mark.parametrize("scale", [5.0, 15.0, 40.0])
def test_the_fit_finds_the_true_curve(scale: float) -> None:
    margins, targets = drawn(scale, 0.0)
    found = fit(margins, targets, even(targets))
    assert found.scale == pytest.approx(scale, rel=0.1)
    assert found.bias == pytest.approx(0.0, abs=0.15)


def test_half_means_as_likely_as_not_however_rare_the_sound_was() -> None:
    rng = np.random.default_rng(2)
    margins = np.concatenate([rng.normal(0.1, 0.1, 200), rng.normal(-0.3, 0.1, 20_000)])
    rare = np.arange(len(margins)) < 200
    found = fit(margins, rare, even(rare))
    assert found.scale * -0.1 + found.bias == pytest.approx(0.0, abs=0.5)  # halfway between the two


@pytest.mark.parametrize("before", [Calibration(10.0, -1.0), Calibration(30.0, 2.0)])
def test_a_few_sounds_leave_it_near_what_was_known_and_many_replace_it(before: Calibration) -> None:
    few = fit(np.array([0.1, -0.1]), np.array([True, False]), np.ones(2), before, KNOWN_SD)
    assert few.scale == pytest.approx(before.scale, abs=2.0)
    assert few.bias == pytest.approx(before.bias, abs=0.8)
    margins, targets = drawn(20.0, 0.0)
    many = fit(margins, targets, np.ones(len(margins)), before, KNOWN_SD)
    assert many.scale == pytest.approx(20.0, rel=0.1)
    assert many.bias == pytest.approx(0.0, abs=0.15)


def test_sounds_told_apart_without_an_error_give_a_finite_scale() -> None:
    found = fit(np.array([0.3, 0.2, -0.2, -0.3]), np.array([True, True, False, False]), np.ones(4))
    assert 1 < found.scale < 200
    assert sigmoid(np.array(found.scale * 0.3 + found.bias)) > 0.9


def test_a_better_match_never_scores_lower() -> None:
    margins, targets = drawn(20.0, 0.0)
    assert fit(margins, ~targets, even(~targets)).scale > 0


def test_embeddings_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ModelError, match="not numbers"):
        fit(np.array([np.nan, 0.1]), np.array([True, False]), np.ones(2))


def test_a_model_is_calibrated_once_and_told_about(checkpoint: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    first = calibrated(load(checkpoint, tmp_path), LIBRARY, tmp_path, lines.append, models_dir=tmp_path)
    assert first.calibration is not None
    assert first.calibration != UNCALIBRATED
    assert first.calibration.scale > 0
    assert np.isfinite(first.calibration.bias)
    assert lines[-1] == "Calibrating tiny: 100 %"
    lines.clear()
    again = preparer(LIBRARY, tmp_path)(load(checkpoint, tmp_path), lines.append)
    assert again.calibration == first.calibration
    assert lines == []

    (stored,) = (tmp_path / "calibration").iterdir()
    for damage in ("", "{", "[]", '{"scale": "x", "bias": 0}', '{"scale": -1, "bias": 0}'):
        stored.write_text(damage)
        mended = calibrated(load(checkpoint, tmp_path), LIBRARY, tmp_path, lines.append, models_dir=tmp_path)
        assert mended.calibration == first.calibration
        assert json.loads(stored.read_text())["scale"] == first.calibration.scale


@pytest.mark.parametrize("wrong", ["{}", '{"scale": "x", "bias": 0}', '{"scale": -1, "bias": 0}'])
def test_a_calibration_that_came_with_the_weights_is_used_and_refused_if_it_makes_no_sense(
    checkpoint: Path, tmp_path: Path, wrong: str
) -> None:
    path = checkpoint / "clap_calibration.json"
    try:
        path.write_text('{"scale": 12.5, "bias": -0.5}')
        model = calibrated(load(checkpoint, tmp_path), LIBRARY, tmp_path, pytest.fail, models_dir=tmp_path)
        assert model.calibration == Calibration(12.5, -0.5)
        path.write_text(wrong)
        with pytest.raises(ModelError, match=r"clap_calibration\.json"):
            load(checkpoint, tmp_path)
    finally:
        path.unlink()


def test_a_model_that_tells_nothing_apart_is_told_about(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = load(checkpoint, tmp_path)
    # Whatever it hears, it takes for the same: the margins of right and wrong labels get mixed up.
    monkeypatch.setattr(calibration, "_PRIOR_SD", (1e6, 3.0))
    monkeypatch.setattr(calibration, "_SMALLEST_SCALE", 1e5)
    assert calibration.calibrate(model, LIBRARY, lambda _: None).scale == 1e5
    assert "hardly tells synthesised sounds apart" in caplog.text


def test_a_cache_that_cannot_be_written_harms_nothing(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    model = calibrated(
        load(checkpoint, tmp_path), LIBRARY, tmp_path / "file", lambda _: None, models_dir=tmp_path
    )
    assert model.calibration is not None
    assert "cannot be stored" in caplog.text
