"""What a threshold finds comes from the file beside the built-in model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server.clap import builtin
from clap_server.detection.everyday import found as found_module
from clap_server.detection.everyday.found import FILE, FoundScores, Share, found_by, load_found
from clap_server.errors import ModelError
from tests.server.listening.spectral import SpectralModel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@settings(deadline=None)
@given(
    scores=st.lists(st.floats(0, 1), max_size=40),
    missed=st.integers(1, 20),
    threshold=st.floats(0, 1),
    higher=st.floats(0, 1),
)
def test_the_share_falls_with_the_threshold_and_lies_within_its_bounds(
    scores: list[float], missed: int, threshold: float, higher: float
) -> None:
    found = FoundScores(len(scores) + missed, np.sort(np.array(scores)))
    share = found.at(threshold)
    assert share.found == sum(score >= threshold for score in scores)
    assert 0 <= share.low <= share.share <= share.high <= 1
    assert found.at(max(threshold, higher)).found <= share.found


def test_bounds_are_clopper_and_pearsons() -> None:
    share = FoundScores(10, np.array([0.6, 0.7, 0.75, 0.9])).at(0.7)
    assert (share.found, share.events) == (3, 10)
    # Clopper and Pearson's interval of 3 in 10, as tables have it.
    assert (share.low, share.high) == pytest.approx((0.0667, 0.6525), abs=1e-4)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (41, "found 4 of 10 in tests"),
        (2, "found hardly any in tests"),
        (98, "found nearly all in tests"),
    ],
)
def test_a_share_is_told_in_tenths(found: int, words: str) -> None:
    assert Share(found, 100, 0, 1).words == words


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in the built-in model's place."""
    monkeypatch.setattr(builtin, "FOLDER", tmp_path)
    found_module._shipped.cache_clear()
    yield tmp_path
    found_module._shipped.cache_clear()


class _Builtin(SpectralModel):
    def __init__(self) -> None:
        super().__init__()
        self.builtin = True


def test_the_built_in_model_has_its_file_and_no_other_model_does(shipped: Path) -> None:
    content = {"glass_breaking": {"events": 4, "scores": [0.9, 0.2]}}
    (shipped / FILE).write_text(json.dumps(content), "utf-8")
    assert found_by(_Builtin())["glass_breaking"].at(0.5).found == 1
    assert found_by(SpectralModel()) == {}


def test_without_a_file_nothing_is_said(shipped: Path) -> None:
    assert not (shipped / FILE).exists()
    assert found_by(_Builtin()) == {}


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        '{"alarm": {"events": 1}}',
        '{"alarm": {"events": 1, "scores": [0.1, 0.2]}}',
        '{"alarm": {"events": 0, "scores": []}}',
        '{"alarm": {"events": 2.5, "scores": [0.1]}}',
        '{"alarm": {"events": 3, "scores": [1.5]}}',
        '{"alarm": {"events": 3, "scores": [NaN]}}',
        '{"alarm": {"events": 3, "scores": "many"}}',
    ],
)
def test_a_damaged_file_is_told_and_not_used(
    shipped: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    (shipped / FILE).write_text(text, "utf-8")
    with pytest.raises(ModelError, match="cannot be read"):
        load_found(shipped / FILE)
    assert found_by(_Builtin()) == {}
    assert "nothing is said of it" in caplog.text
