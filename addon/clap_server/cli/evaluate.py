"""`clap-server evaluate`: measure models on your own recordings."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_cache_path
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clap_server.clap.loader import load_model
from clap_server.detection.calibration import calibrated
from clap_server.detection.library import load_library, split_labels
from clap_server.errors import ConfigurationError
from clap_server.evaluation.evaluate import check_files, evaluate
from clap_server.evaluation.manifest import read_manifest
from clap_server.evaluation.report import as_json, as_text

if TYPE_CHECKING:
    from clap_server.detection.labels import Label

_DESCRIPTION = """Measure models on recordings of which you know what they hold.

The manifest is a CSV file with the columns file and label, and optionally onset_s, offset_s and group. Files
are relative to it; the label is one of the library (they are listed when one is unknown), or "negative" for
none. The recordings pass through the same overlapping windows as live sound; the highest score of a recording
is what counts.
"""


def _hop(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 5:  # noqa: PLR2004 - the range of a microphone's hop
        raise argparse.ArgumentTypeError("use 0.1 to 5 seconds")
    return value


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure models on your own recordings",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("manifest", type=Path, help="CSV file: file, label[, onset_s, offset_s, group]")
    parser.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="builtin, a folder or a hub name; may be repeated to compare (default: builtin)",
    )
    parser.add_argument("--labels", help="comma-separated; default: all that occur in the manifest")
    parser.add_argument("--hop", type=_hop, default=0.5, metavar="S", help="seconds between windows (0.5)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:0")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate; 0 if every recording could be used, else 1.

    Raises:
        ClapServerError: manifest, label or model is not usable; the message says which.
    """
    library = load_library()
    named = library.resolve_all(split_labels(args.labels)) if args.labels else ()
    recordings = read_manifest(args.manifest, library, named)
    check_files(recordings)
    held = {label_id for recording in recordings for label_id in recording.label_ids}
    labels: tuple[Label, ...] = named or tuple(label for label in library.labels if label.id in held)
    if not labels:
        raise ConfigurationError("The manifest has only negatives: name labels to measure with --labels.")
    console = Console(stderr=True)
    results = []
    cache_dir = user_cache_path("clap-server")

    def tell(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    for name in args.model or ["builtin"]:
        model = load_model(name, device=args.device, cache_dir=cache_dir, progress=tell)
        # As the server does: figures at thresholds mean nothing on an uncalibrated model.
        model = calibrated(model, library, cache_dir, tell)
        with Progress(
            TextColumn(name), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True
        ) as bar:
            task = bar.add_task(name, total=len(recordings))
            results.append(
                evaluate(
                    model,
                    recordings,
                    labels,
                    library.background,
                    hop_s=args.hop,
                    progress=partial(bar.advance, task),
                )
            )
    print(json.dumps(as_json(results), indent=2) if args.json else as_text(results))
    for result in results:
        for problem in result.problems:
            print(f"clap-server: left out: {problem}", file=sys.stderr)
    return 1 if any(result.problems for result in results) else 0
