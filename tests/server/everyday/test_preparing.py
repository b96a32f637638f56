"""Each model gets its bank: the shipped one, one that was made before, or a new one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from clap_server.clap import builtin as builtin_package
from clap_server.clap.everyday import EverydayBank, Piece
from clap_server.detection.everyday import making
from clap_server.detection.everyday.making import BankMaker, synthesised_bank
from clap_server.detection.everyday.preparing import (
    BUILTIN_FILE,
    bank_path,
    model_key,
    own_path,
    prepared,
    preparer,
)
from clap_server.detection.everyday.scale import LEAST_BLOCKS
from clap_server.detection.library import load_library
from clap_server.detection.scoring import LabelScorer
from clap_server.errors import ModelError
from tests.server.listening.spectral import RATE, SpectralModel, room, tone
from tests.support.banks import random_bank

if TYPE_CHECKING:
    from pathlib import Path

    from clap_server.clap.model import ClapModel


@pytest.fixture(scope="module")
def made() -> EverydayBank:
    lines: list[str] = []
    bank = synthesised_bank(SpectralModel(), "spectral float32", lines.append)
    assert lines[-1].endswith("100 %")
    assert len(lines) == len(bank.pieces)
    return bank


def test_synthesised_homes_are_enough_for_rare_sounds(made: EverydayBank) -> None:
    assert 0.2 < made.hours < 0.6
    blocks = {(number, end_s // 5) for number, end_s in zip(made.recordings, made.ends_s, strict=True)}
    assert len(blocks) > LEAST_BLOCKS
    ids = {label.id for label in load_library().labels}
    assert set().union(*(piece.holds for piece in made.pieces)) <= ids


def test_only_what_is_above_the_gate_is_everyday_sound() -> None:
    maker = BankMaker(SpectralModel())
    maker.add([np.concatenate([room(20.0), tone(3.0), room(20.0)])], Piece(tags=("a tone",)))
    maker.add([np.zeros(10 * RATE, np.float32)], Piece())
    bank = maker.bank("spectral", "a test")
    # A stream starts with an open gate, as nothing is known of its noise yet.
    assert ((bank.ends_s > 20.0) | (bank.ends_s <= 2.0)).all()
    assert (bank.ends_s < 25.5).all()
    assert bank.recordings.max() == 0
    assert len(bank.pieces) == 2


def test_a_model_without_numbers_is_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SpectralModel()
    monkeypatch.setattr(
        model, "embed_audio", lambda windows: np.full((len(windows), model.dimension), np.nan, np.float32)
    )
    maker = BankMaker(model)
    maker.add([tone(2.0)], Piece())
    with pytest.raises(ModelError, match="not numbers"):
        maker.bank("spectral", "a test")


@pytest.fixture
def quick(made: EverydayBank, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes no bank anew; the list says for whom one was wanted."""
    wanted: list[str] = []

    def make(*given: Any) -> EverydayBank:
        made_for: str = given[1]
        wanted.append(made_for)
        return EverydayBank.of(
            made_for, made.embeddings(), made.ends_s, made.recordings, made.pieces, hop_s=0.5, sources="made"
        )

    monkeypatch.setattr("clap_server.detection.everyday.preparing.synthesised_bank", make)
    return wanted


def test_a_bank_is_made_once(tmp_path: Path, quick: list[str]) -> None:
    for _ in range(2):
        model = prepared(SpectralModel(), tmp_path, lambda _: None)
        assert model.everyday is not None
        assert model.everyday.sources == "made"
    assert quick == ["spectral float32"]
    prepared(SpectralModel(name="another"), tmp_path, lambda _: None)
    assert quick == ["spectral float32", "another float32"]


