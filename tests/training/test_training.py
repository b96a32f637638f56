"""A training run of two steps on a handful of sounds, interrupted and taken up again."""

from __future__ import annotations

import csv
import json
import signal
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from clap_evaluation.manifest import read_manifest
from clap_server.clap.builtin import load_builtin
from clap_server.clap.builtin.audio_tower import QUIET_LEAD
from clap_server.clap.builtin.text_tower import token_ids
from clap_server.detection.library import load_library
from tests.support.training import SMALL, run
from training import mixing
from training.__main__ import main
from training.attribution import of_training
from training.concepts import load_concepts
from training.config import ROOT, load_config
from training.consensus import Consensus
from training.crossvalidate import held_out_recordings
from training.data import COLUMNS, Recording, fold_of, read_recordings
from training.export import write_model
from training.mixing import Mixer
from training.prepare import Cache
from training.train import Trainer, masked
from training.train import run as train

if TYPE_CHECKING:
    from pathlib import Path


def test_whole_sources_are_held_out_and_share_alike_is_never_trained_on(prepared: Path) -> None:
    config = load_config(overrides=SMALL)
    folds = [row.fold for row in read_recordings(prepared / "sounds", config.split)]
    assert folds == [0, None, 1, 0, 3, None, 1, 2]
    cache = Cache(prepared / "runs" / "cache")
    for held_out, expected in ((None, {1, 5}), (0, {0, 3}), (1, {2, 6}), (2, {7}), (3, {4})):
        parts = {
            part: Mixer(cache, config, part, prepared / "sounds", held_out).items
            for part in ("train", "validation")
        }
        recorded = {
            part: {int(item.name.removesuffix(".flac")[-1]) for item in items if item.source != "synthetic"}
            for part, items in parts.items()
        }
        assert recorded["validation"] == expected
        assert recorded["train"] == {0, 2, 3, 4, 6, 7} - expected
        made = {part: {i.name for i in items if i.source == "synthetic"} for part, items in parts.items()}
        assert made["train"]
        assert made["validation"]
        assert not made["train"] & made["validation"]
        recordings = Mixer(cache, config, "validation", prepared / "sounds", held_out, synthetic=False)
        assert {item.source for item in recordings.items} == {
            item.source for item in parts["validation"] if item.source != "synthetic"
        }


@pytest.fixture
def misnamed(tmp_path: Path) -> Path:
    """Recordings of which two are known not to be what the manifest says."""
    files = [
        ("fighting_shouting/CDDA-Soundpacks__ferals-male-mumbling-1__188891.ogg", "angry_shout"),
        ("fighting_shouting/sounds__player-pain__6f7bdc.ogg", "pain_shout"),
        ("fighting_shouting/other.ogg", "angry_shout"),
    ]
    with (tmp_path / "MANIFEST.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(
            [
                COLUMNS,
                *(
                    (file, "fighting_shouting", fine, "shout", 1.0, "CC0-1.0", "Ann", "a/b", file)
                    for file, fine in files
                ),
            ]
        )
    return tmp_path


def test_what_the_manifest_says_wrongly_is_put_right(misnamed: Path) -> None:
    mumbling, blow, shout = read_recordings(misnamed, load_config().split)
    assert (mumbling.label, mumbling.caption) == ("negative", "a person mumbling")
    assert (blow.label, blow.caption) == ("fighting_shouting", "a blow")
    assert (shout.label, shout.fine_label, shout.caption) == ("fighting_shouting", "angry_shout", "shout")
    concepts = load_concepts()
    found = [concepts.of_recording(row) for row in (mumbling, blow, shout)]
    assert found == ["speech", "punch", "fighting_shouting"]


def test_nothing_is_judged_by_blows_without_a_voice(misnamed: Path) -> None:
    config = load_config()
    judged = [row for fold in range(4) for row in held_out_recordings(config, misnamed, fold)]
    assert [row.fine_label for row in judged] == ["speech", "angry_shout"]


