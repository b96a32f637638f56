"""`python -m training STEP ...`: makes the built-in model."""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clap_server.clap.builtin import FOLDER
from training.config import (
    DEFAULT_BACKGROUNDS,
    DEFAULT_CONFIG,
    DEFAULT_DATA,
    DEFAULT_RUNS,
    DEFAULT_TEACHER,
    SettingsError,
    load_config,
)

if TYPE_CHECKING:
    from training.config import Config

STEPS = ("prepare", "text", "crossvalidate", "report", "train", "distil", "export", "everyday")


def _override(text: str) -> tuple[str, Any]:
    """``train.steps=2`` as name and value, which is written as in TOML."""
    name, _, value = text.partition("=")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE, such as train.steps=2") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="training", description="Make the built-in model.")
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"{', '.join(STEPS)} (default: all)")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="settings (TOML)")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with MANIFEST.csv")
    parser.add_argument(
        "--backgrounds",
        type=Path,
        default=DEFAULT_BACKGROUNDS,
        help="the same for everyday sound, half of which is kept from the training",
    )
    parser.add_argument("--teacher", type=Path, default=DEFAULT_TEACHER, help="folder of the audio teacher")
    parser.add_argument("--runs", type=Path, default=DEFAULT_RUNS, help="where everything is kept")
    parser.add_argument(
        "--out", type=Path, default=FOLDER, help="where export and everyday write (the package)"
    )
    parser.add_argument(
        "--fold", type=int, action="append", default=[], help="of crossvalidate: only this one (repeatable)"
    )
    parser.add_argument(
        "--set",
        type=_override,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another value of a setting, such as train.steps=2 (repeatable)",
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the named steps in their order; all of them if none is named.

    Returns:
        Exit status: 0, or 130 if it was interrupted.

    Raises:
        SystemExit: with status 2 for options that cannot be used; with a sentence if a step cannot run.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = set(options.steps) - set(STEPS)
    if unknown:
        parser.error(f"unknown step {', '.join(sorted(unknown))}: use {', '.join(STEPS)}")
    try:
        config = load_config(options.config, dict(options.set))
    except SettingsError as error:
        parser.error(str(error))
    folds = len(config.split.folds)
    strange = [fold for fold in options.fold if not 0 <= fold < folds]
    if strange:
        parser.error(f"no fold {strange[0]}: there are 0 to {folds - 1}")
    try:
        for step in STEPS:
            if step in (options.steps or STEPS):
                print(f"== {step}", flush=True)
                _run(step, config, options)
    except KeyboardInterrupt:
        print(
            "interrupted: run the same command again to go on from the last checkpoint",
            file=sys.stderr,
        )
        return 130
    return 0


def _run(step: str, config: Config, options: argparse.Namespace) -> None:
    """Run one step, which is imported only now, so that one can be used without what another needs."""
    if step == "prepare":
        from training.prepare import prepare

        prepare(config, options.data, options.runs)
    elif step == "text":
        from training.text import distil

        distil(config, options.data, options.runs)
    elif step == "crossvalidate":
        from training.crossvalidate import crossvalidate

        crossvalidate(config, options.data, options.backgrounds, options.teacher, options.runs, options.fold)
    elif step == "report":
        from training.report import report

        report(config, options.data, options.runs)
    elif step == "train":
        from training.train import train

        train(config, options.data, options.runs)
    elif step == "distil":
        from training.distil import distil as learn_from_teacher

        learn_from_teacher(config, options.data, options.backgrounds, options.teacher, options.runs)
    elif step == "export":
        from training.export import export

        export(config, options.data, options.backgrounds, options.runs, options.out)
    elif step == "everyday":
        from training.everyday import everyday

        everyday(config, options.data, options.backgrounds, options.teacher, options.out)


if __name__ == "__main__":
    sys.exit(main())
