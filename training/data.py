"""The recordings: which there are, what each shows and with which others it is held out."""

from __future__ import annotations

import csv
import tomllib
import zlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from clap_evaluation.manifest import NEGATIVE
from training.config import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from training.config import Split

# The label of what is no sound, but what a room makes of one.
ROOM_RESPONSE = "room_response"
COLUMNS = (
    "file",
    "label",
    "fine_label",
    "caption",
    "duration_s",
    "licence",
    "author",
    "source_repo",
    "source_path",
)


@dataclass(frozen=True, slots=True)
class Recording:
    """One row of the manifest."""

    file: str
    label: str
    fine_label: str
    caption: str
    licence: str
    author: str
    source_repo: str
    source_path: str
    fold: int | None

    @property
    def part(self) -> str:
        """``train``, or ``test`` for what is never trained on."""
        return "test" if self.fold is None else "train"


def fold_of(licence: str, source_repo: str, source_path: str, split: Split) -> int | None:
    """The fold of cross-validation to which a source belongs; None if it is never trained on."""
    if f"-{split.test_licence}" in licence:
        return None
    where = f"{source_repo}/{source_path}"
    for number, pieces in enumerate(split.folds):
        if any(piece in where for piece in pieces):
            return number
    return len(split.folds) - 1


def heard_backgrounds(rows: Iterable[Recording], split: Split) -> list[Recording]:
    """Those recordings of everyday sound that the model is trained on; the others are for its bank.

    Pieces of one recording stay together, and so do the recordings of a source, but for the largest one.
    """
    return [row for row in rows if row.label == NEGATIVE and row.fold is not None and _is_heard(row, split)]


def _is_heard(row: Recording, split: Split) -> bool:
    recording = f"{row.source_repo}/{row.source_path.partition('#')[0]}"
    if any(recording.startswith(source) for source in split.everyday_halved):
        return zlib.crc32(recording.encode()) % 2 == 0
    return any(recording.startswith(source) for source in split.everyday_heard)


@cache
def _corrections() -> dict[str, dict[str, str]]:
    """The columns that ``corrections.toml`` puts right, by file."""
    content = tomllib.loads((ROOT / "corrections.toml").read_text("utf-8"))
    return {
        file: {name: entry[name] for name in ("label", "fine_label", "caption")}
        for entry in content["corrections"]
        for file in entry["files"]
    }


def read_recordings(data: Path, split: Split) -> list[Recording]:
    """Read ``MANIFEST.csv`` of the recordings, put right where it is known to be wrong.

    Raises:
        SystemExit: it is missing or lacks a column.
    """
    manifest = data / "MANIFEST.csv"
    if not manifest.is_file():
        raise SystemExit(f"No recordings: {manifest} is missing. Name their folder with --data.")
    with manifest.open(encoding="utf-8", newline="") as handle:
        reader = csv.DictReader(handle)
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise SystemExit(f"{manifest} lacks the columns {', '.join(sorted(missing))}.")
        return [
            Recording(
                file=row["file"],
                label=row["label"],
                fine_label=row["fine_label"],
                caption=row["caption"],
                licence=row["licence"],
                author=row["author"],
                source_repo=row["source_repo"],
                source_path=row["source_path"],
                fold=fold_of(row["licence"], row["source_repo"], row["source_path"], split),
            )
            for row in ({**row, **_corrections().get(row["file"], {})} for row in reader)
        ]