def test_each_correction_gives_a_reason_and_a_concept_of_its_own() -> None:
    concepts = load_concepts()
    known = [concept for concept in concepts.all if concept.fine and concept.name != "other"]
    for entry in tomllib.loads((ROOT / "corrections.toml").read_text("utf-8"))["corrections"]:
        assert entry["why"]
        assert len(set(entry["files"])) == len(entry["files"])
        assert any(c.label == entry["label"] and c.fine.search(entry["fine_label"]) for c in known if c.fine)


def test_a_shifted_sound_is_the_same_sound_higher_or_lower() -> None:
    mel = np.full((5, 64), -80, np.float32)
    mel[:, 30] = -10
    for bins in (-3, 0, 2):
        shifted = mixing.shifted(mel, bins)
        assert (shifted.argmax(axis=1) == 30 + bins).all()
        assert shifted.max() == -10
        # Nothing comes in from the other end.
        assert (np.sort(shifted, axis=1)[:, :-1] <= -80).all()


def test_a_made_up_room_rings_on_faster_or_slower_and_hides_nothing() -> None:
    bang = torch.zeros(64, 201, 64)
    bang[:, 20] = 1.0
    wet = mixing.add_late_sound(bang, torch.Generator().manual_seed(1))
    assert torch.equal(wet[:, :21], bang[:, :21])
    # 60 dB in 0.15 to 1.2 s, in the treble in 0.4 to 1 of that; each frame is 10 ms.
    falls_db = -10 * (wet[:, 22] / wet[:, 21]).log10()
    assert 60 * 0.01 / 1.2 <= falls_db.min() < 1.0
    assert 5.0 < falls_db.max() <= 60 * 0.01 / (0.15 * 0.4) + 1e-3
    assert (falls_db[:, -1] >= falls_db[:, 0]).all()
    # -3 to 15 dB below the sound itself, less what falls into the frame of the sound or past the window.
    late = wet[:, 21:].sum(1)[:, 0]
    assert 0.5 < late.max() <= 10 ** (3 / 10)
    assert late.min() >= 10 ** (-60 * 0.01 / 0.15 / 10) * 10 ** (-15 / 10)


def test_softer_targets_are_met_short_of_certainty_and_unknown_ones_teach_nothing() -> None:
    logits = torch.tensor([[2.2, -2.2, 3.0, 4.0, -4.0]], requires_grad=True)
    targets = torch.tensor([[1.0, 0.0, -1.0, 1.0, 0.0]])
    masked(logits, targets, smoothing=1 / (1 + np.exp(2.2))).backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
    assert logits.grad is not None
    assert logits.grad[0, :3] == pytest.approx(0.0, abs=1e-6)
    # One that is surer than that is drawn back.
    assert logits.grad[0, 3] > 0 > logits.grad[0, 4]


def test_what_the_audio_teacher_hears_draws_a_sound_to_the_name_of_the_class(prepared: Path) -> None:
    trainer = Trainer(load_config(overrides=SMALL), prepared / "sounds", prepared / "runs", print)
    texts = ["glass breaking", "dog", *["c"] * 519]
    trainer.names = token_ids(trainer.tokenizer, texts)
    batch = trainer.mixer.draw(np.random.default_rng(1), 4)
    heard = torch.zeros_like(batch.teacher)
    heard[:, 0] = 1.0
    batch = replace(batch, teacher=heard, taught=torch.tensor([1.0, 1.0, 0.0, 1.0]))
    audio = torch.nn.functional.normalize(torch.randn(4, 256), dim=1).requires_grad_()
    trainer._named(audio, batch, np.random.default_rng(1)).backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
    assert audio.grad is not None
    glass, dog = trainer.model.text(trainer.names[:2])
    for row in (0, 1, 3):
        assert audio.grad[row] @ (glass - dog) < 0
    assert not audio.grad[2].any()
    silent = replace(batch, taught=torch.zeros(4))
    assert trainer._named(audio, silent, np.random.default_rng(1)) == 0


