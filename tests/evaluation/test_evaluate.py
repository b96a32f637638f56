"""`clap-server evaluate` from manifest to report, with the built-in model on synthesised sounds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from clap_evaluation import evaluate as evaluation
from clap_evaluation.metrics import label_metrics
from clap_evaluation.streaming import score_recording, score_stream
from clap_server import synthesis
from clap_server.clap.builtin import load_builtin
from clap_server.detection.everyday import making
from clap_server.detection.library import load_library
from clap_server.detection.scoring import LabelScorer
from tests.server.clap.checkpoints import write_checkpoint
from tests.support.clips import RATE, write_clips
from tests.support.command_line import run_command

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from clap_evaluation.scored import ScoredRecording


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of two breaks, two alarms and four other sounds."""
    made = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        made += [
            (f"glass{seed}", "glass_breaking", in_a_room(rng, synthesis.glass_break(rng, RATE))),
            (f"alarm{seed}", "alarm", synthesis.t3_alarm(rng, RATE, carrier_hz=3100, cycles=1)),
            (f"voices{seed}", "negative", synthesis.babble(rng, RATE, duration_s=2.0)),
            (f"music{seed}", "negative", synthesis.music(rng, RATE, duration_s=2.0)),
        ]
    return write_clips(tmp_path_factory.mktemp("clips"), made)


