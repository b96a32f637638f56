"""What a teacher hears in mixed sounds, and the model that learns it, on a handful of sounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from clap_server.clap import builtin
from clap_server.clap.builtin import load_builtin
from tests.support.teacher import NAMES
from tests.support.training import SMALL, run
from training.concepts import load_concepts
from training.config import load_config
from training.distil import FOLDER, Distiller, Heads, fit_heads
from training.scenes import Scenes, Stock, sources
from training.teacher import LOGITS, SAMPLE_RATE, Teacher, read_classes
from training.train import CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from training.config import Config

RATE = 48_000


@pytest.fixture(scope="module")
def folder(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recordings, the teacher, and what the steps before made."""
    place = tmp_path_factory.mktemp("distil")
    for name in ("sounds", "backgrounds", "teacher"):
        (place / name).symlink_to(prepared / name)
    (place / "runs").mkdir()
    for name in ("cache", "text", "rooms.npz"):
        (place / "runs" / name).symlink_to(prepared / "runs" / name)
    return place


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(overrides={**SMALL, "train.steps": 2})


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """The checkpoint of a training of two steps."""
    run(folder, "train")
    return folder / "runs" / CHECKPOINT


@pytest.fixture
def stock(folder: Path, config: Config) -> Iterator[Stock]:
    places = (folder / "sounds", folder / "backgrounds", folder / "teacher", folder / "runs")
    with Stock(config, *places, None, 32, print) as made:
        yield made


def distiller(folder: Path, config: Config, stock: Stock, **changes: Any) -> Distiller:
    settings = config.model_copy(update={"distil": config.distil.model_copy(update=changes)})
    return Distiller(settings, folder / "sounds", folder / "teacher", folder / "runs", stock, print)


def test_the_teacher_hears_in_ten_seconds_of_kaldi_mels(folder: Path) -> None:
    teacher = Teacher(folder / "teacher")
    times = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    # The centre of the 43rd band: the mels are 1127 ln(1 + f / 700), the bands evenly spaced up to 15 kHz.
    step = 1127 * np.log(1 + 15_000 / 700) / 129
    hertz = 700 * (np.exp(43 * step / 1127) - 1)
    mel = teacher.log_mel(np.sin(2 * np.pi * hertz * times).astype(np.float32))
    assert mel.shape == (128, 1001)
    assert set(mel[:, 20:180].argmax(axis=0)) == {42}
    silence = (np.log(1e-5) + 4.5) / 5
    assert mel[:, 210:] == pytest.approx(silence, abs=1e-6)
    # What is longer than it hears at once is cut off.
    assert teacher.log_mel(np.zeros(11 * SAMPLE_RATE, np.float32)).shape == (128, 1001)
    # At another rate it is the same sound.
    wide = np.sin(2 * np.pi * hertz * np.arange(2 * RATE) / RATE).astype(np.float32)
    narrow = np.sin(2 * np.pi * hertz * times).astype(np.float32)
    told = teacher.logits(wide, RATE)
    assert told == pytest.approx(teacher.logits(narrow, SAMPLE_RATE), abs=0.1)
    assert int(told.argmax()) == 42 // 3


def test_a_teacher_that_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"lacks mn04_as.onnx, class_labels_indices.csv. Name its folder"):
        Teacher(tmp_path)
    with pytest.raises(SystemExit, match=r"class_labels_indices.csv is missing"):
        read_classes(tmp_path)
    assert read_classes(folder / "teacher") == list(NAMES)


def test_scenes_are_of_what_may_be_learnt_alone(folder: Path, config: Config) -> None:
    def names(held_out: int | None) -> set[str]:
        found = sources(config, folder / "sounds", folder / "backgrounds", held_out)
        return {source.name for source in found if source.folder is not None}

    everything = names(None)
    # Share-alike recordings are a test, and everyday sound that is not named as heard is for the bank.
    assert everything == {
        "glass_breaking0.flac",
        "alarm2.flac",
        "negative3.flac",
        "negative4.flac",
        "negative6.flac",
        "negative7.flac",
        "household/bowl.flac",
    }
    assert names(0) == everything - {"glass_breaking0.flac", "negative3.flac"}
    made = [s for s in sources(config, folder / "sounds", folder / "backgrounds", None) if s.folder is None]
    assert {source.name.partition("/")[0] for source in made} == {"glass_break", "noise", "t4_alarm"}
    assert len(made) == 3 * config.distil.synthetic


def test_a_scene_depends_on_its_number_alone(folder: Path, config: Config) -> None:
    found = sources(config, folder / "sounds", folder / "backgrounds", None)
    places = (folder / "runs", folder / "backgrounds", folder / "teacher")
    scenes, others = Scenes(config, found, *places), Scenes(config, found, *places)
    for number in (0, 1, 2):
        scenes.make(number)
    for number in (5, 3):
        mine, theirs = scenes.make(number), others.make(number)
        assert np.array_equal(mine[0], theirs[0])
        assert np.array_equal(mine[1], theirs[1])
    assert not np.array_equal(scenes.make(3)[0], scenes.make(4)[0])


