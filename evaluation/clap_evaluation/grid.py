"""The scores of overlapping windows as rows that follow each other, as ``sed_scores_eval`` wants them.

Each window gets the time around its middle, halfway to the middles of its neighbours, because it is there
that a sound gives it the highest score. So every window has one row with its own scores, and rows neither
overlap nor leave gaps. The first row starts with the recording and the last ends with it; windows whose
middle lies behind its end are left out.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from clap_server.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from clap_evaluation.scored import ScoredRecording

DECIMALS = 6
"""Of times and scores: microseconds."""

_LONGEST_STEM = 200
"""Bytes: file systems take names of 255, and an extension and a number have to fit."""


def grid(result: ScoredRecording) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Bring the windows of a recording onto a grid.

    Returns:
        ``(r + 1,)`` times in seconds, strictly rising, and the ``(r, labels)`` scores between them.
    """
    windows = result.windows
    middles = (windows.starts_s + windows.ends_s) / 2
    order = np.argsort(middles, kind="stable")
    inside = order[middles[order] < result.duration_s]
    edges = (middles[inside][1:] + middles[inside][:-1]) / 2
    times = np.asarray(np.concatenate(([0.0], edges, [result.duration_s])).round(DECIMALS), np.float64)
    # Two windows with the same middle would leave one of them no time.
    rising = np.concatenate((np.diff(times) > 0, [True]))
    return times[rising], windows.scores[inside][rising[:-1]]


def write_scores(result: ScoredRecording, path: Path) -> None:
    """Write the scores of a recording as a tab-separated file: onset, offset, and a column for each label.

    Args:
        result: of one recording.
        path: of the file.

    Raises:
        ConfigurationError: it cannot be written; what came half way is taken away.
    """
    times, scores = grid(result)
    lines = ["\t".join(("onset", "offset", *result.windows.label_ids))]
    lines += [
        "\t".join(f"{value:.{DECIMALS}f}" for value in (start, end, *row))
        for start, end, row in zip(times[:-1], times[1:], scores, strict=True)
    ]
    try:
        with path.open("w", encoding="utf-8") as file:
            try:
                file.write("\n".join(lines) + "\n")
                file.flush()
            except OSError:
                with suppress(OSError):
                    path.unlink()
                raise
    except OSError as error:
        raise ConfigurationError(f"The scores cannot be written to {path}: {error.strerror}.") from error


def file_names(names: Iterable[str]) -> dict[str, str]:
    """A name for the file of each recording, for one folder: no separators, none twice, no extension.

    Names that are too long for a file system are cut and end with a hash.

    Args:
        names: distinct, as the manifest writes them.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = re.sub(r"[^\w.-]+", "_", re.sub(r"[/\\]+", "__", name)).lstrip("._")
        stem = plain.rsplit(".", 1)[0] or "recording"
        if len(stem.encode()) > _LONGEST_STEM:
            digest = hashlib.sha256(name.encode()).hexdigest()[:16]
            stem = f"{stem.encode()[: _LONGEST_STEM - len(digest) - 1].decode(errors='ignore')}-{digest}"
        unique, number = stem, 2
        while unique.casefold() in taken:
            unique, number = f"{stem}-{number}", number + 1
        taken.add(unique.casefold())
        found[name] = unique
    return found