def in_a_room(rng: np.random.Generator, sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sound after half a second of the noise of a good microphone."""
    noise = np.float32(1e-4) * rng.standard_normal(RATE // 2 + len(sound)).astype(np.float32)
    return synthesis.mix_at(noise, sound, 0.5, 70.0, RATE)


def evaluate(*arguments: str) -> int:
    return run_command("evaluate", *arguments)


def test_each_label_gets_its_figures(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(str(clips), "--json", "--hop", "1.0", "--no-conditions") == 0
    result = json.loads(capsys.readouterr().out)["evaluations"]
    assert [entry["model"] for entry in result] == ["builtin"]
    assert result[0]["clips"] == 8
    figures = {entry["label_id"]: entry for entry in result[0]["labels"]}
    assert set(figures) == {"glass_breaking", "alarm"}
    for entry in figures.values():
        assert (entry["positives"], entry["negatives"]) == (2, 6)
        assert entry["roc_auc"] == 1.0
        assert entry["average_precision"] == 1.0


def test_a_denoised_model_is_measured_and_named_as_such(
    clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(str(clips), "--json", "--hop", "1.0", "--no-conditions", "--denoise") == 0
    [denoised] = json.loads(capsys.readouterr().out)["evaluations"]
    assert denoised["model"] == "builtin, denoised"
    assert denoised["clips"] == 8


def test_models_are_compared_in_one_run_and_each_has_its_folder(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CLAP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CLAP_ENGINE", "torch")
    monkeypatch.setattr(making, "_PIECES", 12)
    checkpoint = write_checkpoint(tmp_path / "tiny", fused=False)
    chosen = ["--model", "builtin", "--model", str(checkpoint), "--labels", "glass breaking, dog bark"]
    folders = ["--scores", str(tmp_path / "scores"), "--plots", str(tmp_path / "plots")]
    assert evaluate(str(clips), *chosen, *folders, "--hop", "2", "--no-conditions") == 0
    shown = capsys.readouterr()
    assert "Listening to everyday sound" in shown.err, "scores mean nothing without it"
    lines = shown.out.splitlines()
    titles = [line.split(": 8 recordings, ")[0] for line in lines if ": 8 recordings, " in line]
    assert titles == ["builtin", str(checkpoint)]
    dogs = next(line for line in lines if line.startswith("dog_bark"))
    assert dogs.split()[1:5] == ["0", "8", "-", "-"]
    for folder in ("scores", "plots"):
        names = sorted(path.name for path in (tmp_path / folder).iterdir())
        assert len(names) == 2
        assert names[0] == "builtin"
        assert names[1].endswith("tiny")
    for model in (tmp_path / "scores").iterdir():
        assert len(list(model.glob("*.tsv"))) == 8


def test_a_recording_that_cannot_be_used_is_left_out_and_named(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.wav").write_text("this is no sound")
    good = clips.parent / "glass0.flac"
    (tmp_path / "good.flac").write_bytes(good.read_bytes())
    manifest = tmp_path / "m.csv"
    (tmp_path / "good.wav").write_bytes(good.read_bytes())
    manifest.write_text(
        "file,label,onset_s\ngood.flac,glass_breaking,\ntext.wav,negative,\ngone.wav,negative,\n"
        "good.wav,glass_breaking,9\n"
    )
    assert evaluate(str(manifest)) == 1
    shown = capsys.readouterr()
    assert "builtin: 1 recordings" in shown.out
    assert "Row 3: text.wav: This is not audio" in shown.err
    assert "Row 4: gone.wav: The file is missing" in shown.err
    assert "Row 5: good.wav: A sound starts at 9 s (row 5), but the recording is 1.6 s long." in shown.err
    assert "Left out (3):" in shown.out


def test_a_score_file_that_cannot_be_written_does_not_cost_the_figures(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = clips.parent / "two.csv"
    manifest.write_text("file,label\nglass0.flac,glass_breaking\nvoices0.flac,negative\n")
    (tmp_path / "glass0.tsv").mkdir()
    assert evaluate(str(manifest), "--scores", str(tmp_path), "--hop", "2", "--no-conditions") == 1
    shown = capsys.readouterr()
    assert "builtin: 2 recordings" in shown.out
    assert f"The scores cannot be written to {tmp_path / 'glass0.tsv'}: Is a directory." in shown.err
    assert (tmp_path / "voices0.tsv").is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file,label\nnot-there.wav,alarm\nnor-this.wav,alarm\n",
            "No recording could be used. Row 2: not-there.wav: The file is missing: paths are relative",
        ),
        ("file,label\na\0.wav,alarm\n", "Row 2: a\0.wav: Its name cannot be that of a file"),
        ("file,label\nclips.csv,negative\n", "only negatives"),
        ("file,label\nclips.csv,glas\n", "row 2: the label 'glas' is unknown"),
        ("file,label\nclips.csv,alarm\n", "No recording could be used"),
    ],
)
def test_a_manifest_that_cannot_be_used_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    path = tmp_path / "clips.csv"
    path.write_text(text)
    assert evaluate(str(path)) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("hop", ["0.01", "9", "nan", "often"])
def test_a_hop_out_of_range_is_refused(clips: Path, capsys: pytest.CaptureFixture[str], hop: str) -> None:
    assert evaluate(str(clips), "--hop", hop) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if "--hop: " in line]
    assert line.endswith("use 0.1 to 5 seconds")


def test_the_help_tells_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--help") == 0
    assert "1 failed or something was left out, 2 wrong use, 130 interrupted" in capsys.readouterr().out


def test_noise_is_left_out_where_every_background_is_silent(
    clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clips.parent / "quiet").mkdir()
    manifest = write_clips(clips.parent / "quiet", [("silence", "negative", np.zeros(RATE, np.float32))])
    manifest.write_text(f"{manifest.read_text()}../glass0.flac,glass_breaking\n")
    assert evaluate(str(manifest), "--hop", "2") == 0
    shown = capsys.readouterr().out
    assert "Noise and distance: left out, no background could be used." in shown
    assert "Share found" not in shown


def test_windows_cover_a_long_recording_to_its_end() -> None:
    model = load_builtin("cpu")
    library = load_library()
    scorer = LabelScorer(model, [library.resolve("glass_breaking")], library.background)
    samples = 0.001 * synthesis.noise(np.random.default_rng(1), RATE, kind="white", duration_s=8.0)
    scored = score_recording(model, scorer, samples, hop_s=0.1)
    assert len(scored.scores) > 64
    assert scored.ends_s[-1] == pytest.approx(8.0)
    assert (np.diff(scored.ends_s) > 0).all()
    assert scored.best.shape == (1,)


def test_windows_go_on_after_the_end_with_less_and_less_of_the_recording() -> None:
    model = load_builtin("cpu")
    library = load_library()
    scorer = LabelScorer(model, [library.resolve("alarm")], library.background)
    alarm = synthesis.t3_alarm(np.random.default_rng(2), RATE, carrier_hz=3100, cycles=1)[: 4 * RATE // 5]
    scored = score_stream(model, scorer, [alarm], hop_s=0.5, tail_s=1.0)
    assert scored.ends_s[-3:] == pytest.approx([0.8, 1.3, 1.8])
    # All see the whole beep, which a sustained label needs for longer than it lasts.
    assert scored.starts_s[-3:] == pytest.approx([0.0, 0.0, 0.0])
    assert scored.scores[-2:] == pytest.approx(scored.scores[[-3, -3]], abs=1e-5)
    long = score_stream(model, scorer, [np.tile(alarm, 4)], hop_s=0.5, tail_s=2.0)
    assert long.ends_s[-1] == pytest.approx(3.2 + model.window_s - 0.5, abs=0.5)
    assert (np.diff(long.starts_s) >= 0).all()
    assert long.starts_s[-1] <= 3.2 - 0.5


@pytest.mark.parametrize("length", [1, 4_000, 30_001])
def test_a_recording_shorter_than_a_hop_is_looked_at_once(length: int) -> None:
    model = load_builtin("cpu")
    library = load_library()
    scorer = LabelScorer(model, [library.resolve("alarm")], library.background)
    scored = score_recording(model, scorer, np.full(length, 0.1, np.float32), hop_s=5.0)
    assert len(scored.scores) == 1
    assert scored.starts_s[0] == 0.0
    assert scored.ends_s[0] == pytest.approx(length / RATE)


def test_everything_is_measured_and_written(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = clips.parent / "timed.csv"
    manifest.write_text(
        "file,label,onset_s,group\nglass0.flac,glass_breaking,0.5,a\nglass1.flac,glass_breaking,0.50,b\n"
        "voices0.flac,negative,,c\nmusic0.flac,negative,,c\n"
    )
    folders = ["--scores", str(tmp_path / "scores"), "--plots", str(tmp_path / "plots")]
    assert evaluate(str(manifest), *folders, "--json", "--hop", "1.0") == 0
    [result] = json.loads(capsys.readouterr().out)["evaluations"]
    assert [entry["condition"] for entry in result["conditions"]] == [
        "clean", "20 dB", "10 dB", "0 dB", "2 m", "5 m", "8 m",
    ]  # fmt: skip
    assert result["conditions"][0]["clips"] == 2
    assert result["psds"]["scenario_2"]["score"] > 0.5
    assert result["events"][0]["hits"] == 2
    assert result["groups"][0]["roc_auc"] == {"a": 1.0, "b": 1.0}
    assert sorted(path.name for path in (tmp_path / "scores").iterdir()) == [
        "glass0.tsv", "glass1.tsv", "music0.tsv", "voices0.tsv",
    ]  # fmt: skip
    assert len(list((tmp_path / "plots").glob("*.png"))) == 6


@pytest.mark.parametrize(("option", "folder"), [("--plots", "file/plots"), ("--scores", "file/scores")])
def test_a_folder_that_cannot_be_made_is_told_before_anything_is_scored(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, folder: str
) -> None:
    (tmp_path / "file").write_text("")
    assert evaluate(str(clips), option, str(tmp_path / folder)) == 1
    assert f"{option}: the folder" in capsys.readouterr().err


def test_a_model_that_cannot_be_loaded_is_told_before_anything_is_scored(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = tmp_path / "scores"
    chosen = ["--model", "builtin", "--model", str(tmp_path / "nowhere"), "--scores", str(scores)]
    assert evaluate(str(clips), *chosen) == 1
    assert "nowhere" in capsys.readouterr().err
    assert not scores.exists()


def test_normal_cannot_be_measured(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(str(clips), "--labels", "normal") == 1
    assert "'normal' cannot be measured" in capsys.readouterr().err


def test_an_interrupted_run_tells_what_is_finished(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = evaluation.score

    def interrupted(*args: Any, name: str, **others: Any) -> ScoredRecording:
        if name == "voices0.flac":
            raise KeyboardInterrupt
        return before(*args, name=name, **others)

    monkeypatch.setattr(evaluation, "score", interrupted)
    chosen = ["--model", "builtin", "--model", "builtin", "--scores", str(tmp_path), "--hop", "2"]
    assert evaluate(str(clips), *chosen) == 130
    shown = capsys.readouterr()
    assert "builtin: 2 recordings" in shown.out
    assert "Interrupted: these are the figures of what was finished." in shown.out
    assert "Noise and distance: left out, interrupted." in shown.out
    assert "interrupted: not everything was measured" in shown.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alarm0.tsv", "glass0.tsv"]


def test_a_run_interrupted_before_anything_is_finished_has_nothing_to_tell(
    clips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_args: Any, **_others: Any) -> ScoredRecording:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "score", interrupted)
    assert evaluate(str(clips), "--json") == 130
    assert json.loads(capsys.readouterr().out) == {"evaluations": []}


def test_an_interruption_in_the_noise_keeps_the_recordings(
    clips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_args: Any, **_others: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "score_placements", interrupted)
    assert evaluate(str(clips), "--hop", "2") == 130
    assert "builtin: 8 recordings" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("glass0.flac,glass_breaking\n", "no recording is negative"),
        ("voices0.flac,negative\n", "no recording holds one of the labels"),
    ],
)
def test_noise_is_left_out_where_sounds_or_backgrounds_are_missing(
    clips: Path, capsys: pytest.CaptureFixture[str], rows: str, reason: str
) -> None:
    manifest = clips.parent / "part.csv"
    manifest.write_text(f"file,label\n{rows}")
    assert evaluate(str(manifest), "--labels", "glass breaking, Glasbruch", "--hop", "2") == 0
    shown = capsys.readouterr().out
    assert f"Noise and distance: left out, {reason}" in shown
    assert len([line for line in shown.splitlines() if line.startswith("glass_breaking  ")]) >= 1


def test_figures_are_left_open_where_one_kind_is_missing() -> None:
    present, scores = np.array([True, True]), np.array([0.9, 0.1], np.float32)
    figures = label_metrics("alarm", 0.5, present, scores)
    assert (figures.roc_auc, figures.average_precision, figures.false_positive_rate) == (None, None, None)
    assert figures.recall == 0.5