def test_scenes_know_what_they_are_made_of(folder: Path, config: Config) -> None:
    found = sources(config, folder / "sounds", folder / "backgrounds", None)
    scenes = Scenes(config, found, folder / "runs", folder / "backgrounds", folder / "teacher")
    concepts = load_concepts()
    glass, rows = concepts.index["glass_breaking"], [scenes.make(number) for number in range(40)]
    assert any(concept == glass for _, _, _, concept, _ in rows)
    for mel, logits, targets, concept, _ in rows:
        assert mel.shape == (201, 64)
        assert np.isfinite(mel).all()
        assert logits.shape == (len(NAMES),)
        assert targets[concept] == 1
        if concept == glass:
            assert targets[concepts.index["dog_bark"]] == 0


def test_a_stock_is_the_same_after_an_interruption_and_waits_for_what_is_missing(
    folder: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.scenes._TOLD_EVERY_S", 0.01)
    (tmp_path / "rooms.npz").symlink_to(folder / "runs" / "rooms.npz")
    places = (folder / "sounds", folder / "backgrounds", folder / "teacher", tmp_path)
    numbers = np.array([0, 9, 15, 3])
    told: list[str] = []
    with Stock(config, *places, None, 16, told.append) as stock:
        first = stock.take(numbers)
    assert told[0] == "waiting for windows to be mixed: 0 of 16"
    (made,) = tmp_path.glob("scenes-*")
    shards = sorted(made.iterdir())
    assert [path.suffix for path in shards] == [".npz", ".npz"]
    shards[1].unlink()
    with Stock(config, *places, None, 16, print) as stock:
        again = stock.take(numbers)
    assert np.array_equal(first.mels, again.mels)
    assert np.array_equal(first.logits, again.logits)
    assert first.captions == again.captions


def test_with_another_seed_other_windows_are_made(folder: Path, config: Config, tmp_path: Path) -> None:
    (tmp_path / "rooms.npz").symlink_to(folder / "runs" / "rooms.npz")
    places = (folder / "sounds", folder / "backgrounds", folder / "teacher", tmp_path)
    made = []
    for seed in (1, 2):
        changed = config.model_copy(update={"distil": config.distil.model_copy(update={"seed": seed})})
        with Stock(changed, *places, None, 8, print) as stock:
            made.append(stock.take(np.arange(8)).mels)
    assert not np.array_equal(*made)


def test_some_windows_begin_with_their_loud_part(
    folder: Path, config: Config, stock: Stock, trained: Path
) -> None:
    assert trained.is_file()
    model = distiller(folder, config, stock, begun_share=0.0, masked_share=0.0, first_share=1.0)
    mels = torch.full((4, 201, 64), -60.0)
    mels[:, 120] = -10.0
    model._change(mels, np.random.default_rng(0))
    assert all(int(mel.amax(1).argmax()) < 4 for mel in mels)


def test_a_recording_that_cannot_be_read_is_named(folder: Path, config: Config, tmp_path: Path) -> None:
    for name in ("sounds", "backgrounds"):
        (tmp_path / name).mkdir()
        for path in (folder / name).rglob("*"):
            if path.is_file():
                target = tmp_path / name / path.relative_to(folder / name)
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(b"no sound" if path.suffix == ".flac" else path.read_bytes())
    (tmp_path / "rooms.npz").symlink_to(folder / "runs" / "rooms.npz")
    places = (tmp_path / "sounds", tmp_path / "backgrounds", folder / "teacher", tmp_path)
    with (
        Stock(config, *places, None, 8, print) as stock,
        pytest.raises(SystemExit, match=r"flac.* Mend it or remove"),
    ):
        stock.take(np.arange(8))


def test_a_linear_head_finds_the_class_that_tells_a_label() -> None:
    rng = np.random.default_rng(1)
    logits = torch.from_numpy(rng.normal(-5, 2, (400, 6)).astype(np.float32))
    there = (logits[:, 2] > -4.5).float()
    unknown = torch.full((400,), -1.0)
    few = torch.zeros(400)
    few[:3] = 1
    heads = fit_heads(logits, torch.stack([there, unknown, few], dim=1))
    assert int(heads.weight[0].argmax()) == 2
    told = heads.chances(logits)[:, 0]
    assert ((told > 0.5) == (there > 0.5)).float().mean() > 0.9
    # Of a label of which nothing, or too little, is known nothing is told.
    assert torch.isnan(heads.bias[1:]).all()


def test_a_labels_chance_is_half_what_is_known_and_half_what_the_teacher_tells(
    folder: Path, config: Config, stock: Stock, trained: Path
) -> None:
    assert trained.is_file()
    model = distiller(folder, config, stock, teacher_share=0.25)
    count = len(model.score.label_ids)
    model.heads = Heads.none(count, len(NAMES))
    model.heads.bias[0] = 2.0
    first = int(model.score.concepts[0])
    targets = torch.zeros(4, len(load_concepts().all))
    targets[:, first] = torch.tensor([1.0, 0.0, -1.0, -1.0])
    wanted = model.wanted(targets, torch.zeros(3, len(NAMES)))
    told = float(torch.sigmoid(torch.tensor(2.0)))
    # The fourth window the teacher did not hear.
    assert wanted[:, 0].tolist() == pytest.approx([0.75 + 0.25 * told, 0.25 * told, told, -1.0])
    assert (wanted[:, 1:] == targets[:, model.score.concepts[1:]]).all()


def test_an_interrupted_distillation_ends_like_one_in_a_piece(
    folder: Path, config: Config, stock: Stock, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained.is_file()
    checkpoint = folder / "runs" / FOLDER / CHECKPOINT
    run(folder, "distil")
    whole = torch.load(checkpoint, weights_only=True)
    assert f"begins with {trained}" in capsys.readouterr().out
    checkpoint.unlink()
    model = distiller(folder, config, stock)
    model.advance()
    model.save()
    run(folder, "distil")
    assert "resumed at step 1" in capsys.readouterr().out
    pieces = torch.load(checkpoint, weights_only=True)
    assert pieces["step"] == whole["step"] == 2
    for name, value in whole["model"].items():
        assert torch.allclose(value.float(), pieces["model"][name].float(), atol=1e-5), name


def test_the_model_comes_to_tell_what_the_teacher_tells(
    folder: Path, config: Config, stock: Stock, trained: Path
) -> None:
    assert trained.is_file()
    model = distiller(folder, config, stock, windows=0, earlier=16, mixed=0, learning_rate=0.01)
    losses = [model.advance() for _ in range(30)]
    for name in ("teacher", "library"):
        first, last = (np.mean([loss[name] for loss in part]) for part in (losses[:8], losses[-8:]))
        assert last < 0.9 * first, name


def test_the_last_steps_begin_with_the_averaged_weights_and_hear_what_was_heard_before(
    folder: Path, config: Config, stock: Stock, trained: Path
) -> None:
    assert trained.is_file()
    settle = config.distil.settle.model_copy(update={"steps": 2, "rate": 0.5})
    model = distiller(folder, config, stock, settle=settle, learning_rate=0.1)
    assert model.steps == 4
    model.advance()
    model.advance()
    average = {name: value.clone() for name, value in model.average.items()}
    model.average["audio.head.bias"] += 100.0
    model.advance()
    # From there it moves by no more than the rate.
    moved = (model.model.audio.head.bias.detach() - average["audio.head.bias"]).abs().mean()
    assert 90 < float(moved) < 110
    model.advance()
    assert model.step == model.steps


def test_without_a_training_it_begins_with_the_weights_of_the_package(
    folder: Path, config: Config, stock: Stock, trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (folder / "runs" / FOLDER / CHECKPOINT).unlink(missing_ok=True)
    run(folder, "distil", "export")
    monkeypatch.setattr(builtin, "FOLDER", folder / "package")
    moved = trained.rename(tmp_path / CHECKPOINT)
    (folder / "runs" / FOLDER / CHECKPOINT).unlink()
    try:
        model = distiller(folder, config, stock)
    finally:
        moved.rename(trained)
    packaged = load_builtin("cpu", folder / "package")
    model.model.eval()
    texts = ["glass breaking", "a dog barks"]
    with torch.inference_mode():
        own = model.model.text(torch.stack([_ids(model, text) for text in texts]))
    assert own.numpy() == pytest.approx(packaged.embed_text(texts), abs=2e-3)
    # The projection to the sentence encoder's space is fitted anew.
    assert float(model.model.recall.weight.detach().abs().sum()) > 0


def _ids(model: Distiller, text: str) -> torch.Tensor:
    ids = model.tokenizer.encode(text).ids
    return torch.tensor(ids + [0] * (8 - len(ids)))


def test_a_fold_is_not_distilled_before_it_was_trained(folder: Path, config: Config, stock: Stock) -> None:
    with pytest.raises(SystemExit, match="train the fold before it is distilled"):
        Distiller(config, folder / "sounds", folder / "teacher", folder / "runs", stock, print, 1)


def test_logits_are_clipped_where_they_say_no_more(
    folder: Path, config: Config, stock: Stock, trained: Path
) -> None:
    assert trained.is_file()
    model = distiller(folder, config, stock)
    model.advance()
    assert torch.isfinite(model.decides).all()
    assert model.decides.min() >= LOGITS[0]
    assert model.decides.max() <= LOGITS[1]
