"""``clap-server calibrate``: let a model's scores know what everyday sound is like at your home."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
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
from clap_server.cli.options import add_device, add_model
from clap_server.detection.library import load_library
from clap_server.errors import ConfigurationError
from clap_server.settings import load_settings
from clap_server.store.folder import DataFolder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clap_evaluation.calibration.comparison import Comparison
    from clap_evaluation.calibration.own import OwnSound
    from clap_evaluation.reliability import Promise
    from clap_server.clap.everyday import EverydayBank
    from clap_server.clap.model import ClapModel
    from clap_server.detection.labels import Label
    from clap_server.detection.library import LabelLibrary

_DESCRIPTION = """A score says how often everyday sound would reach it: 0.7 is one false alarm a day. What
everyday sound is like, a model knows from the recordings that it came with. With a manifest it learns yours
as well: a CSV file with the columns file and label, and optionally onset_s, offset_s and group. Files are
relative to it; the label is "negative" for everyday sound. A recording with a label of the library counts as
everyday sound for all other labels. 20 minutes above the noise of the room are needed, some evenings are
better. What is learnt is stored, never the sound, and replaces what was learnt before: name all recordings
in one manifest.

Without a manifest, the everyday sound of a model that came without any is synthesised anew.
"""

_LEGEND = """Counted: what the threshold let through in these recordings, for a day of 4 hours above the noise
(95 % interval). Now known: what the model's everyday sound and yours together say of the same sounds. One a
day was: the threshold that kept it to one a day until now; from now on that is 0.70."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "calibrate",
        help="let scores know what everyday sound is like at your home",
        description=_DESCRIPTION,
        epilog="Exit status: 0 fine, 1 failed or rows of the manifest were left out, 2 wrong use.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model(parser)
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="CSV file: file, label[, onset_s, ...]")
    parser.add_argument("--labels", help="comma-separated: show these; names your own words in the manifest")
    add_device(parser)
    parser.add_argument("--data", metavar="DIR", help="the server's data folder (or CLAP_DATA)")
    parser.add_argument("--dry-run", action="store_true", help="show what would come out; store nothing")
    parser.add_argument("--reset", action="store_true", help="forget your recordings again")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Calibrate; 0 if all went well, 1 if rows of the manifest were left out, 2 for wrong use.

    Raises:
        ClapServerError: manifest, labels, model or data folder is not usable; the message says which.
    """
    if args.reset and (args.manifest or args.dry_run or args.labels):
        return _wrong_use("--reset forgets your recordings: use it with --model and --data alone")
    if args.labels and not args.manifest:
        return _wrong_use("--labels names labels of a manifest: give one with --manifest")
    models_dir = DataFolder(load_settings({"data": args.data}).data).models
    if args.reset:
        return _reset(args, models_dir)
    if args.manifest:
        return _learn(args, models_dir)
    return _synthesise(args, models_dir)


def _wrong_use(what: str) -> int:
    print(f"clap-server: {what}.", file=sys.stderr)
    return BAD_INPUT_STATUS


def _name(args: argparse.Namespace) -> str:
    """Of the model, where the user leaves the choice to us."""
    from clap_server.clap.loader import resolve_device, resolve_name

    name: str = args.model.strip()
    return resolve_name(name, resolve_device(args.device)) if name == "auto" else name


def _reset(args: argparse.Namespace, models_dir: Path) -> int:
    from clap_server.detection.everyday.preparing import own_path

    name = _name(args)
    path = own_path(name, models_dir)
    removed = [path] if path.exists() else []
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be removed ({error.strerror or error}): remove it by hand."
        ) from error
    if args.json:
        print(json.dumps({"model": name, "removed": [str(each) for each in removed]}, indent=2))
    elif removed:
        print(f"Removed {path}.")
        print(f"{name} scores as before; a running server takes note when it is started again.")
    else:
        print(f"Nothing is stored for {name} in {models_dir.parent}.")
    return 0


def _cache_dir(models_dir: Path) -> Path:
    """Where models are: what the server downloaded is not downloaded again."""
    return models_dir if (models_dir / "hub").is_dir() else user_cache_path("clap-server")


def _synthesise(args: argparse.Namespace, models_dir: Path) -> int:
    if _name(args) == "builtin":
        raise ConfigurationError(
            "The built-in model came with recordings of everyday sound, which are better than synthesised "
            "ones: give it yours with --manifest."
        )
    from clap_server.clap.loader import load_model
    from clap_server.detection.everyday.making import synthesised_bank
    from clap_server.detection.everyday.preparing import bank_path, model_key

    with loading(Console(stderr=True, highlight=False)) as tell:
        model = load_model(
            args.model,
            device=args.device,
            cache_dir=_cache_dir(models_dir),
            progress=tell,
            engine=load_settings({}).engine,
        )
        bank = synthesised_bank(model, model_key(model), tell)
    paths = []
    if not args.dry_run:
        # Where the server looks for it, and where the other commands do.
        paths = [
            bank_path(model_key(model), folder) for folder in (models_dir, user_cache_path("clap-server"))
        ]
        for path in paths:
            _save(bank, path)
    if args.json:
        _print_json(model, {"synthesised": True, "hours": bank.hours}, (), paths, ())
    else:
        print(f"Everyday sound for {model.name}: {60 * bank.hours:.0f} minutes, synthesised.")
        _print_where(paths)
    return 0


def _learn(args: argparse.Namespace, models_dir: Path) -> int:
    library = load_library()
    # Before the model, which takes seconds to minutes: a wrong row shall be told at once.
    recordings, named, held = recordings_and_labels(args.manifest, args.labels, library)
    labels = _shown(named or held, library)
    from clap_evaluation.calibration.comparison import compare
    from clap_evaluation.calibration.own import hear_own
    from clap_server.clap.loader import load_model
    from clap_server.detection.everyday.preparing import common_bank, give, own_path, read
    from clap_server.detection.scoring import LabelScorer

    terminal = Console(stderr=True, highlight=False)
    cache_dir = _cache_dir(models_dir)
    with loading(terminal) as tell:
        model = load_model(
            args.model,
            device=args.device,
            cache_dir=cache_dir,
            progress=tell,
            engine=load_settings({}).engine,
        )
        common = common_bank(model, cache_dir, tell)
    path = own_path(model.name, models_dir)
    known = read(path, model, "is not used")
    give(model, common if known is None else common.joined(known))
    before = LabelScorer(model, labels, library.background)
    with counting(terminal) as bar:
        task = bar.add_task("Listening to recordings", total=len(recordings))
        own = hear_own(
            model,
            before,
            recordings,
            {label.id: label for label in (*library.labels, *named)},
            sources=f"{len(recordings)} recordings of {args.manifest.name}",
            progress=partial(bar.advance, task),
        )
    # The same recordings replace what was learnt from them before and never count twice.
    give(model, common.joined(own.bank))
    after = LabelScorer(model, labels, library.background)
    compared = [
        compare(label, (before.scale(label.id), after.scale(label.id)), own.results, own.bank)
        for label in labels
    ]
    paths = [] if args.dry_run else [path]
    try:
        for each in paths:
            _save(own.bank, each)
    finally:  # what was computed is shown also if it cannot be stored
        _tell(args, model, common, own, compared, paths)
    if not args.json:
        _print_where(paths)
    for problem in own.problems:
        print(f"clap-server: left out: {problem}", file=sys.stderr)
    return 1 if own.problems else 0


def _shown(labels: Sequence[Label], library: LabelLibrary) -> list[Label]:
    """The labels to tell of: those that a model scores; those of security if there are none."""
    return [label for label in labels if label.prompts] or [
        label for label in library.described if label.security
    ]


def _save(bank: EverydayBank, path: Path) -> None:
    try:
        bank.save(path)
    except OSError as error:
        raise ConfigurationError(
            f"The everyday sound cannot be stored in {path.parent} ({error.strerror or error}): make it "
            "writable for this user, or name another data folder with --data."
        ) from error


def _tell(
    args: argparse.Namespace,
    model: ClapModel,
    common: EverydayBank,
    own: OwnSound,
    compared: Sequence[Comparison],
    paths: Sequence[Path],
) -> None:
    if args.json:
        source = {"recordings": len(own.results), "hours": own.bank.hours, "common_hours": common.hours}
        _print_json(model, source, compared, paths, own.problems)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("label")
    for title in (
        "threshold",
        "promised a day",
        "counted",
        "now known",
        "one a day was",
        "found before",
        "after",
    ):
        table.add_column(title, justify="right")
    for each in compared:
        table.add_row(
            each.before.label_id,
            f"{each.before.threshold:.2f}",
            _rate(each.before.promised_per_day),
            _counted(each.before),
            _rate(each.now_promised_per_day),
            f"{each.one_a_day:.2f}",
            *(_share(found, each.events) for found in (each.found_before, each.found_after)),
        )
    output = Console(highlight=False)
    output.print(
        f"{model.name} with {own.bank.sources}: {60 * own.bank.hours:.0f} minutes above the noise, beside "
        f"the {60 * common.hours:.0f} minutes that it knows",
        markup=False,
        soft_wrap=True,
    )
    output.print()
    output.print(table)
    output.print()
    output.print(_LEGEND.replace("\n", " "), soft_wrap=True)


def _rate(per_day: float) -> str:
    return f"{per_day:.3g}"


def _counted(promise: Promise) -> str:
    if promise.per_day is None or promise.per_day_low is None or promise.per_day_high is None:
        return "-"
    low, high = _rate(promise.per_day_low), _rate(promise.per_day_high)
    return f"{_rate(promise.per_day)} ({low} to {high})"


def _share(found: int, events: int) -> str:
    return f"{found} of {events}" if events else "-"


def _print_json(
    model: ClapModel,
    source: dict[str, Any],
    compared: Sequence[Comparison],
    paths: Sequence[Path],
    problems: Sequence[str],
) -> None:
    answer = {
        "model": model.name,
        "source": source,
        "labels": [
            {"label_id": each.before.label_id, "threshold": each.before.threshold, **asdict(each)}
            for each in compared
        ],
        "stored": [str(path) for path in paths],
        "problems": list(problems),
    }
    print(json.dumps(answer, indent=2, ensure_ascii=False))


def _print_where(paths: Sequence[Path]) -> None:
    for path in paths:
        print(f"Stored in {path}.")
    if paths:
        print("classify and evaluate use it from now on, a server when it is started again.")
    else:
        print("Nothing was stored (--dry-run).")