def test_late_sound_is_added_as_often_as_the_settings_say(prepared: Path) -> None:
    drawn = {}
    for share in (0.0, 1.0):
        config = load_config(overrides={**SMALL, "train.reverberant_share": share})
        mixer = Mixer(Cache(prepared / "runs" / "cache"), config, "train", prepared / "sounds")
        drawn[share] = mixer.draw(np.random.default_rng(4), 16)
    torch.testing.assert_close(drawn[0.0].targets, drawn[1.0].targets)
    changed = (drawn[0.0].mels - drawn[1.0].mels).abs().amax((1, 2)) > 1.0
    assert changed.sum() > 12  # silence stays as it is


def test_each_part_of_the_loss_counts_as_the_settings_say(prepared: Path) -> None:
    def parts(**overrides: float) -> dict[str, float]:
        settings = {f"train.{name}": value for name, value in overrides.items()}
        config = load_config(overrides={**SMALL, **settings})
        trainer = Trainer(config, prepared / "sounds", prepared / "runs", print)
        trainer.model.eval()
        batch = trainer.mixer.draw(np.random.default_rng(1), 8)
        return {name: loss.item() for name, loss in trainer._loss(batch, np.random.default_rng(1)).items()}

    weights = {"pair": 2.0, "library": 3.0, "teacher": 0.5, "named": 4.0, "distil": 0.25}
    told = parts(**{f"{name}_weight": weight for name, weight in weights.items()}, smoothing=0.0)
    assert told["total"] == pytest.approx(sum(told[name] * weight for name, weight in weights.items()))
    assert told["named"] > 0
    softer = parts(smoothing=0.2)
    for name in ("pair", "library"):
        assert softer[name] != pytest.approx(told[name], rel=1e-3)
    for name in ("teacher", "named", "distil"):
        assert softer[name] == pytest.approx(told[name])


