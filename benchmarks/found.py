"""What thresholds find with the built-in model, in recordings that its training never heard.

    .venv/server/bin/python -m benchmarks.found [--sounds FOLDER] [--backgrounds FOLDER] [--package]

Those are the recordings and the everyday sound that the package's ATTRIBUTION.md does not name. Of the
latter each library label that it surely holds counts as an event from its beginning to its end. With
``--package`` the package's ``found.json``, from which the product tells what a threshold finds, is written,
with the labels of which there are enough events.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy import stats
from tqdm import tqdm

from benchmarks.report import write
from clap_evaluation.manifest import NEGATIVE, Occurrence
from clap_evaluation.reading import read_blocks
from clap_evaluation.scored import ScoredRecording, score
from clap_server.clap import builtin
from clap_server.detection.everyday.preparing import prepared
from clap_server.detection.library import load_library
from clap_server.detection.scoring import LabelScorer
from training.attribution import FILE as ATTRIBUTION
from training.config import DEFAULT_CONFIG, load_config
from training.data import ROOM_RESPONSE, Recording, read_recordings
from training.found import FILE, Found, found, with_all_labels, write_found

if TYPE_CHECKING:
    from collections.abc import Mapping

SHARED = Path(__file__).resolve().parents[2] / "shared"
# A share of fewer says next to nothing, even with its bounds.
LEAST_EVENTS = 8
THRESHOLDS = (0.5, 0.6, 0.7)


def unheard(sounds: Path, backgrounds: Path) -> list[tuple[Path, Recording]]:
    """The recordings, each with its folder."""
    split = load_config(DEFAULT_CONFIG).split
    heard = (builtin.FOLDER / ATTRIBUTION).read_text("utf-8")
    return [
        (folder, row)
        for folder in (sounds, backgrounds)
        for row in read_recordings(folder, split)
        # A source's path, without the second at which a piece was cut out of it.
        if row.label != ROOM_RESPONSE and row.source_path.split("#")[0] not in heard
    ]


def measure(rows: list[tuple[Path, Recording]]) -> dict[str, Found]:
    """Score them with all labels of the library."""
    library = load_library()
    model = prepared(builtin.load_builtin("cpu"), SHARED, print)
    scorer = LabelScorer(model, library.described, library.background)
    results: list[ScoredRecording] = []
    for number, (folder, row) in enumerate(tqdm(rows, desc="recordings", mininterval=10)):
        whole = Occurrence(
            number + 2, None if row.label == NEGATIVE else row.label, None, None, row.source_repo
        )
        blocks = read_blocks(folder / row.file, model.sample_rate)
        results.append(score(model, scorer, blocks, [whole], name=row.file))
    return found(with_all_labels(results, [row for _, row in rows]), library.described)


def as_markdown(told: Mapping[str, Found]) -> str:
    """A table with a row for each label."""
    lines = [
        "Events found, of all, with exact 95 % bounds of the share.",
        "",
        "| label | events | " + " | ".join(f"{threshold:.2f}" for threshold in THRESHOLDS) + " |",
        "|---" * (len(THRESHOLDS) + 2) + "|",
    ]
    for label_id, entry in told.items():
        cells = []
        for threshold in THRESHOLDS:
            count = sum(value >= threshold for value in entry["scores"])
            share = stats.binomtest(count, entry["events"]).proportion_ci()
            cells.append(f"{count} ({share.low:.2f} to {share.high:.2f})")
        lines.append(f"| {label_id} | {entry['events']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sounds", type=Path, default=SHARED / "sounds")
    parser.add_argument("--backgrounds", type=Path, default=SHARED / "backgrounds")
    parser.add_argument("--package", action="store_true", help="write the package's found.json as well")
    arguments = parser.parse_args()
    rows = unheard(arguments.sounds, arguments.backgrounds)
    told = measure(rows)
    figures: dict[str, Any] = {"found": told, "sources": len({row.source_repo for _, row in rows})}
    parameters = {"model": "builtin", "recordings": len(rows)}
    write("found", "cpu", parameters, figures, as_markdown(told))
    if arguments.package:
        enough = {label_id: entry for label_id, entry in told.items() if entry["events"] >= LEAST_EVENTS}
        write_found(enough, builtin.FOLDER / FILE)


if __name__ == "__main__":
    main()
