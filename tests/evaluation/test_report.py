"""What people read and see of an evaluation."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from clap_evaluation.conditions import CONDITIONS, ConditionMetrics
from clap_evaluation.evaluate import Evaluation, summarise
from clap_evaluation.plots import write_plots
from clap_evaluation.report import as_json, as_text
from clap_server.errors import ConfigurationError
from tests.evaluation.made import ALARM, GLASS, recording

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    """Of two labels; the alarm never sounds."""
    passing = [(100.0, 100.0, 0.75)]
    results = [
        recording(60.0, {"glass": [(10.5, 11.5, 0.9)]}, ("glass", 10.2, 11.0), group="a"),
        recording(4.0, {}, ("glass", None, None), group="b"),
        replace(
            recording(120.0, {"glass": passing}, (None, None, None), group="kitchen"), duration_s=36_000.0
        ),
        recording(60.0, {}, (None, None, None), group="street"),
    ]
    return summarise("some model", results, [GLASS, ALARM], problems=["Row 9: x.wav: It is gone."])


@pytest.fixture(scope="module")
def bare() -> Evaluation:
    """Nothing but a negative, and interrupted."""
    results = [recording(60.0, {}, (None, None, None))]
    return summarise("bare", results, [GLASS], conditions_left_out="interrupted", interrupted=True)


def conditions(label_id: str) -> list[ConditionMetrics]:
    return [
        ConditionMetrics(label_id, condition.name, 20, 15, 0.75, 0.51, 0.91, 0.25 + place, 0.5 + place)
        for place, condition in enumerate(CONDITIONS)
    ]


def test_a_short_table_comes_first(evaluation: Evaluation) -> None:
    lines = as_text([evaluation]).splitlines()
    assert lines[0] == "some model: 4 recordings, 602.1 minutes"
    header = next(index for index, line in enumerate(lines) if line.startswith("label"))
    assert header < 4
    glass, alarm = lines[header + 1 : header + 3]
    assert glass.split()[:6] == ["glass", "2", "2", "0.625", "0.750", "0.70"]
    assert "1 of 2 (50 %)" in glass
    assert "0.1 (0.0 to 0.6)" in glass
    assert glass.endswith("0.30 s / 0.30 s")
    assert alarm.split() == ["alarm", "0", "4", "-", "-", "0.50", "-", "0.0", "(0.0", "to", "0.4)", "-"]


def test_every_section_is_told(evaluation: Evaluation) -> None:
    text = as_text([replace(evaluation, conditions=tuple(conditions("glass")), conditions_left_out="")])
    assert re.search(r"^label +2 an hour +1 an hour +0\.5 an hour +3 a day$", text, re.MULTILINE)
    assert re.search(r"^glass +0\.50 at 0\.88 +0\.50 at 0\.88", text, re.MULTILINE), text
    assert re.search(r"With one threshold for all, 0\.\d\d, at 1 an hour: glass", text)
    assert "PSDS (DCASE 2021 task 4), scenario 1: 0." in text
    promises = text[text.index("False alarms a day of 4 hours above the gate") :].splitlines()
    assert promises[1].split()[:4] == ["label", "hours", "at", "0.50"]
    assert " ".join(promises[2].split()) == "promised 27 5.2 1 0.19 0.037"
    assert re.match(r"glass +0\.07 .* 61 \(1\.5 to 339\) ! +0 \(0 to 225\)", promises[3]), promises[3]
    header, condition = text[text.index("Share found over background") :].splitlines()[1:3]
    assert header.endswith("delay, clean     delay, 20 dB"), header
    assert condition.split()[:9] == ["glass", "20", *["0.75"] * 7]
    assert condition.endswith("0.25 s / 0.50 s  1.25 s / 1.50 s")
    by_group = text[text.index("ROC AUC by group") :].splitlines()[2].split()
    assert by_group == ["glass", "2", "0.625", "0.530", "0.250", "b"]
    assert "negative (kitchen)" in text
    assert "negative (street)" not in text, "nothing fired there"
    assert "Left out (1):\n  Row 9: x.wav: It is gone." in text


def test_what_is_left_out_is_said_in_words(bare: Evaluation) -> None:
    text = as_text([bare])
    assert "Interrupted: these are the figures of what was finished." in text
    assert "Only 1 minutes are without the sounds" in text
    assert re.search(r"With one threshold for all, 0\.\d\d, at 1 an hour \*:", text)
    assert "* too little was heard" in text
    assert "Noise and distance: left out, interrupted." in text
    assert "PSDS: left out, no row of the manifest says when a sound starts (onset_s)." in text
    assert "By group: no group" in text
    assert "The promises come from" not in text


def test_json_holds_every_figure_and_no_scores(evaluation: Evaluation) -> None:
    text = json.dumps(as_json([evaluation, evaluation]), allow_nan=False)
    first, second = json.loads(text)["evaluations"]
    assert first == second
    assert first["events"][0]["delays_s"] == pytest.approx([0.3])
    assert {point["threshold"] for point in first["curves"]["glass"]} >= {0.05, 0.5, 0.99}
    assert "delays_s" not in first["curves"]["glass"][0]
    assert set(first["psds"]) == {"scenario_1", "scenario_2"}
    assert first["confusion"][0]["fired"] == {"glass": 1, "alarm": 0}
    limits = [point["limit_per_hour"] for point in first["operating_points"]]
    assert limits == [2.0, 1.0, 0.5, 0.125] * 2
    assert [point["enough"] for point in first["operating_points"][:4]] == [True] * 4
    assert len(first["reliability"]) == 2 * 9
    assert set(first["reliability"][0]) == {
        "label_id", "threshold", "promised_per_day", "false_alarms", "hours", "per_day", "per_day_low",
        "per_day_high", "kept",
    }  # fmt: skip
    assert "results" not in first


def test_where_the_promises_come_from_is_told(evaluation: Evaluation) -> None:
    text = as_text([replace(evaluation, everyday="12 recordings of mine.csv")])
    assert "come from: 12 recordings of mine.csv. Recordings that are among these flatter them." in text


def test_pictures_show_what_there_is(evaluation: Evaluation, tmp_path: Path) -> None:
    whole = replace(evaluation, conditions=(*conditions("glass"), *conditions("alarm")))
    paths = write_plots(whole, tmp_path)
    assert [path.stem for path in paths] == [
        "recall_false_alarms", "scores", "confusion", "delay", "reliability", "conditions",
    ]  # fmt: skip
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert min(image.size) > 300
            assert len(image.getcolors(1 << 24) or ()) > 10


def test_pictures_without_content_are_left_out(bare: Evaluation, tmp_path: Path) -> None:
    assert [path.stem for path in write_plots(bare, tmp_path)] == ["scores", "confusion", "reliability"]


def test_a_picture_that_cannot_be_written_is_named(bare: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gone/scores\.png cannot be written: No such file"):
        write_plots(bare, tmp_path / "gone")
