"""Reads what a set of recordings is known to hold."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clap_server.detection.library import NORMAL, split_labels
from clap_server.errors import ConfigurationError, LabelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from clap_server.detection.labels import Label
    from clap_server.detection.library import LabelLibrary

NEGATIVE = "negative"


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One row of a manifest.

    Attributes:
        row: its line in the file, the header being 1.
        label_id: what is heard; None for none of the labels.
        onset_s: where it starts in the recording; None if not told.
        offset_s: where it ends; None if not told.
        group: recordings that must be judged together, such as those of one source; may be empty.
    """

    row: int
    label_id: str | None
    onset_s: float | None
    offset_s: float | None
    group: str


@dataclass(frozen=True, slots=True)
class Recording:
    """One file with all that its rows say.

    Attributes:
        path: of the recording.
        name: as the manifest writes it.
        occurrences: one or more.
    """

    path: Path
    name: str
    occurrences: tuple[Occurrence, ...]

    @property
    def label_ids(self) -> frozenset[str]:
        """The labels that are heard in it."""
        return frozenset(o.label_id for o in self.occurrences if o.label_id is not None)

    @property
    def row(self) -> int:
        """First line of the manifest that names it."""
        return self.occurrences[0].row


def _seconds(text: str | None, where: str) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ConfigurationError(f"{where}: {text!r} is no time: write seconds, such as 1.5.")
    return value


def _label_id(text: str, library: LabelLibrary, extra: Sequence[Label], where: str) -> str | None:
    if text.strip().lower() == NEGATIVE:
        return None
    try:
        label = library.resolve(text)
    except LabelError as error:
        raise LabelError(f"{where}: {error}") from error
    if label.id == NORMAL.id:
        return None
    if label.library or any(label.id == other.id for other in extra):
        return label.id
    raise LabelError(
        f"{where}: the label {text!r} is unknown: use {NEGATIVE!r}, a label that you name with --labels, or"
        f" one of the library's: {', '.join(x.id for x in library.labels)}."
    )


def _check(occurrence: Occurrence, others: Sequence[Occurrence], name: str, where: str) -> None:
    """Refuse a row that contradicts itself or another one of its file."""
    onset_s, offset_s = occurrence.onset_s or 0.0, occurrence.offset_s
    if offset_s is not None and offset_s <= onset_s:
        raise ConfigurationError(
            f"{where}: the sound ends at {offset_s:g} s and starts at {onset_s:g} s: mend one of them."
        )
    for other in others:
        if (other.label_id is None) != (occurrence.label_id is None):
            raise ConfigurationError(
                f"{where}: {name} is {NEGATIVE} in one row and holds a label in another (row {other.row}):"
                f" leave out the one that is wrong."
            )


def _check_header(columns: Sequence[str], name: str) -> None:
    """Refuse a manifest without the columns that it must have."""
    missing = {"file", "label"} - set(columns)
    if not missing:
        return
    separators = {";": "semicolons", "\t": "tabs"}
    used = [word for sign, word in separators.items() if len(columns) == 1 and sign in columns[0]]
    if used:
        raise ConfigurationError(f"{name} separates its columns with {used[0]}: separate them with commas.")
    raise ConfigurationError(
        f"{name} lacks the column {' and '.join(sorted(missing))}: its first line must name file and label."
    )


def read_manifest(path: Path, library: LabelLibrary, extra: Sequence[Label] = ()) -> list[Recording]:
    """Read a manifest.

    It is a CSV file with the columns ``file`` and ``label``, and optionally ``onset_s``, ``offset_s`` and
    ``group``; others are passed over. ``file`` is relative to the manifest. ``label`` is one of the
    library, one of ``extra``, or ``negative`` (or ``normal``) for none of them. A file in which several
    things happen has several rows; ``./a.wav`` and ``a.wav`` are one file.

    Args:
        path: of the manifest.
        library: resolves the labels.
        extra: further labels that may occur.

    Returns:
        The recordings in the order of the manifest. Whether they exist is not looked at.

    Raises:
        ConfigurationError: it cannot be read, or a row is wrong; the message names the row.
        LabelError: a row has an unknown label.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            _check_header(reader.fieldnames or (), path.name)
            rows = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"The manifest {path} cannot be read, as it is not UTF-8: save it as 'CSV UTF-8'."
        ) from error
    except (OSError, csv.Error) as error:
        raise ConfigurationError(f"The manifest {path} cannot be read: {error}.") from error
    if not rows:
        raise ConfigurationError(f"{path.name} has no rows.")
    folder = path.parent.absolute()
    names: dict[str, str] = {}
    found: dict[str, list[Occurrence]] = {}
    for number, row in rows:
        where = f"{path.name}, row {number}"
        name = (row["file"] or "").strip()
        if not name or row["label"] is None:
            raise ConfigurationError(f"{where}: file or label is missing.")
        occurrence = Occurrence(
            number,
            _label_id(row["label"], library, extra, where),
            _seconds(row.get("onset_s"), where),
            _seconds(row.get("offset_s"), where),
            (row.get("group") or "").strip(),
        )
        # However it is spelled, it is one recording, which must not count twice or contradict itself.
        name = names.setdefault(os.path.normpath(folder / name), name)
        _check(occurrence, found.get(name, []), name, where)
        found.setdefault(name, []).append(occurrence)
    return [Recording(path.parent / name, name, tuple(rows)) for name, rows in found.items()]


def recordings_and_labels(
    manifest: Path, labels: str | None, library: LabelLibrary
) -> tuple[list[Recording], tuple[Label, ...], tuple[Label, ...]]:
    """Read a manifest.

    Args:
        manifest: a CSV file.
        labels: comma-separated, as in ``--labels``; none were named if left out.
        library: resolves labels.

    Returns:
        The recordings, the labels that were named, each once, and those labels that occur in the manifest: of
        the named ones, or of the library if none were.

    Raises:
        ConfigurationError: the manifest is not usable.
        LabelError: a label is not usable.
    """
    resolved = library.resolve_all(split_labels(labels)) if labels else ()
    named = tuple({label.id: label for label in resolved}.values())
    recordings = read_manifest(manifest, library, named)
    held = {label_id for recording in recordings for label_id in recording.label_ids}
    return recordings, named, tuple(label for label in named or library.labels if label.id in held)