def test_the_last_steps_have_a_rate_and_shares_of_their_own(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").symlink_to(prepared / "runs" / "cache")
    (tmp_path / "text").symlink_to(prepared / "runs" / "text")
    overrides = {
        "train.steps": 1,
        "train.finish.steps": 1,
        "train.polish.steps": 1,
        "train.everyday.steps": 1,
        "train.steady.steps": 1,
        "train.settle.steps": 1,
    }
    config = load_config(overrides={**SMALL, **overrides})
    trainer = Trainer(config, prepared / "sounds", tmp_path, print)
    watched = ("glass_clink", "household", "noise")
    drawn: list[tuple[float, ...]] = []
    draw = trainer.mixer.draw

    def spy(rng: np.random.Generator, size: int, shares: dict[str, float]) -> mixing.Batch:
        drawn.append(tuple(shares[name] for name in watched))
        return draw(rng, size, shares)

    monkeypatch.setattr(trainer.mixer, "draw", spy)
    train(trainer)
    assert trainer.step == config.train.all_steps == 6
    settings = config.train
    shares = settings.shares
    parts = (settings.finish, settings.polish, settings.everyday, settings.steady)
    expected = [shares]
    for part in parts:
        expected.append(expected[-1] | part.shares)
    settled = drawn[5:]  # the consensus is fitted on the windows of its part
    assert len(settled) > 1
    assert set(settled) == {tuple((expected[-1] | settings.settle.shares)[name] for name in watched)}
    del drawn[5:]
    assert drawn == [tuple(of[name] for name in watched) for of in expected]
    assert len(set(drawn[1:])) == 4
    rate = settings.learning_rate * settings.settle.rate
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def _about_to_settle(prepared: Path, folder: Path, steps: int) -> Trainer:
    for name in ("cache", "text"):
        (folder / name).symlink_to(prepared / "runs" / name)
    parts = ("finish", "polish", "everyday", "steady")
    none = {f"train.{part}.steps": 0 for part in parts}
    config = load_config(
        overrides={**SMALL, **none, "train.steps": 1, "train.settle.steps": steps, "train.batch": 8}
    )
    return Trainer(config, prepared / "sounds", folder, print)


def test_settling_teaches_the_prompts_what_they_and_other_names_say_together(
    prepared: Path, tmp_path: Path
) -> None:
    trainer = _about_to_settle(prepared, tmp_path, 2)
    names = trainer.config.train.settle.names
    assert set(names) <= set(trainer.score.label_ids)
    trainer.advance()
    assert trainer.settled is None
    first = trainer.advance()
    assert first["settle"] > 0
    assert trainer.settled is not None
    consensus = trainer._consensus
    assert consensus is not None
    mels = trainer.mixer.draw(np.random.default_rng(3), 32).mels
    # The sums have the level and spread of the logits that the prompts alone had ...
    before = consensus._model
    consensus.fit([mels])
    chances = consensus.chances(mels)
    with torch.no_grad():
        audio = before.audio(mels)
        prompts = before.text(trainer.score.ids)
        margins = trainer.score.margins(audio, prompts, trainer.score.bank(prompts))
        logits = (margins * before.library_scale.exp() + before.library_bias)[:, consensus.columns]
    told = torch.logit(chances)
    torch.testing.assert_close(told.mean(0), logits.mean(0), rtol=0.02, atol=0.02)
    torch.testing.assert_close(told.std(0), logits.std(0), rtol=0.05, atol=0.02)
    # ... but another order, in which the names have their say.
    assert (told - logits).abs().max() > 0.02 * logits.std()
    with torch.no_grad():
        named = torch.stack(
            [
                (audio @ before.text(token_ids(trainer.tokenizer, list(words))).T).mean(1)
                for words in names.values()
            ],
            dim=1,
        )
    for column in range(len(names)):
        ours, other = told[:, column], logits[:, column]
        rest = (ours - other) - (ours - other).mean()
        assert rest @ (named[:, column] - named[:, column].mean()) > 0


def test_settling_that_was_interrupted_ends_like_one_in_a_piece(prepared: Path, tmp_path: Path) -> None:
    weights = {}
    for name in ("whole", "pieces"):
        (tmp_path / name).mkdir()
        trainer = _about_to_settle(prepared, tmp_path / name, 3)
        trainer.advance()
        trainer.advance()
        if name == "pieces":
            trainer.save()
            trainer = Trainer(trainer.config, prepared / "sounds", tmp_path / name, print)
            trainer.resume()
        trainer.advance()
        weights[name] = trainer.average
    for name, value in weights["whole"].items():
        assert torch.allclose(value.float(), weights["pieces"][name].float(), atol=1e-6), name


def test_a_label_that_the_library_lacks_cannot_settle(prepared: Path, tmp_path: Path) -> None:
    trainer = _about_to_settle(prepared, tmp_path, 1)
    with pytest.raises(SystemExit, match=r"lacks: yodelling\. Mend config\.toml"):
        Consensus(trainer.model, trainer.score, trainer.tokenizer, {"yodelling": ["yodel"]})


@pytest.mark.parametrize("anchor", [0, 2, 100, 188])
def test_at_the_start_of_a_stream_the_loud_part_follows_its_own_quiet(anchor: int) -> None:
    places = []
    for seed in range(20):
        mel = torch.full((201, 64), -70.0)
        mel[anchor:] = -40.0
        mel[anchor] = -3.0
        mixing.begin_stream(mel, anchor, np.random.default_rng(seed))
        loudest = int(mel.amax(1).argmax())
        assert mel[loudest].min() == -3.0
        assert (mel[:loudest] <= -40.0).all()
        places.append(loudest)
    assert max(places) <= anchor + QUIET_LEAD
    # About half of them begin with it.
    assert sum(place <= QUIET_LEAD + 3 for place in places) >= 5


@pytest.mark.parametrize("anchor", [0, 2, 100, 200])
def test_a_window_begins_with_its_loud_part_and_ends_with_what_was_before(anchor: int) -> None:
    places = set()
    for seed in range(20):
        mel = torch.full((201, 64), -70.0)
        mel[anchor:] = -40.0
        mel[anchor] = -3.0
        whole = mel.clone()
        mixing.begin_with(mel, anchor, np.random.default_rng(seed))
        place = int(mel.amax(1).argmax())
        assert torch.equal(torch.roll(mel, anchor - place, 0), whole)
        places.add(place)
    assert places == set(range(min(anchor, 3) + 1))


def test_an_interrupted_run_ends_like_one_in_a_piece(
    prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = prepared / "runs" / "checkpoint.pt"
    run(prepared, "train", total=2)
    whole = torch.load(checkpoint, weights_only=True)
    checkpoint.unlink()
    config = load_config(overrides={**SMALL, "train.steps": 2})
    trainer = Trainer(config, prepared / "sounds", prepared / "runs", print)
    trainer.advance()
    trainer.save()
    del trainer
    run(prepared, "train", total=2)
    assert "resumed at step 1" in capsys.readouterr().out
    pieces = torch.load(checkpoint, weights_only=True)
    assert pieces["step"] == whole["step"] == 2
    for name, value in whole["model"].items():
        assert torch.allclose(value.float(), pieces["model"][name].float(), atol=1e-6), name


def test_ctrl_c_in_the_middle_of_a_step_loses_nothing(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rare = ("--set", "train.checkpoint_every=100")
    for name in ("whole", "pieces"):
        (tmp_path / name / "runs").mkdir(parents=True)
        (tmp_path / name / "sounds").symlink_to(prepared / "sounds")
        for folder in ("cache", "text"):
            (tmp_path / name / "runs" / folder).symlink_to(prepared / "runs" / folder)
    run(tmp_path / "whole", "train", total=2, options=rare)
    step = torch.optim.AdamW.step

    def interrupt(*arguments: Any, **options: Any) -> Any:
        result = step(*arguments, **options)
        # The weights are moved, their average and the number of the step are not.
        signal.raise_signal(signal.SIGINT)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", interrupt)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        with pytest.raises(AssertionError, match="ended with 130"):
            run(tmp_path / "pieces", "train", total=2, options=rare)
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler
    assert "run the same command again to go on from the last checkpoint" in capsys.readouterr().err
    run(tmp_path / "pieces", "train", total=2, options=rare)
    assert "resumed at step 1" in capsys.readouterr().out
    whole, pieces = (
        torch.load(tmp_path / name / "runs" / "checkpoint.pt", weights_only=True)
        for name in ("whole", "pieces")
    )
    assert pieces["step"] == whole["step"] == 2
    for kind in ("model", "average"):
        for name, value in whole[kind].items():
            assert torch.allclose(value.float(), pieces[kind][name].float(), atol=1e-6), name


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--set", "nonsense"), "'nonsense' is no NAME=VALUE"),
        (("--set", "train.steps=abc"), "'train.steps=abc' is no NAME=VALUE"),
        (("--set", "trian.steps=5"), "there is no setting trian.steps"),
        (("--set", "seed.steps=5"), "there is no setting seed.steps"),
        (("--set", "train.stepps=5"), "train.stepps: Extra inputs are not permitted"),
        (("--set", "train.steps=1.5"), "train.steps: Input should be a valid integer"),
        (("--config", "nowhere.toml"), "nowhere.toml cannot be read as settings"),
    ],
)
def test_options_that_cannot_be_used_are_named_in_one_line(
    options: tuple[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        main(["train", *options])
    assert error.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("training: error: ")
    assert told in last


def test_fractional_settings_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    monkeypatch.setattr("training.train.train", lambda config, *_: found.append(config.train))
    assert main(["train", "--set", "train.learning_rate=1e-3", "--set", "train.steps=7"]) == 0
    assert (found[0].learning_rate, found[0].steps) == (1e-3, 7)


def test_a_damaged_checkpoint_is_named(prepared: Path, tmp_path: Path) -> None:
    for name in ("cache", "text"):
        (tmp_path / name).symlink_to(prepared / "runs" / name)
    (tmp_path / "checkpoint.pt").write_bytes(b"nothing")
    trainer = Trainer(load_config(overrides=SMALL), prepared / "sounds", tmp_path, print)
    with pytest.raises(SystemExit, match=r"checkpoint\.pt cannot be used"):
        trainer.resume()


@pytest.mark.parametrize(
    ("name", "value"), [("train.steps", 3), ("seed", 7), ("train.shares.synthetic", 0.25), ("train.batch", 4)]
)
def test_a_checkpoint_of_other_settings_is_refused(
    prepared: Path, tmp_path: Path, name: str, value: float
) -> None:
    for folder in ("cache", "text"):
        (tmp_path / folder).symlink_to(prepared / "runs" / folder)
    Trainer(load_config(overrides=SMALL), prepared / "sounds", tmp_path, print).save()
    other = Trainer(load_config(overrides={**SMALL, name: value}), prepared / "sounds", tmp_path, print)
    with pytest.raises(SystemExit, match=r"checkpoint\.pt was made with other settings: remove it to start"):
        other.resume()
    assert (tmp_path / "checkpoint.pt").is_file()


def test_settings_of_no_consequence_may_change_on_the_way(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("cache", "text"):
        (tmp_path / folder).symlink_to(prepared / "runs" / folder)
    Trainer(load_config(overrides=SMALL), prepared / "sounds", tmp_path, print).save()
    changed = {**SMALL, "train.checkpoint_every": 9, "train.threads": 2, "prepare.processes": 2}
    Trainer(load_config(overrides=changed), prepared / "sounds", tmp_path, print).resume()
    assert "resumed at step 0" in capsys.readouterr().out


def test_a_checkpoint_that_does_not_tell_its_settings_is_not_gone_on_with(
    prepared: Path, tmp_path: Path
) -> None:
    for folder in ("cache", "text"):
        (tmp_path / folder).symlink_to(prepared / "runs" / folder)
    trainer = Trainer(load_config(overrides=SMALL), prepared / "sounds", tmp_path, print)
    trainer.save()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del state["settings"]
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(SystemExit, match="unknown settings"):
        trainer.resume()


def test_what_is_exported_can_be_loaded_and_names_its_authors(
    prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(prepared, "train", "distil", total=2)
    run(prepared, "export", total=2)
    # Without a report what is in the package is of other weights, and the step says so.
    said = capsys.readouterr().out
    assert "found.json is of other weights: run `python -m benchmarks.found --package`" in said
    # What the report on cross-validation would have found.
    found = json.dumps({"alarm": {"events": 2, "scores": [0.5]}})
    (prepared / "runs" / "found.json").write_text(found, "utf-8")
    run(prepared, "export", total=2)
    assert (prepared / "package" / "found.json").read_text("utf-8") == found
    model = load_builtin("cpu", prepared / "package")
    assert model.embed_audio([np.zeros(100, np.float32)]).shape == (1, 256)
    assert model.embed_text(["glass breaking"]).shape == (1, 256)
    attribution = (prepared / "package" / "ATTRIBUTION.md").read_text()
    assert "Ann Author (CC-BY-4.0)" in attribution
    assert "Bea Background (CC0-1.0): b/household/bowl.flac" in attribution
    assert "talk" not in attribution
    assert "two/glass" not in attribution
    held_out = read_manifest(prepared / "runs" / "held_out.csv", load_library())
    assert [recording.path.resolve().name for recording in held_out] == [
        "glass_breaking1.flac",
        "negative5.flac",
    ]
    assert held_out[0].path.is_file()


@pytest.mark.parametrize(
    ("repo", "path", "author", "named"),
    [
        ("AntumMT/mod-sounds", "sounds_src/sounds_hyena_02.flac", "[↓](#authors)", "N. Mathevon"),
        (
            "AntumMT/mod-sounds",
            "sounds_src/sounds_rifle_fire_02.flac",
            "[↓](#authors)",
            "named in the source",
        ),
        (
            "openclonk/openclonk",
            "Structures.ocg/DoorOpen1.wav",
            "Structures/DoorOpen*, Hits/BucketHit*",
            "ala",
        ),
        ("one/music", "a.ogg", "", "unnamed"),
        ("one/music", "a.ogg", "Ann", "Ann"),
    ],
)
def test_authors_are_named_also_where_the_manifest_has_a_link_or_files(
    repo: str, path: str, author: str, named: str
) -> None:
    row = Recording("a.ogg", "negative", "", "", "CC-BY-3.0", author, repo, path, 0)
    text = of_training([row])
    assert f"- {named}" in text
    assert "https://creativecommons.org/licenses/by/3.0/" in text


def test_only_share_alike_is_never_trained_on() -> None:
    split = load_config().split
    assert fold_of("CC-BY-SA-3.0", "one/music", "a.ogg", split) is None
    assert fold_of("CC-BY-3.0 (NASA)", "one/music", "a.ogg", split) == 3


def test_an_interrupted_export_leaves_what_was_there(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {"audio.a": torch.zeros(2)}
    config = load_config(overrides=SMALL)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("old", "utf-8")
    monkeypatch.setattr("training.export.json.dumps", lambda *_, **__: int("no"))
    with pytest.raises(ValueError, match="no"):
        write_model(config, weights, prepared / "runs", tmp_path / "model", {})
    assert (tmp_path / "model" / "config.json").read_text("utf-8") == "old"
    assert not (tmp_path / "model" / "weights.safetensors").exists()


def test_a_model_that_is_not_finished_is_not_exported(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "sounds").symlink_to(prepared / "sounds")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "distil").mkdir()
    torch.save({"step": 1, "average": {}}, tmp_path / "runs" / "distil" / "checkpoint.pt")
    with pytest.raises(SystemExit, match="interrupted at step 1 of 2: run `python -m training distil`"):
        run(tmp_path, "export", total=2)
    assert not (tmp_path / "package").exists()


def test_a_batch_knows_what_is_in_it(prepared: Path) -> None:
    config = load_config(overrides=SMALL)
    mixer = Mixer(Cache(prepared / "runs" / "cache"), config, "train", prepared / "sounds")
    batch = mixer.draw(np.random.default_rng(1), 64)
    assert batch.mels.shape == (64, 201, 64)
    assert torch.isfinite(batch.mels).all()
    assert batch.mels.min() >= -100
    glass = load_concepts().index["glass_breaking"]
    assert (batch.targets[batch.concepts == glass, glass] == 1).all()
    again = mixer.draw(np.random.default_rng(1), 64)
    assert torch.equal(batch.mels, again.mels)


def test_steps_in_the_wrong_order_say_what_is_missing(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "sounds").symlink_to(prepared / "sounds")
    with pytest.raises(SystemExit, match="training prepare"):
        run(tmp_path, "train")
    (tmp_path / "runs").mkdir(exist_ok=True)
    (tmp_path / "runs" / "cache").symlink_to(prepared / "runs" / "cache")
    with pytest.raises(SystemExit, match="training text"):
        run(tmp_path, "train")
    with pytest.raises(SystemExit, match="no distilled model"):
        run(tmp_path, "export")
    with pytest.raises(SystemExit):
        run(tmp_path, "bake")


def test_missing_recordings_are_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"MANIFEST\.csv is missing"):
        read_recordings(tmp_path, load_config().split)
    (tmp_path / "MANIFEST.csv").write_text("file,label\n")
    with pytest.raises(SystemExit, match="lacks the columns author"):
        read_recordings(tmp_path, load_config().split)


def test_every_label_of_the_library_is_a_concept_with_its_prompts() -> None:
    concepts = load_concepts()
    for label in load_library().described:
        phrases = concepts.all[concepts.index[label.id]].phrases
        assert set(label.prompts) <= set(phrases)
