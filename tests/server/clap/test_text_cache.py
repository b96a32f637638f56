"""Text embeddings on disk."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.clap.text_cache import TextCache

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


class Counting:
    """Embeds a text as its length, and remembers which it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += texts
        return np.array([[len(text), 1.0, 0.0] for text in texts], np.float32)


def test_only_what_is_missing_is_computed(tmp_path: Path) -> None:
    compute = Counting()
    TextCache(tmp_path, "model", 3).embed(["one", "three"], compute)
    found = TextCache(tmp_path, "model", 3).embed(["three", "fifteen", "three", "one"], compute)
    assert compute.asked == ["one", "three", "fifteen"]
    np.testing.assert_array_equal(found[:, 0], [5, 7, 5, 3])
    assert found.dtype == np.float32


def test_another_model_does_not_see_them(tmp_path: Path) -> None:
    TextCache(tmp_path, "model", 3).embed(["one"], Counting())
    compute = Counting()
    TextCache(tmp_path, "other", 3).embed(["one"], compute)
    assert compute.asked == ["one"]


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "shape", "nan", "type", "pickle"])
def test_a_damaged_file_is_computed_again_and_mended(tmp_path: Path, damage: str) -> None:
    TextCache(tmp_path, "model", 3).embed(["one"], Counting())
    (path,) = tmp_path.rglob("*.npy")
    content = path.read_bytes()
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(content[:-4])
        case "text":
            path.write_text("hello")
        case "shape":
            np.save(path, np.zeros(4, np.float32))
        case "nan":
            np.save(path, np.full(3, np.nan, np.float32))
        case "type":
            np.save(path, np.zeros(3))
        case "pickle":
            np.save(path, np.array([{}, {}, {}], dtype=object))
    compute = Counting()
    found = TextCache(tmp_path, "model", 3).embed(["one"], compute)
    np.testing.assert_array_equal(found, [[3, 1, 0]])
    assert compute.asked == ["one"]
    assert path.read_bytes() == content


def test_no_half_written_file_is_left(tmp_path: Path) -> None:
    TextCache(tmp_path, "model", 3).embed(["one", "two"], Counting())
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".npy"}


def test_a_folder_that_cannot_be_written_is_told_once_and_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = TextCache(tmp_path / "file", "model", 3)
    with caplog.at_level(logging.WARNING):
        found = cache.embed(["one", "two"], Counting())
        cache.embed(["three"], Counting())
    np.testing.assert_array_equal(found[:, 0], [3, 3])
    assert sum("cannot be cached" in record.message for record in caplog.records) == 1


def test_it_does_not_grow_for_ever(tmp_path: Path) -> None:
    compute = Counting()
    for number in range(30):
        TextCache(tmp_path, "model", 3, most=10).embed([f"text {number}", "new " * number], compute)
    assert 5 <= len(list(tmp_path.rglob("*.npy"))) <= 10
    before = len(compute.asked)
    TextCache(tmp_path, "model", 3).embed(["text 29"], compute)
    assert len(compute.asked) == before
