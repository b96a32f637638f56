"""A bank gives back what went in, survives a file, and is refused when it is damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.clap.everyday import EverydayBank, Piece
from clap_server.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PIECES = (Piece(frozenset({"speech"}), ("speech", "people talking")), Piece(tags=("dishes",)), Piece())


def vectors(count: int, dimension: int = 128, seed: int = 0) -> NDArray[np.float32]:
    """Unit vectors that mostly lie in a few directions, as embeddings do."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(count, 20)) @ rng.normal(size=(20, dimension)) + rng.normal(size=dimension)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def bank(seed: int = 0) -> EverydayBank:
    ends_s = np.array([0.5, 1.0, 1.2, 1.5, 0.5, 3.0, 0.7, 1.2])
    recordings = np.array([0, 0, 0, 0, 1, 1, 2, 2], np.intp)
    return EverydayBank.of(
        "model", vectors(8, seed=seed), ends_s, recordings, PIECES, hop_s=0.5, sources="three"
    )


def test_embeddings_come_back_nearly_as_they_were() -> None:
    many = vectors(3000)
    kept = EverydayBank.of(
        "m", many, np.arange(3000) / 2, np.zeros(3000, np.intp), (Piece(),), hop_s=0.5, sources=""
    )
    assert kept.codes.dtype == np.int8
    np.testing.assert_allclose((kept.embeddings() * many).sum(axis=1), 1, atol=0.003)
    np.testing.assert_allclose(kept.embeddings(slice(5, 9)), kept.embeddings()[5:9], atol=1e-6)


def test_hours_are_the_new_sound_of_each_window() -> None:
    np.testing.assert_allclose(bank().seconds, [0.5, 0.5, 0.2, 0.3, 0.5, 0.5, 0.5, 0.5])
    assert bank().hours == pytest.approx(3.5 / 3600)


def test_a_file_gives_back_the_same(tmp_path: Path) -> None:
    before = bank()
    before.save(tmp_path / "deep" / "bank.npz")
    after = EverydayBank.load(tmp_path / "deep" / "bank.npz")
    assert (after.made_for, after.pieces, after.hop_s, after.sources) == ("model", PIECES, 0.5, "three")
    np.testing.assert_array_equal(after.codes, before.codes)
    np.testing.assert_allclose(after.ends_s, before.ends_s)
    np.testing.assert_array_equal(after.recordings, before.recordings)
    np.testing.assert_allclose(after.embeddings(), before.embeddings(), atol=1e-3)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["bank.npz"]


def test_two_banks_become_one() -> None:
    both = bank().joined(bank(seed=1))
    assert len(both.pieces) == 6
    assert both.recordings.max() == 5
    assert both.hours == pytest.approx(2 * bank().hours)
    assert both.tags == ("dishes", "people talking", "speech")
    np.testing.assert_allclose(both.embeddings()[:8], bank().embeddings(), atol=0.05)


def test_windows_without_some_pieces() -> None:
    kept = bank().without(np.array([True, False, False]))
    assert kept.tolist() == [False] * 4 + [True] * 4


_OTHER_WORDS = {
    "long_hop": (b'"hop_s": 0.5', b'"hop_s": 1e9'),
    "number_for_tag": (b'"tags": []', b'"tags": ["a fan", 7]'),
    "text_for_tags": (b'"tags": []', b'"tags": "a fan"'),
}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("cut", "it was cut off, or is no such file"),
        ("empty", "it was cut off, or is no such file"),
        ("text", "it was cut off, or is no such file"),
        ("missing", "it was cut off, or is no such file"),
        ("other_format", "it has another format (9) than this version's"),
        ("misfit", "its recordings do not fit together"),
        ("not_finite", "some of its values make no sense"),
        ("long_hop", "some of its values make no sense"),
        ("backwards", "its windows are out of order"),
        ("number_for_tag", "its recordings are not described in words"),
        ("text_for_tags", "its recordings are not described in words"),
    ],
)
def test_a_damaged_file_is_refused_in_words_of_our_own(tmp_path: Path, damage: str, words: str) -> None:
    path = tmp_path / "bank.npz"
    good = bank()
    good.save(path)
    if damage in {"cut", "empty", "text"}:
        content = path.read_bytes()
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"no bank"}[damage])
    else:
        with np.load(path) as parts:
            changed = dict(parts)
        if damage == "other_format":
            changed["about"] = np.frombuffer(
                bytes(changed["about"]).replace(b'"format": 1', b'"format": 9'), np.uint8
            )
        elif damage in _OTHER_WORDS:
            before, after = _OTHER_WORDS[damage]
            about = bytes(changed["about"])
            assert before in about
            changed["about"] = np.frombuffer(about.replace(before, after, 1), np.uint8)
        elif damage == "backwards":
            changed["ends_cs"] = changed["ends_cs"][::-1]
        elif damage == "missing":
            del changed["codes"]
        elif damage == "misfit":
            changed["recordings"] = changed["recordings"] + 7
        else:
            changed["mean"] = changed["mean"] * np.nan
        with path.open("wb") as file:
            np.savez_compressed(file, **changed)
    with pytest.raises(ModelError) as error:
        EverydayBank.load(path)
    assert str(error.value) == f"The bank of everyday sound {path} is damaged: {words}"


def test_a_folder_in_its_place_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be read: Is a directory"):
        EverydayBank.load(tmp_path)


def test_a_file_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bank.npz"
    bank().save(path)
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        bank(seed=1).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
