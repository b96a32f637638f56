"""Each source is judged by a model that never heard it."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_evaluation import conditions
from clap_evaluation.manifest import Occurrence
from clap_evaluation.scored import ScoredRecording
from clap_evaluation.streaming import WindowScores
from clap_server import synthesis
from clap_server.clap.everyday import EverydayBank
from clap_server.detection.library import load_library
from tests.support.training import RATE, run
from training.crossvalidate import BANK, CLEAN, HOMES, LABELS, PLACED, SCORES, STRANGE, Strange
from training.homes import STRETCH_S, Homes
from training.report import area, as_markdown, figures, homes_as_markdown, in_homes
from training.rooms import load_rooms

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def judged(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which each fold was judged by a model of one step."""
    folder = tmp_path_factory.mktemp("judged")
    shutil.copytree(prepared / "sounds", folder / "sounds")
    for name in ("backgrounds", "teacher"):
        (folder / name).symlink_to(prepared / name)
    (folder / "runs").mkdir()
    for name in ("cache", "text", "rooms.npz"):
        (folder / "runs" / name).symlink_to(prepared / "runs" / name)
    run(folder, "crossvalidate", options=("--fold", "0", "--fold", "1"))
    assert not (folder / "runs" / "fold-2").exists()
    with pytest.raises(SystemExit, match=r"fold 2, 3: run `.* crossvalidate --fold 2 --fold 3` first"):
        run(folder, "report")
    run(folder, "crossvalidate")
    return folder


