"""The label library with other default thresholds, for tests of what is said of them."""

from __future__ import annotations

from dataclasses import replace

from clap_server.detection.library import LabelLibrary, read_library


def library_with(thresholds: dict[str, float]) -> LabelLibrary:
    """The library as it comes, without its aliases, with these thresholds by label id."""
    library = read_library()
    labels = [replace(label, threshold=thresholds.get(label.id, label.threshold)) for label in library.labels]
    return LabelLibrary(library.version, labels, library.background)
