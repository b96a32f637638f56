"""``clap-server calibrate``: make a score of 0.5 and 0.7 mean what they should, for any model."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_cache_path
from rich.console import Console
from rich.table import Table

from clap_evaluation.cli.progress import counting
from clap_evaluation.manifest import recordings_and_labels
from clap_server.cli import BAD_INPUT_STATUS
from clap_server.cli.model import loading
from clap_server.cli.options import add_device, add_hop, add_model
from clap_server.detection.library import load_library
from clap_server.errors import ConfigurationError
from clap_server.settings import load_settings
from clap_server.store.folder import DataFolder

if TYPE_CHECKING:
    from collections.abc import Callable

    from clap_evaluation.calibration.quality import CalibrationQuality
    from clap_evaluation.manifest import Recording
    from clap_server.clap.model import Calibration, ClapModel
    from clap_server.detection.calibration.fit import JudgedMargins
    from clap_server.detection.labels import Label
    from clap_server.detection.library import LabelLibrary

# With fewer events than this a single one moves the result visibly.
_FEW_EVENTS = 10

_DESCRIPTION = """Fit the scale and bias that turn a model's margins into scores, so that 0.5 means as likely
as not and 0.7 rather likely for every label, and store them for every later load of the model.

Without a manifest the sounds are synthesised, as when a model is first loaded. With one they are yours: a
CSV file with the columns file and label, and optionally onset_s, offset_s and group. Files are relative to
it; the label is one of the library, or "negative" for none. It needs recordings with a sound and recordings
without it; ten of each make a fair start. A recording in which several labels are right has a row for each.
"""


@dataclass(frozen=True, slots=True)
class _Source:
    """What a calibration is fitted on.

    Attributes:
        judged: its margins.
        words: what it was, for people.
        facts: the same for programs.
        events: how many sounds of a label the recordings hold; None for synthesised ones.
        problems: rows of the manifest that were left out.
    """

    judged: JudgedMargins
    words: str
    facts: dict[str, Any]
    events: int | None = None
    problems: tuple[str, ...] = ()


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "calibrate",
        help="make a model's scores mean what they should",
        description=_DESCRIPTION,
        epilog="Exit status: 0 fine, 1 failed or rows of the manifest were left out, 2 wrong use.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model(parser)
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="CSV file: file, label[, onset_s, ...]")
    parser.add_argument(
        "--labels", help="comma-separated: calibrate on these alone; names your own words in the manifest"
    )
    add_hop(parser)
    add_device(parser)
    parser.add_argument("--data", metavar="DIR", help="the server's data folder (or CLAP_DATA)")
    parser.add_argument("--dry-run", action="store_true", help="show what would come out; store nothing")
    parser.add_argument("--reset", action="store_true", help="take the stored calibration away")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Calibrate; 0 if all went well, 1 if rows of the manifest were left out, 2 for wrong use.

    Raises:
        ClapServerError: manifest, labels, model or data folder is not usable; the message says which.
    """
    if args.reset and (args.manifest or args.dry_run or args.labels):
        return _wrong_use("--reset takes a calibration away: use it with --model and --data alone")
    if args.labels and not args.manifest:
        return _wrong_use("--labels names labels of a manifest: give one with --manifest")
    models_dir = DataFolder(load_settings({"data": args.data}).data).models
    if args.reset:
        return _reset(args, models_dir)
    return _calibrate(args, models_dir)


def _calibrate(args: argparse.Namespace, models_dir: Path) -> int:
    library = load_library()
    # Before the model, which takes seconds to minutes: a wrong row shall be told at once.
    recordings, labels = _recordings(args, library) if args.manifest else ([], ())
    from clap_evaluation.calibration.quality import calibration_quality
    from clap_server.clap.loader import load_model
    from clap_server.detection.calibration import store as calibration_store
    from clap_server.detection.calibration.fit import KNOWN_SD, fit, known
    from clap_server.detection.scoring import UNCALIBRATED

    terminal = Console(stderr=True, highlight=False)
    # What the server downloaded is not downloaded again.
    cache_dir = models_dir if (models_dir / "hub").is_dir() else user_cache_path("clap-server")
    with loading(terminal) as tell:
        model = load_model(args.model, device=args.device, cache_dir=cache_dir, progress=tell)
        before = known(model, library, cache_dir, models_dir=models_dir)
        source = None if args.manifest else _synthesised(model, library, tell)
    if source is None:
        source = _recorded(model, library, recordings, labels, hop_s=args.hop, terminal=terminal)
    judged = source.judged
    # The built-in model came calibrated on many recordings; of others nothing is known.
    prior = (model.calibration, KNOWN_SD) if model.builtin and model.calibration else ()
    after = fit(judged.margins, judged.targets, judged.weights, *prior)
    qualities = tuple(calibration_quality(judged, c) for c in (before or UNCALIBRATED, after))
    path = None
    try:
        if not args.dry_run:
            path = calibration_store.store(model, library, models_dir, after, source.words)
    finally:  # what was computed is shown also if it cannot be stored
        if args.json:
            _print_json(model, source, (before, after), qualities, path)
        else:
            _print_text(model, source, (before or UNCALIBRATED, after), qualities, guessed=before is None)
    if not args.json:
        _print_where(path)
    _warn(model, source, after)
    return 1 if source.problems else 0