def test_a_fold_is_judged_on_its_sources_as_they_are_and_in_strange_rooms(
    judged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(judged, "report")
    table = capsys.readouterr().out
    assert "glass_breaking" in table
    content = json.loads((judged / "runs" / "crossvalidation.json").read_text("utf-8"))
    assert [part["version"] for part in content["parts"]] == ["clean", "strange"]
    for part in content["parts"]:
        assert part["recordings"] == 6  # all but those that are never trained on
        assert part["labels"]["glass_breaking"]["at_own_threshold"]["events"] == 1
        # Fold 1 has no glass, so it says nothing of it.
        assert part["labels"]["glass_breaking"]["roc_auc_of_folds"][1] is None
        assert part["rates"]["alarm"]["events"] == 1
    found = json.loads((judged / "runs" / "found.json").read_text("utf-8"))
    # A fire alarm is both; speech and music are negatives of the labels that are judged.
    labels = ("glass_breaking", "alarm", "smoke_alarm", "speech", "music")
    assert {label: entry["events"] for label, entry in found.items()} == dict.fromkeys(labels, 1)
    assert all(0 <= score <= 1 for entry in found.values() for score in entry["scores"])
    # Somebody talks in fold 0 and plays music in fold 3; nobody does anything in the others.
    assert content["homes"]["hours"] == pytest.approx(2 / 60)
    # Glass is in fold 0, with speech to be placed in; what else is held out with an alarm is wind.
    placed = {(entry["label_id"], entry["condition"]): entry["clips"] for entry in content["conditions"]}
    assert placed == {
        (label, place.name): 1 for label in ("glass_breaking", "alarm") for place in conditions.CONDITIONS
    }
    row = [line for line in table.splitlines() if line.startswith("| alarm | 1 | ")][-1]
    # Label, number, what is found in each condition, and delays.
    assert row.count("|") == 3 + len(conditions.CONDITIONS) + len(conditions.TIMED_CONDITIONS)
    assert all(re.fullmatch(r"(\d\.\d\d|-) / (\d\.\d\d|-) s", cell.strip()) for cell in row.split("|")[-3:-1])


@pytest.mark.parametrize("fold", ["4", "-1"])
def test_a_fold_that_there_is_not_is_refused(
    judged: Path, fold: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(judged, "crossvalidate", options=(f"--fold={fold}",))
    assert f"no fold {fold}: there are 0 to 3" in capsys.readouterr().err
    assert not (judged / "runs" / f"fold-{fold}").exists()


def test_a_judged_fold_is_kept(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (judged / "runs" / "fold-0" / SCORES).stat().st_mtime_ns
    run(judged, "crossvalidate", options=("--fold", "0"))
    assert "fold 0 is done already" in capsys.readouterr().out
    assert (judged / "runs" / "fold-0" / SCORES).stat().st_mtime_ns == before


def test_the_bank_of_a_fold_is_without_what_the_fold_is_judged_on(judged: Path) -> None:
    # Everyday sound from its sources is missing.
    for fold, pieces in ((0, 3), (1, 2), (2, 3), (3, 2)):
        bank = EverydayBank.load(judged / "runs" / f"fold-{fold}" / BANK)
        assert len(bank.pieces) == pieces
        assert len(bank.codes) > 0


@pytest.mark.parametrize(
    ("missing", "kept"),
    [
        (PLACED, {BANK, SCORES, HOMES}),
        (HOMES, {BANK, SCORES, PLACED}),
        (SCORES, {BANK, HOMES, PLACED}),
        (BANK, set()),
    ],
)
def test_only_what_is_missing_of_a_fold_is_made_anew(
    judged: Path, missing: str, kept: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = judged / "runs" / "fold-0"
    before = {name: (folder / name).stat().st_mtime_ns for name in (BANK, SCORES, HOMES, PLACED)}
    (folder / missing).unlink()
    run(judged, "crossvalidate", options=("--fold", "0"))
    # Even without a bank nothing is trained again.
    assert ("resumed at step 1" in capsys.readouterr().out) == (missing == BANK)
    after = {name: (folder / name).stat().st_mtime_ns for name in before}
    assert {name for name in before if after[name] == before[name]} == kept


def test_nothing_is_reported_before_a_fold_was_judged(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "sounds").symlink_to(prepared / "sounds")
    (tmp_path / "runs").mkdir()
    with pytest.raises(SystemExit, match="training crossvalidate"):
        run(tmp_path, "report")


def test_a_strange_recording_begins_within_its_background_and_has_what_cameras_send(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    hiss = 0.1 * synthesis.noise(rng, RATE, kind="white", duration_s=2.0)
    strange = Strange(tmp_path, 2, 7, RATE, [hiss])
    played = strange.play(synthesis.glass_break(rng, RATE, duration_s=1.0), rng)
    assert len(played) == 3 * RATE
    spectrum = np.abs(np.fft.rfft(played)) ** 2
    above = np.fft.rfftfreq(len(played), 1 / RATE) > 8500
    assert spectrum[above].sum() < 1e-4 * spectrum.sum()
    level = np.square(played).reshape(-1, RATE // 10).mean(axis=1)
    assert level[10:20].max() > 1.5 * level[:9].mean() > 0


def test_home_life_goes_on_over_a_background_and_half_of_it_is_heard_by_cheap_cameras(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    hiss = synthesis.noise(rng, RATE, kind="white", duration_s=4.0)
    clicks = synthesis.noise(rng, RATE, kind="white", duration_s=0.05)
    rooms = load_rooms(tmp_path / "rooms.npz", 7, 2, RATE)
    homes = Homes({"clock": [clicks]}, [hiss], rooms, RATE)
    shares = []
    for seed in range(8):
        stretch = homes.stretch(np.random.default_rng(seed))
        assert len(stretch) == STRETCH_S * RATE
        assert np.abs(stretch).max() <= 1
        level = np.square(stretch).reshape(-1, RATE // 10).mean(axis=1)
        # The quiet is that of the background; what happens, every other second, is above it.
        assert 10 ** (-60 / 10) < np.quantile(level, 0.1) < 10 ** (-30 / 10)
        assert 10 < (level > 4 * np.quantile(level, 0.1)).sum() < 300
        spectrum = np.abs(np.fft.rfft(stretch)) ** 2
        shares.append(spectrum[np.fft.rfftfreq(len(stretch), 1 / RATE) > 8500].sum() / spectrum.sum())
        np.testing.assert_array_equal(stretch, homes.stretch(np.random.default_rng(seed)))
    assert 0 < sum(share < 1e-3 for share in shares) < len(shares)


def scored(label: str | None, best: float) -> ScoredRecording:
    """A recording of 2 s with one window, in which only glass is likely."""
    scores = np.full((1, len(LABELS)), 0.04, np.float32)
    scores[0, LABELS.index("glass_breaking")] = best
    one = np.array([2.0])
    windows = WindowScores(
        label_ids=LABELS,
        starts_s=one - 2,
        ends_s=one,
        scores=scores,
        levels_dbfs=one * -10,
        onsets_s=one * np.nan,
        pieces=np.array([20]),
        piece_levels_dbfs=np.full(20, -60.0),
        admitted=np.array([True]),
        hop_s=0.5,
        window_s=2.0,
    )
    return ScoredRecording("clip", (Occurrence(2, label, None, None, "g"),), 2.0, windows)


def test_figures_tell_how_far_the_folds_are_apart() -> None:
    good = [scored("glass_breaking", 0.9), scored(None, 0.1)]
    bad = [scored("glass_breaking", 0.1), scored(None, 0.9)]
    part = figures([good, bad], "clean", {"glass_breaking": 0.835}, {})
    told = part["labels"]["glass_breaking"]
    assert told["roc_auc_of_folds"] == [1.0, 0.0]
    assert told["roc_auc_mean"] == 0.5
    assert told["roc_auc_spread"] == pytest.approx(0.5**0.5)
    assert told["roc_auc"] == told["roc_auc_sure"] == 0.5
    table = as_markdown([part])
    assert "0.835" in table
    assert "One threshold for all" in table
    assert figures([good], "clean", {}, {})["labels"]["glass_breaking"]["roc_auc_spread"] is None
    # The loud negative says nothing of glass after all.
    unsure = [scored("glass_breaking", 0.5), scored(None, 0.1), replace(scored(None, 0.9), name="lid")]
    told = figures([unsure], "clean", {}, {"lid": frozenset({"glass_breaking"})})["labels"]["glass_breaking"]
    assert (told["roc_auc"], told["roc_auc_sure"]) == (0.5, 1.0)
    assert area([True, True], [0.1, 0.2]) is None


def test_what_is_found_is_told_at_the_threshold_that_keeps_homes_quiet() -> None:
    quiet = [replace(scored(None, 0.3), duration_s=1800.0) for _ in range(4)]
    noisy = [replace(scored(None, best), duration_s=1800.0) for best in (0.3, 0.8, 0.9, 0.9)]
    parts = [
        figures([[scored("glass_breaking", best) for best in bests]], version, {}, {})
        for version, bests in ((CLEAN, (0.86, 0.97)), (STRANGE, (0.86, 0.2)))
    ]
    told = in_homes(quiet, parts)["labels"]["glass_breaking"]
    assert told["at_own_threshold"]["false_alarms"] == 0
    # From 0.35 on there is nothing, and less than that is heard all the time.
    assert told["at_one_false_alarm_an_hour"]["threshold"] == 0.35
    loud = in_homes(noisy, parts)
    told = loud["labels"]["glass_breaking"]
    # In three of four half hours there is one at its own threshold; above 0.8 there are two, in two hours.
    assert told["at_own_threshold"]["false_alarms_per_hour"] == pytest.approx(1.5)
    assert told["at_one_false_alarm_an_hour"]["threshold"] == 0.82
    assert [told["at_one_false_alarm_an_hour"][version] for version in (CLEAN, STRANGE)] == [1.0, 0.5]
    own = load_library().resolve("glass_breaking").threshold
    assert f"| glass_breaking | 1.5 at {own} (0.3 to 4.4) | 0.82 | 1.00 | 0.50 |" in homes_as_markdown(loud)
