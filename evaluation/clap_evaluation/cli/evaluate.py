"""`clap-server evaluate`: measure models on your own recordings."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from clap_evaluation.cli.progress import counting
from clap_evaluation.conditions import CLIPS_PER_LABEL
from clap_evaluation.evaluate import Evaluation, evaluate
from clap_evaluation.grid import file_names, write_scores
from clap_evaluation.manifest import recordings_and_labels
from clap_evaluation.report import as_json, as_text
from clap_server.audio.denoise import check_denoise
from clap_server.cli import INTERRUPTED_STATUS
from clap_server.cli.model import load_prepared
from clap_server.cli.options import add_device, add_hop
from clap_server.detection.library import load_library
from clap_server.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from clap_evaluation.manifest import Recording
    from clap_evaluation.scored import ScoredRecording
    from clap_server.clap.model import ClapModel
    from clap_server.detection.labels import Label

_DESCRIPTION = f"""Measure models on recordings of which you know what they hold.

The manifest is a CSV file with the columns file and label, and optionally onset_s, offset_s and group. Files
are relative to it; the label is one of the library (they are listed when one is unknown), or "negative" for
none. The recordings pass through the same windows, gate and detector as live sound, faster than real time.

Where there are negatives, up to {CLIPS_PER_LABEL} recordings of each label are also placed in them at several
signal-to-noise ratios and distances. docs/evaluation.md explains the figures.
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="measure models on your own recordings",
        description=_DESCRIPTION,
        epilog="Exit status: 0 fine, 1 failed or something was left out, 2 wrong use, 130 interrupted.",
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
    add_hop(parser)
    add_device(parser)
    parser.add_argument(
        "--conditions",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure over background sounds and at distances too (default: yes)",
    )
    parser.add_argument(
        "--denoise",
        action="store_true",
        help="let the models hear the recordings through RNNoise, as a microphone with `denoise` does",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument(
        "--scores",
        type=Path,
        metavar="DIR",
        help="write each window's scores here, a file for each recording",
    )
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write pictures (PNG) here")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate; 0 if every recording could be used and written, 130 if it was interrupted, else 1.

    Raises:
        ClapServerError: manifest, label, model or folder is not usable; the message says which.
    """
    if args.denoise:
        check_denoise()
    library = load_library()
    recordings, named, held = recordings_and_labels(args.manifest, args.labels, library)
    labels = named or held
    if not labels:
        raise ConfigurationError("The manifest has only negatives: name labels to measure with --labels.")
    if args.plots:
        # Better now than when all is scored.
        _make_folder(args.plots, "--plots")
    console = Console(stderr=True, highlight=False)
    names = list(dict.fromkeys(args.model or ["builtin"]))
    # Scores mean nothing without everyday sound.
    models = [load_prepared(name, args.device, console) for name in names]
    results: list[Evaluation] = []
    unwritten: list[str] = []
    for name, model in zip(names, models, strict=True):
        folder = None
        if args.scores:
            folder = args.scores / _slug(name) if len(models) > 1 else args.scores
            _make_folder(folder, "--scores")
        try:
            keep = _keeper(folder, recordings, unwritten)
            results.append(
                _evaluate(args, model, recordings, labels, library.background, keep=keep, console=console)
            )
        except KeyboardInterrupt:
            # The models before it are finished.
            break
        if results[-1].interrupted:
            break
    return _tell(args, results, unwritten, complete=len(results) == len(models))


def _make_folder(path: Path, option: str) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{option}: the folder {path} cannot be made: {error.strerror}.") from error


def _slug(name: str) -> str:
    """A folder's name for a model."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "model"


def _keeper(
    folder: Path | None, recordings: Sequence[Recording], unwritten: list[str]
) -> Callable[[ScoredRecording], None] | None:
    """Make what writes scores into a folder, if there is one; a file that fails must not cost the figures.

    Args:
        folder: of the score files.
        recordings: all that may be scored.
        unwritten: gets a line for each file that cannot be written.
    """
    if folder is None:
        return None
    files = file_names(recording.name for recording in recordings)

    def keep(result: ScoredRecording) -> None:
        try:
            write_scores(result, folder / f"{files[result.name]}.tsv")
        except ConfigurationError as error:
            unwritten.append(str(error))

    return keep


def _evaluate(
    args: argparse.Namespace,
    model: ClapModel,
    recordings: Sequence[Recording],
    labels: Sequence[Label],
    background: Sequence[str],
    *,
    keep: Callable[[ScoredRecording], None] | None,
    console: Console,
) -> Evaluation:
    """Measure one model, with a bar that tells how far it is."""
    with counting(console) as bar:
        task = bar.add_task(model.name)
        return evaluate(
            model,
            recordings,
            labels,
            background,
            hop_s=args.hop,
            conditions=args.conditions,
            denoise=args.denoise,
            on_scored=keep,
            progress=lambda what, done, total: bar.update(
                task, description=f"{model.name}: {what}", completed=done, total=total
            ),
        )


def _tell(
    args: argparse.Namespace, results: Sequence[Evaluation], unwritten: Sequence[str], *, complete: bool
) -> int:
    """Print and draw what there is; return the status."""
    print(json.dumps(as_json(results), indent=2) if args.json else as_text(results))
    if args.plots:
        from clap_evaluation.plots import write_plots

        for result in results:
            folder = args.plots / _slug(result.model) if len(results) > 1 else args.plots
            _make_folder(folder, "--plots")
            write_plots(result, folder)
    for result in results:
        for problem in result.problems:
            print(f"clap-server: left out: {problem}", file=sys.stderr)
    for failure in unwritten:
        print(f"clap-server: {failure}", file=sys.stderr)
    if not complete or any(result.interrupted for result in results):
        print("clap-server: interrupted: not everything was measured", file=sys.stderr)
        return INTERRUPTED_STATUS
    return 1 if unwritten or any(result.problems for result in results) else 0
