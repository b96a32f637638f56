"""What a manifest may say, and what is answered when it says something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clap_evaluation.manifest import read_manifest
from clap_server.detection.library import load_library
from clap_server.errors import ConfigurationError, LabelError

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, text: str) -> Path:
    path = folder / "clips.csv"
    path.write_text(text, "utf-8")
    return path


def test_rows_of_one_file_belong_together_and_paths_are_relative_to_the_manifest(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "file,label,onset_s,offset_s,group,note\n"
        "a/b.wav,Glass breaking,1.5,2.5,kitchen,x\n"
        "a/b.wav,dog_bark,,,kitchen,\n"
        "c.wav,NEGATIVE\n",
    )
    first, second = read_manifest(path, load_library())
    assert first.path == tmp_path / "a" / "b.wav"
    assert first.label_ids == {"glass_breaking", "dog_bark"}
    assert first.row == 2
    assert (first.occurrences[0].onset_s, first.occurrences[0].offset_s) == (1.5, 2.5)
    assert (first.occurrences[1].onset_s, first.occurrences[0].group) == (None, "kitchen")
    assert second.label_ids == frozenset()


def test_a_file_is_one_recording_however_its_path_is_spelled(tmp_path: Path) -> None:
    path = write(
        tmp_path, f"file,label\n./a.wav,alarm\na.wav,siren\nx/../a.wav,alarm\n{tmp_path / 'a.wav'},alarm\n"
    )
    [only] = read_manifest(path, load_library())
    assert (only.name, only.path) == ("./a.wav", tmp_path / "a.wav")
    assert [row.row for row in only.occurrences] == [2, 3, 4, 5]
    assert only.label_ids == {"alarm", "siren"}


def test_own_labels_may_occur_if_they_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "file,label\na.wav,cork popping\n")
    library = load_library()
    own = library.resolve("Cork popping")
    assert read_manifest(path, library, [own])[0].label_ids == {own.id}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file,label\na.wav,glass_breaking\nb.wav,glas\n",
            "row 3: the label 'glas' is unknown.*glass_breaking",
        ),
        ("file,label\na.wav,\n", "row 2: A label is empty"),
    ],
)
def test_an_unknown_label_is_named_with_its_row(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        read_manifest(write(tmp_path, text), load_library())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,tag\na.wav,x\n", "lacks the column label"),
        ("", "lacks the column file and label"),
        ("file;label\na.wav;alarm\n", "separates its columns with semicolons: separate them with commas"),
        ("file\tlabel\na.wav\talarm\n", "separates its columns with tabs: separate them with commas"),
        ("file,label\n", "has no rows"),
        ("file,label\na.wav\n", "row 2: file or label is missing"),
        ("file,label\n,negative\n", "row 2: file or label is missing"),
        ("file,label,onset_s\na.wav,negative,soon\n", "row 2: 'soon' is no time"),
        ("file,label,offset_s\na.wav,negative,-1\n", "row 2: '-1' is no time"),
        (
            "file,label,onset_s,offset_s\na.wav,alarm,3,2\n",
            "row 2: the sound ends at 2 s and starts at 3 s",
        ),
        (
            "file,label\na.wav,alarm\na.wav,negative\n",
            r"row 3: a\.wav is negative in one row and holds a label in another \(row 2\)",
        ),
        (
            "file,label\na.wav,alarm\nx/../a.wav,negative\n",
            r"row 3: a\.wav is negative in one row and holds a label in another \(row 2\)",
        ),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_manifest(write(tmp_path, text), load_library())


def test_a_manifest_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.csv cannot be read"):
        read_manifest(tmp_path / "nowhere.csv", load_library())
    path = tmp_path / "sound.csv"
    path.write_bytes(b"\xff\xfb\x90\x00" * 50)
    with pytest.raises(ConfigurationError, match=r"sound\.csv cannot be read.*save it as 'CSV UTF-8'"):
        read_manifest(path, load_library())


def test_normal_means_negative(tmp_path: Path) -> None:
    [only] = read_manifest(write(tmp_path, "file,label\na.wav,Normal\n"), load_library())
    assert only.label_ids == frozenset()
