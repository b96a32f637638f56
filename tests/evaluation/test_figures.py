"""Groups, confusion, score files and PSDS, from scores that are made by hand."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_evaluation.confusion import confusion
from clap_evaluation.grid import file_names, grid, write_scores
from clap_evaluation.groups import group_metrics
from clap_evaluation.psds import psds
from clap_server.detection.labels import Label
from clap_server.errors import ConfigurationError
from tests.evaluation.made import ALARM, GLASS, recording

if TYPE_CHECKING:
    from pathlib import Path


def test_each_group_is_judged_against_all_recordings_without_the_label() -> None:
    results = [
        recording(4.0, {"glass": [(1, 2, 0.9)]}, ("glass", None, None), group="a"),
        recording(4.0, {"glass": [(1, 2, 0.3)]}, ("glass", None, None), group="b"),
        recording(4.0, {"glass": [(1, 2, 0.8)]}, ("glass", None, None)),
        recording(4.0, {"glass": [(1, 2, 0.4)]}, (None, None, None), group="c"),
        recording(4.0, {"glass": [(1, 2, 0.1)]}, ("alarm", None, None), group="a"),
    ]
    found = group_metrics(results, "glass")
    assert found is not None
    assert found.roc_auc == {"a": 1.0, "b": 0.5}
    assert (found.mean, found.lowest) == (0.75, "b")
    assert found.deviation == pytest.approx(np.std([1.0, 0.5], ddof=1))


def test_groups_are_left_out_where_nothing_can_be_compared() -> None:
    alone = recording(4.0, {"glass": [(1, 2, 0.9)]}, ("glass", None, None), group="a")
    other = recording(4.0, {}, (None, None, None), group="b")
    assert group_metrics([alone], "glass") is None
    assert group_metrics([other], "glass") is None
    single = group_metrics([alone, other], "glass")
    assert single is not None
    assert single.deviation is None


def test_confusion_counts_recordings_by_what_they_hold_and_negatives_by_group_too() -> None:
    crash = {"glass": [(1.0, 2.0, 0.8)]}
    results = [
        recording(4.0, crash, ("glass", None, None)),
        recording(4.0, {}, ("glass", None, None), ("alarm", None, None)),
        recording(4.0, crash, (None, None, None), group="kitchen"),
        recording(4.0, {}, (None, None, None), group="street"),
        recording(4.0, {}, ("dog", None, None)),
    ]
    rows = confusion(results, [GLASS, ALARM])
    assert [(r.truth, r.group, r.recordings, r.fired["glass"], r.quiet) for r in rows] == [
        ("glass", "", 2, 1, 1),
        ("alarm", "", 1, 0, 1),
        ("dog", "", 1, 0, 1),
        ("negative", "", 2, 1, 1),
        ("negative", "kitchen", 1, 1, 0),
        ("negative", "street", 1, 0, 1),
    ]
    assert all(row.fired["glass"] == 0 for row in confusion(results, [GLASS, ALARM], 0.95))


def test_rows_of_the_grid_follow_each_other_and_peak_where_the_sound_is() -> None:
    result = recording(20.0, {"glass": [(10.5, 12.0, 0.9)]}, ("glass", 10.0, 10.5))
    times, scores = grid(result)
    assert times[0] == 0.0
    assert times[-1] == 20.0
    assert (np.diff(times) > 0).all()
    high = np.flatnonzero(scores[:, 0] > 0.5)
    assert times[high[0]] <= 10.25 <= times[high[-1] + 1]
    # Windows of two seconds that end from 10.5 on have their middles from 9.5 on.
    assert (times[high[0]], times[high[-1] + 1]) == (9.25, 11.25)


def test_windows_behind_the_end_are_left_out_of_the_grid() -> None:
    long = recording(4.0, {"glass": [(4.0, 4.0, 1.0)]}, ("glass", None, None))
    times, scores = grid(replace(long, duration_s=2.5))
    assert times[-1] == 2.5
    assert scores.max() == 0.0


def test_two_windows_with_one_middle_share_a_row() -> None:
    result = recording(4.0, {}, (None, None, None))
    twice = replace(
        result.windows,
        starts_s=np.array([0.0, 0.2, 2.0]),
        ends_s=np.array([2.0, 1.8, 4.0]),
        scores=np.array([[0.1, 0], [0.2, 0], [0.3, 0]], np.float32),
    )
    times, scores = grid(replace(result, windows=twice))
    assert times.tolist() == [0.0, 1.0, 2.0, 4.0]
    assert scores[:, 0] == pytest.approx([0.1, 0.2, 0.3])


def test_score_files_are_read_by_sed_scores_eval(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sed_scores_eval as library
    result = recording(7.3, {"glass": [(3.0, 4.0, 0.123456)]}, ("glass", 2.5, 3.0))
    write_scores(result, tmp_path / "a.tsv")
    write_scores(result, tmp_path / "b.tsv")
    read = library.io.read_sed_scores(tmp_path)
    assert set(read) == {"a", "b"}
    assert list(read["a"].columns) == ["onset", "offset", "glass", "alarm"]
    times, scores = grid(result)
    assert read["a"]["onset"].to_numpy() == pytest.approx(times[:-1])
    assert read["a"]["glass"].to_numpy() == pytest.approx(scores[:, 0])


def test_a_score_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gone/a\.tsv: No such file"):
        write_scores(recording(4.0, {}, (None, None, None)), tmp_path / "gone" / "a.tsv")


def test_a_score_file_that_breaks_off_does_not_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.symlink_to("/dev/full")
    with pytest.raises(ConfigurationError, match=r"a\.tsv: No space left"):
        write_scores(recording(4.0, {}, (None, None, None)), path)
    assert not path.is_symlink()


def test_names_of_score_files_fit_into_a_file_system(tmp_path: Path) -> None:
    names = [f"{'ä' * 130}{end}.wav" for end in ("1", "2")] + [f"{'x' * 300}.wav", f"{'x' * 200}.wav"]
    stems = list(file_names(names).values())
    assert len({stem.casefold() for stem in stems}) == 4
    assert stems[0].startswith("ääää")
    assert stems[3] == "x" * 200, "this one is not too long"
    for stem in stems:
        (tmp_path / f"{stem}.tsv").touch()
    assert file_names(reversed(names)) == dict(zip(names, stems, strict=True))


def test_names_of_score_files_are_plain_and_never_the_same() -> None:
    names = ["a/b.wav", "a__b.ogg", "a/B.wav", "../x y.flac", "c.d.wav", "/"]
    assert list(file_names(names).values()) == ["a__b", "a__b-2", "a__B-3", "x_y", "c.d", "recording"]


def test_psds_is_one_where_scores_are_right_and_falls_with_false_alarms() -> None:
    right = recording(60.0, {"glass": [(10.5, 20.5, 0.9)], "alarm": [(31.0, 41.0, 0.9)]})
    perfect = replace(
        right,
        occurrences=recording(60.0, {}, ("glass", 9.5, 19.5), ("alarm", 30.0, 40.0)).occurrences,
    )
    found = psds([perfect], ["glass", "alarm"])
    assert not isinstance(found, str)
    assert found["scenario_1"].score == pytest.approx(1.0)
    assert found["scenario_2"].labels == {"glass": pytest.approx(1.0), "alarm": pytest.approx(1.0)}
    noise = recording(
        600.0, {"glass": [(50.0 * i, 50.0 * i, 0.95) for i in range(1, 11)]}, (None, None, None)
    )
    worse = psds([perfect, noise], ["glass", "alarm"])
    assert not isinstance(worse, str)
    assert worse["scenario_1"].labels["glass"] < 0.9
    assert worse["scenario_1"].labels["alarm"] == pytest.approx(1.0)


def test_psds_judges_a_single_label_and_leaves_out_what_never_occurs() -> None:
    result = recording(60.0, {"glass": [(10.5, 20.5, 0.9)]}, ("glass", 9.5, 19.5))
    found = psds([result], ["glass", "alarm"])
    assert not isinstance(found, str)
    assert {name: set(scenario.labels) for name, scenario in found.items()} == {
        "scenario_1": {"glass"},
        "scenario_2": {"glass"},
    }


def test_psds_says_why_there_is_none() -> None:
    untimed = recording(4.0, {}, ("glass", None, None))
    assert psds([untimed], ["glass"]) == "no row of the manifest says when a sound starts (onset_s)"


def test_labels_that_were_not_scored_are_refused() -> None:
    dog = Label("dog", {"en": "Dog"}, ("dog",))
    with pytest.raises(ValueError, match="not in tuple"):
        confusion([recording(4.0, {}, (None, None, None))], [dog])
