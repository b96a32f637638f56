"""`python -m training STEP ...`: makes the built-in model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from clap_server.clap.builtin import FOLDER
from training.config import DEFAULT_CONFIG, DEFAULT_DATA, DEFAULT_DOCS, DEFAULT_RUNS, load_config

STEPS = ("prepare", "text", "crossvalidate", "calibrate", "report", "train", "export")


def main(arguments: list[str] | None = None) -> int:
    """Run the named steps in their order; all of them if none is named."""
    parser = argparse.ArgumentParser(prog="training", description="Make the built-in model.")
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"{', '.join(STEPS)} (default: all)")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="settings (TOML)")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with MANIFEST.csv")
    parser.add_argument("--runs", type=Path, default=DEFAULT_RUNS, help="where everything is kept")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where export writes (the package)")
    parser.add_argument("--docs", type=Path, default=DEFAULT_DOCS, help="where export writes attribution.md")
    parser.add_argument(
        "--fold", type=int, action="append", default=[], help="of crossvalidate: only this one (repeatable)"
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER", help="train.steps=2")
    options = parser.parse_args(arguments)
    unknown = set(options.steps) - set(STEPS)
    if unknown:
        parser.error(f"unknown step {', '.join(sorted(unknown))}: use {', '.join(STEPS)}")
    overrides = {name: int(value) for name, value in (piece.split("=", 1) for piece in options.set)}
    config = load_config(options.config, overrides)
    folds = len(config.split.folds)
    strange = [fold for fold in options.fold if not 0 <= fold < folds]
    if strange:
        parser.error(f"no fold {strange[0]}: there are 0 to {folds - 1}")
    wanted = [step for step in STEPS if step in options.steps] if options.steps else list(STEPS)
    # Each step is imported when it runs, so that one can be used without what another needs.
    for step in wanted:
        print(f"== {step}", flush=True)
        if step == "prepare":
            from training.prepare import prepare  # noqa: PLC0415 - see above

            prepare(config, options.data, options.runs)
        elif step == "text":
            from training.text import distil  # noqa: PLC0415 - see above

            distil(config, options.data, options.runs)
        elif step == "crossvalidate":
            from training.crossvalidate import crossvalidate  # noqa: PLC0415 - see above

            crossvalidate(config, options.data, options.runs, options.fold)
        elif step == "calibrate":
            from training.calibrate import calibrate  # noqa: PLC0415 - see above

            calibrate(config, options.runs)
        elif step == "report":
            from training.report import report  # noqa: PLC0415 - see above

            report(options.data, options.runs)
        elif step == "train":
            from training.train import train  # noqa: PLC0415 - see above

            train(config, options.data, options.runs)
        elif step == "export":
            from training.export import export  # noqa: PLC0415 - see above

            export(config, options.data, options.runs, options.out, options.docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
