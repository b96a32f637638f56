"""The manifest of a command and the labels that were named for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clap_server.detection.library import split_labels
from clap_server.evaluation.manifest import read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from clap_server.detection.labels import Label
    from clap_server.detection.library import LabelLibrary
    from clap_server.evaluation.manifest import Recording


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