@pytest.mark.parametrize("damage", ["text", "other_model"])
def test_a_damaged_bank_or_one_of_another_model_is_made_again_and_said_so(
    tmp_path: Path, quick: list[str], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    prepare = preparer(tmp_path)
    prepare(SpectralModel(), lambda _: None)
    path = bank_path("spectral float32", tmp_path)
    if damage == "text":
        path.write_text("no bank")
    else:
        bank_path("another float32", tmp_path).write_bytes(b"")
        prepare(SpectralModel(name="another"), lambda _: None)
        path.write_bytes(bank_path("another float32", tmp_path).read_bytes())
        quick.clear()
        quick.append("spectral float32")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        model = prepare(SpectralModel(), lambda _: None)
    assert "is made again" in caplog.text
    assert quick == ["spectral float32"] * 2
    assert model.everyday is not None
    assert EverydayBank.load(path).made_for == "spectral float32"


def test_where_nothing_can_be_stored_it_works_all_the_same(
    tmp_path: Path, quick: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "everyday").write_text("in the way")
    model = prepared(SpectralModel(), tmp_path, lambda _: None)
    assert model.everyday is not None
    assert "cannot be stored" in caplog.text
    assert quick


def test_the_users_own_recordings_join(tmp_path: Path, quick: list[str]) -> None:
    own = tmp_path / "own"
    maker = BankMaker(SpectralModel())
    maker.add([tone(30.0)], Piece(tags=("my fridge",)))
    maker.bank("spectral float32", "mine").save(own_path("spectral", own))
    model = prepared(SpectralModel(), tmp_path, lambda _: None, own_dir=own)
    assert model.everyday is not None
    assert model.everyday.sources == "made; mine"
    assert model.everyday.pieces[-1].tags == ("my fridge",)
    assert quick


def test_recordings_of_the_user_that_a_model_of_another_size_heard_are_left_out(
    tmp_path: Path, quick: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    own = random_bank(SpectralModel().dimension // 2, made_for="spectral float32")
    own.save(own_path("spectral", tmp_path))
    model = prepared(SpectralModel(), tmp_path, lambda _: None)
    assert model.everyday is not None
    assert model.everyday.sources == "made"
    assert "another size than the model's and is not used: run `clap-server calibrate`" in caplog.text
    assert quick


def test_the_built_in_model_brings_its_own(builtin: ClapModel, tmp_path: Path) -> None:
    shipped = EverydayBank.load(builtin_package.FOLDER / BUILTIN_FILE)
    assert shipped.made_for == model_key(builtin), "run `python -m training everyday` for these weights"
    assert prepared(builtin, tmp_path, print).everyday is not None
    assert list(tmp_path.iterdir()) == []
    assert shipped.hours > 1.0
    assert (builtin_package.FOLDER / BUILTIN_FILE).stat().st_size < 5_000_000
    ids = {label.id for label in load_library().labels}
    held = set().union(*(piece.holds for piece in shipped.pieces))
    assert held <= ids
    # What people are woken for is in everyday sound at most by mistake.
    assert sum("glass_breaking" in piece.holds for piece in shipped.pieces) < 0.02 * len(shipped.pieces)
    library = load_library()
    scorer = LabelScorer(builtin, library.described, library.background)
    assert len(scorer.label_ids) == len(library.described)


def test_without_a_bank_of_its_own_the_built_in_model_gets_a_made_one(
    builtin: ClapModel,
    tmp_path: Path,
    quick: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = tmp_path / "package"
    broken.mkdir()
    (broken / BUILTIN_FILE).write_text("no bank")
    monkeypatch.setattr(builtin_package, "FOLDER", broken)
    model = prepared(builtin, tmp_path, lambda _: None)
    assert "is replaced by a synthesised one" in caplog.text
    assert model.everyday is not None
    assert model.everyday.sources == "made"
    assert quick == [model_key(builtin)]


def test_pieces_are_made_of_all_kinds() -> None:
    tags = {tag for _, piece in making._EVERYDAY for tag in piece.tags}
    assert {"dishes", "cutlery", "coins", "keys"} <= tags
