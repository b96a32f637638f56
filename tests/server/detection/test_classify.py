"""Scores of whole recordings, and the command that prints them."""

from __future__ import annotations

import argparse
import json
import wave
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.api.schemas import Classification
from clap_server.clap.huggingface import HuggingFaceClap
from clap_server.cli import classify as command
from clap_server.detection.classify import classify
from clap_server.detection.everyday import making
from clap_server.detection.library import load_library
from clap_server.detection.scoring import LabelScorer
from clap_server.errors import LabelError
from tests.server.clap.checkpoints import write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

LIBRARY = load_library()
RATE = 48000
LABELS = ["Glass breaking", "alarm", "normal", "the neighbour's rooster"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), fused=False)


@pytest.fixture(scope="module")
def model(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceClap:
    return HuggingFaceClap(checkpoint, name="tiny", device="cpu", cache_dir=tmp_path_factory.mktemp("cache"))


def sound(seconds: float) -> NDArray[np.float32]:
    samples = np.random.default_rng(4).normal(0, 0.1, int(seconds * RATE)).astype(np.float32)
    samples[len(samples) // 2 :] *= 0.01
    return samples


def quiet(seconds: float) -> NDArray[np.float32]:
    """The hiss of a microphone, so faint that live nothing of it is scored."""
    return np.random.default_rng(5).normal(0, 1e-5, int(seconds * RATE)).astype(np.float32)


def test_a_recording_is_scored_by_the_labels_as_they_were_typed(model: HuggingFaceClap) -> None:
    done_s: list[float] = []
    found = classify(model, LIBRARY, [sound(5.2)], LABELS, progress=done_s.append)
    assert found.duration_s == pytest.approx(5.2)
    ends = [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.2]
    assert [window.end_s for window in found.windows] == pytest.approx(ends)
    assert [window.start_s for window in found.windows] == pytest.approx(
        [max(0, end - model.window_s) for end in ends]
    )
    for label in ("Glass breaking", "alarm", "the neighbour's rooster"):
        assert found.best[label] == max(window.scores[label] for window in found.windows)
    assert found.best["normal"] == min(window.scores["normal"] for window in found.windows)
    assert set(found.best) == set(LABELS)
    assert list(found.best.values()) == sorted(found.best.values(), reverse=True)
    assert done_s == [pytest.approx(5.2)]
    assert not found.too_quiet


def test_the_scores_are_those_of_the_scorer(model: HuggingFaceClap) -> None:
    samples = sound(1.2)
    *_, window = classify(model, LIBRARY, [samples], ["alarm", "doorbell"]).windows
    scorer = LabelScorer(model, LIBRARY.resolve_all(["alarm", "doorbell"]), LIBRARY.background)
    np.testing.assert_allclose(
        list(window.scores.values()), scorer.scores(model.embed_audio([samples]))[0], atol=1e-6
    )
    assert window.start_s == 0
    assert window.end_s == pytest.approx(1.2)


def test_what_the_gate_keeps_out_is_not_embedded(
    model: HuggingFaceClap, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded: list[int] = []
    really = model.embed_audio

    def counting(windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        embedded.append(len(windows))
        return really(windows)

    monkeypatch.setattr(model, "embed_audio", counting)
    found = classify(model, LIBRARY, [sound(2), quiet(120)], ["alarm"])
    # What follows a window that is wanted in the middle of a batch is embedded with it.
    assert sum(embedded) <= sum(not window.gated for window in found.windows) + 16
    assert len(found.windows) == 244


def test_two_names_of_one_label_get_one_score(model: HuggingFaceClap) -> None:
    best = classify(model, LIBRARY, [sound(1)], ["Glass breaking", "Glasbruch", "Glass breaking"]).best
    assert len(best) == 2
    assert best["Glass breaking"] == best["Glasbruch"]


def test_more_windows_than_one_batch_holds(model: HuggingFaceClap) -> None:
    done_s: list[float] = []
    found = classify(model, LIBRARY, [sound(4.2)], ["alarm"], hop_s=0.1, progress=done_s.append)
    assert len(found.windows) == 38
    assert len(done_s) == 3
    whole = classify(model, LIBRARY, [sound(4.2)], ["alarm"])
    assert found.windows[-1].scores["alarm"] == pytest.approx(whole.windows[-1].scores["alarm"], abs=1e-5)


def test_what_is_too_quiet_for_live_sound_counts_nothing(model: HuggingFaceClap) -> None:
    found = classify(model, LIBRARY, [quiet(3), sound(4)], ["alarm", "normal"])
    gated = [window for window in found.windows if window.gated]
    assert 3 <= len(gated) < len(found.windows) - 5
    assert all(window.scores == {"alarm": 0.0, "normal": 1.0} for window in gated)
    assert all(window.scores["alarm"] > 0 for window in found.windows if not window.gated)


def test_a_recording_that_is_quiet_throughout_gets_its_scores_and_says_so(model: HuggingFaceClap) -> None:
    found = classify(model, LIBRARY, [quiet(3)], ["alarm"])
    assert found.too_quiet
    assert len(found.windows) == 6
    assert not any(window.gated for window in found.windows)
    assert found.best["alarm"] > 0


@pytest.mark.parametrize("seconds", [0.005, 0.3])
def test_a_very_short_recording_gets_an_answer(model: HuggingFaceClap, seconds: float) -> None:
    (window,) = classify(model, LIBRARY, [sound(seconds)], ["alarm"]).windows
    assert window.end_s == pytest.approx(seconds)


def test_the_classic_distribution_knows_no_gate(model: HuggingFaceClap) -> None:
    found = classify(model, LIBRARY, [quiet(3), sound(2)], ["alarm", "doorbell"], normalize="softmax")
    assert not any(window.gated for window in found.windows)
    assert not found.too_quiet


@pytest.mark.parametrize("labels", [LABELS, ["normal"], ["alarm"]])
def test_softmax_gives_shares_that_sum_to_one(model: HuggingFaceClap, labels: list[str]) -> None:
    found = classify(model, LIBRARY, [sound(3)], labels, normalize="softmax")
    for scores in (found.best, *(window.scores for window in found.windows)):
        assert sum(scores.values()) == pytest.approx(1.0, abs=1e-5)


def test_negatives_lower_the_scores(model: HuggingFaceClap) -> None:
    before = classify(model, LIBRARY, [sound(1)], ["alarm"]).best["alarm"]
    after = classify(model, LIBRARY, [sound(1)], ["alarm"], negatives=["the kettle"]).best["alarm"]
    assert after < before


def test_nothing_to_score_is_refused(model: HuggingFaceClap) -> None:
    with pytest.raises(LabelError, match="at least one"):
        classify(model, LIBRARY, [sound(1)], [])
    with pytest.raises(ValueError, match="without samples"):
        classify(model, LIBRARY, [sound(0)], ["alarm"])


# --- the command ---


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "some [sound].wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((np.random.default_rng(1).normal(0, 3000, 40_000)).astype("<i2").tobytes())
    return path


class Command:
    """Runs the command as ``clap-server`` does."""

    def __init__(self, checkpoint: Path) -> None:
        self._model = ["--model", str(checkpoint), "--device", "cpu"]

    def __call__(self, *arguments: str | Path) -> int:
        parser = argparse.ArgumentParser(prog="clap-server")
        command.add_parser(parser.add_subparsers())
        args = parser.parse_args(["classify", *map(str, arguments), *self._model])
        status: int = args.func(args)
        return status


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keeps the everyday sound that the first command makes."""
    return tmp_path_factory.mktemp("commands")


@pytest.fixture
def run(checkpoint: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("CLAP_ENGINE", "torch")
    # What these scores promise does not matter here, and to make a whole bank takes long.
    monkeypatch.setattr(making, "_PIECES", 2)
    return Command(checkpoint)


def test_the_command_prints_bars(run: Command, recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(recording, "--labels", "glass breaking, [my] own, normal", "--threshold", "0.0") == 0
    out = capsys.readouterr().out
    assert "some [sound].wav (2.5 s)" in out
    bars, meanings = out.split("what the threshold 0.00 means\n")
    lines = bars.splitlines()[1:]
    assert {line.split("█")[0].split("░")[0].strip() for line in lines} == {
        "glass breaking",
        "[my] own",
        "normal",
    }
    assert all(line.rstrip().endswith("heard") for line in lines)
    glass, own, normal = meanings.splitlines()
    assert glass == (
        "  glass breaking: more than one false alarm a minute; not known yet: guessed, as too little everyday"
        " sound is known; what it finds is not known: this sound was not tested with this model"
    )
    assert own.endswith("; what it finds is not known: your own words were not tested")
    assert normal == "  normal: what all other labels leave: 1 less the highest of their scores"


def test_the_command_promises_nothing_of_shares(
    run: Command, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(recording, "--labels", "alarm", "--normalize", "softmax") == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "  alarm: a share of what all these labels have together, which promises nothing"
    )


def test_the_command_prints_json_as_the_api_answers(
    run: Command, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(recording, "--labels", "Glass Breaking,alarm,normal", "--threshold", "0.65", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer.pop("file") == str(recording)
    found = Classification.model_validate(answer)
    assert {entry.label for entry in found.labels} == {"Glass Breaking", "alarm", "normal"}
    assert found.top_label == found.labels[0].label
    assert found.top_score == found.labels[0].score
    assert found.threshold == 0.65
    assert all(entry.detected == (entry.score >= 0.65) for entry in found.labels)
    assert [window.end_s for window in found.windows] == [0.5, 1.0, 1.5, 2.0, 2.5]


@pytest.mark.parametrize("interactive", ["0", "1"])
def test_the_command_tells_what_takes_so_long(
    run: Command,
    recording: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    interactive: str,
) -> None:
    monkeypatch.setenv("TTY_INTERACTIVE", interactive)
    monkeypatch.setenv("FORCE_COLOR", interactive if interactive == "1" else "")
    assert run(recording, "--labels", "alarm") == 0
    captured = capsys.readouterr()
    assert "Loading" in captured.err
    assert "Loading" not in captured.out


def test_the_command_knows_softmax(run: Command, recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(recording, "--labels", "bell, alarm", "--json", "--normalize", "softmax") == 0
    labels = json.loads(capsys.readouterr().out)["labels"]
    assert sum(entry["score"] for entry in labels) == pytest.approx(1, abs=1e-5)


def test_a_bad_file_gets_one_line_and_the_others_are_done(
    run: Command, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "notes.wav"
    text.write_text("this is not audio")
    missing = tmp_path / "missing.wav"
    assert run(text, recording, missing, "--json") == 2
    captured = capsys.readouterr()
    complaints = [line for line in captured.err.splitlines() if line.startswith("clap-server:")]
    assert len(complaints) == 2
    assert str(text) in complaints[0]
    assert str(missing) in complaints[1]
    answers = json.loads(captured.out)
    assert [answer["file"] for answer in answers] == [str(text), str(recording), str(missing)]
    assert ["error" in answer for answer in answers] == [True, False, True]


def test_a_single_bad_file_prints_no_json(
    run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "missing.wav", "--json") == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold", "7"], "--threshold 7: use a number from 0 to 1"),
        (["--threshold=-0.1"], "use a number from 0 to 1"),
        (["--threshold", "nan"], "use a number from 0 to 1"),
        (["--threshold", "high"], "use a number from 0 to 1"),
        (["--labels", " , "], "at least one sound"),
        (["--labels", "!!!"], "has no words"),
        (["--labels", ",".join(f"sound {n}" for n in range(201))], "201 labels are too many"),
    ],
)
def test_a_bad_option_gets_one_line(
    run: Command, recording: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert run(recording, *options) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("clap-server: ")
    assert message in line
