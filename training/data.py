"""The recordings: which there are, to which part each belongs and what it shows."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from training.config import Split

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
    part: str


def part_of(licence: str, source_repo: str, source_path: str, split: Split) -> str:
    """Decide between ``train``, ``validation`` and ``test``, by source alone."""
    if (
        split.test_licence in licence
        or source_repo in split.test_repos
        or any(piece in source_path for piece in split.test_paths)
    ):
        return "test"
    if source_repo in split.validation_repos or any(piece in source_path for piece in split.validation_paths):
        return "validation"
    return "train"


def read_recordings(data: Path, split: Split) -> list[Recording]:
    """Read ``MANIFEST.csv`` of the recordings.

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
                part=part_of(row["licence"], row["source_repo"], row["source_path"], split),
            )
            for row in reader
        ]