def _warn(model: ClapModel, source: _Source, after: Calibration) -> None:
    from clap_server.detection.calibration.fit import is_vague

    warnings = [f"left out: {problem}" for problem in source.problems]
    if is_vague(after):
        warnings.append(f"{model.name} hardly tells these sounds apart, so its scores will be vague.")
    if source.events is not None and source.events < _FEW_EVENTS:
        warnings.append(
            f"The recordings hold only {source.events} of the sounds, so this is a rough estimate: add more "
            "when you have them."
        )
    if source.events is None and model.builtin:
        warnings.append(
            "The built-in model came calibrated on real recordings. Synthesised sounds are easy for it, so "
            "this makes it too sure: give your own recordings with --manifest, or use --reset."
        )
    for line in warnings:
        print(f"clap-server: {line}", file=sys.stderr)


def _wrong_use(what: str) -> int:
    print(f"clap-server: {what}.", file=sys.stderr)
    return BAD_INPUT_STATUS


def _reset(args: argparse.Namespace, models_dir: Path) -> int:
    from clap_server.clap.loader import resolve_device, resolve_name
    from clap_server.detection.calibration import store as calibration_store

    name = args.model.strip()
    if name == "auto":
        name = resolve_name(name, resolve_device(args.device))
    removed = calibration_store.remove(name, models_dir)
    if args.json:
        print(json.dumps({"model": name, "removed": [str(path) for path in removed]}, indent=2))
    elif removed:
        for path in removed:
            print(f"Removed {path}.")
        print(f"{name} is calibrated as before; a running server takes note when it is started again.")
    else:
        print(f"Nothing is stored for {name} beside its weights or in {models_dir.parent}.")
    return 0


def _recordings(args: argparse.Namespace, library: LabelLibrary) -> tuple[list[Recording], tuple[Label, ...]]:
    """Read the manifest; also the labels that occur in it, or those that were named."""
    recordings, named, all_labels = recordings_and_labels(args.manifest, args.labels, library)
    # A label without prompts has no score to calibrate.
    labels = tuple(label for label in all_labels if label.prompts)
    if not labels:
        which = "nothing but negatives"
        if all_labels or named:
            which = "none of --labels" if named else "no sound that a model scores"
        raise ConfigurationError(
            f"{args.manifest.name} has {which}: calibration needs recordings with a sound and recordings "
            "without it."
        )
    return recordings, labels


def _recorded(
    model: ClapModel,
    library: LabelLibrary,
    recordings: list[Recording],
    labels: tuple[Label, ...],
    *,
    hop_s: float,
    terminal: Console,
) -> _Source:
    from clap_evaluation.calibration.margins import recorded_margins

    with counting(terminal) as bar:
        task = bar.add_task("Listening to recordings", total=len(recordings))
        found = recorded_margins(
            model, recordings, labels, library.background, hop_s=hop_s, progress=partial(bar.advance, task)
        )
    return _Source(
        found.judged,
        f"{found.recordings} recordings, {found.windows} windows: "
        + ", ".join(f"{label_id} {count}" for label_id, count in found.events.items()),
        {"recordings": found.recordings, "windows": found.windows, "events": found.events},
        sum(found.events.values()),
        found.problems,
    )


def _synthesised(model: ClapModel, library: LabelLibrary, tell: Callable[[str], None]) -> _Source:
    from clap_server.detection.calibration.fit import synthesised_margins

    judged = synthesised_margins(model, library, tell)
    return _Source(judged, "synthesised sounds", {"synthesised": True})


def _print_json(
    model: ClapModel,
    source: _Source,
    calibrations: tuple[Calibration | None, Calibration],
    qualities: tuple[CalibrationQuality, ...],
    path: Path | None,
) -> None:
    parts = {
        when: {**(dataclasses.asdict(calibration) if calibration else {}), **dataclasses.asdict(quality)}
        for when, calibration, quality in zip(("before", "after"), calibrations, qualities, strict=True)
    }
    answer = {
        "model": model.name,
        "source": source.facts,
        **parts,
        "stored": str(path) if path else None,
        "problems": list(source.problems),
    }
    print(json.dumps(answer, indent=2, ensure_ascii=False))


def _print_text(
    model: ClapModel,
    source: _Source,
    calibrations: tuple[Calibration, Calibration],
    qualities: tuple[CalibrationQuality, ...],
    *,
    guessed: bool,
) -> None:
    from clap_server.detection.calibration.fit import NEGATIVES_PER_POSITIVE

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("before" + (" (a guess)" if guessed else ""), justify="right")
    table.add_column("after", justify="right")
    table.add_row("scale", *(f"{c.scale:.2f}" for c in calibrations))
    table.add_row("bias", *(f"{c.bias:.2f}" for c in calibrations))
    table.add_row("log loss", *(f"{q.log_loss:.3f}" for q in qualities))
    table.add_row("calibration error", *(f"{q.calibration_error:.3f}" for q in qualities))
    for readings in zip(*(quality.readings for quality in qualities), strict=True):
        table.add_row("")
        table.add_row(
            f"sounds that score {readings[0].threshold:g} or more",
            *(_percent(reading.reached_with) for reading in readings),
        )
        table.add_row("other windows that do", *(_percent(reading.reached_without) for reading in readings))
        table.add_row("right, of all that do", *(_percent(reading.right) for reading in readings))
    output = Console(highlight=False)
    output.print(f"Calibration of {model.name} on {source.words}", markup=False, soft_wrap=True)
    output.print()
    output.print(table)
    output.print()
    output.print(
        f"Other windows count as if they came {NEGATIVES_PER_POSITIVE:g} times as often as the sounds. Log "
        "loss and calibration error: less is better.",
        soft_wrap=True,
    )


def _percent(share: float | None) -> str:
    return "none does" if share is None else f"{100 * share:.1f} %"


def _print_where(path: Path | None) -> None:
    if path is None:
        print("Nothing was stored (--dry-run).")
    else:
        print(
            f"Stored in {path}.\nclassify and evaluate use it from now on, a server when it is started "
            "again; --reset takes it away."
        )
