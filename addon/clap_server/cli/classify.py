"""``clap-server classify``: which sounds a recording holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from clap_server.cli import BAD_INPUT_STATUS
from clap_server.cli.model import load_prepared
from clap_server.cli.options import add_device, add_model
from clap_server.detection.library import NORMAL, load_library, split_labels
from clap_server.errors import ClapServerError, ConfigurationError, LabelError, ModelError

if TYPE_CHECKING:
    import argparse

    from clap_server.api.schemas import Classification
    from clap_server.clap.model import ClapModel
    from clap_server.detection.classify import FileScores, Normalize

_BAR_WIDTH = 24
_DEFAULT_LABELS = "glass breaking, alarm, fighting or shouting, explosion or gunshot, metal impact, normal"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "classify",
        help="say which sounds recordings hold",
        description="Say which sounds recordings hold. Any format that FFmpeg reads will do.",
        epilog="Exit status: 0 fine, 1 no model, 2 a file or an option is not usable (other files are done).",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="recordings")
    parser.add_argument(
        "--labels",
        default=_DEFAULT_LABELS,
        help="comma-separated: ids or names of the label library, or your own words; 'normal' stands for "
        f"none of the others (default: {_DEFAULT_LABELS})",
    )
    parser.add_argument(
        "--threshold",
        default="0.5",
        metavar="T",
        help="score from which a sound counts as heard, 0 to 1: 0.5 is about one false alarm an hour, 0.6 "
        "five a day, 0.7 one a day, 0.9 one a month (0.5)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON, shaped as POST /api/classify answers"
    )
    add_model(parser)
    add_device(parser)
    parser.add_argument(
        "--normalize",
        choices=["softmax"],
        help="softmax: shares that sum to 1 over the labels, instead of independent scores",
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Classify; 0 if all went well, 2 if an option or a file is not usable.

    Raises:
        ModelError: the model cannot be had.
    """
    from clap_server.api.present import classification, meanings_of

    library = load_library()
    try:
        labels = split_labels(args.labels)
        library.resolve_all(labels)
        threshold = _threshold(args.threshold)
    except (LabelError, ConfigurationError) as error:
        _complain(error)
        return BAD_INPUT_STATUS
    terminal = Console(stderr=True, highlight=False)
    model = load_prepared(args.model, args.device, terminal)
    meanings = meanings_of(labels, library, model, threshold, args.normalize)
    answers: list[dict[str, Any]] = []
    failed = False
    for file in args.files:
        try:
            scores = _scores(model, Path(file), labels, args.normalize, terminal)
        except ModelError:
            raise
        except ClapServerError as error:
            failed = True
            _complain(f"{file}: {error}")
            answers.append({"file": file, "error": str(error)})
            continue
        answer = classification(scores, threshold, meanings)
        answers.append({"file": file, **answer.model_dump(mode="json")})
        if not args.json:
            output = Console(highlight=False)
            output.print(f"{escape(file)} ({answer.duration_s:.1f} s)", soft_wrap=True)
            output.print(_table(answer))
            for alarm in answer.patterns:
                when = f"from {alarm.onset_s:.1f} s on, {alarm.carrier_hz:.0f} Hz"
                output.print(f"pattern {alarm.pattern} {when}: {alarm.label}")
    if not args.json and any("error" not in answer for answer in answers):
        output = Console(highlight=False)
        output.print(f"what the threshold {threshold:.2f} means")
        for label, words in meanings.items():
            output.print(f"  {escape(label)}: {words}", soft_wrap=True)
    if args.json and not (failed and len(answers) == 1):
        print(json.dumps(answers[0] if len(args.files) == 1 else answers, indent=2, ensure_ascii=False))
    return BAD_INPUT_STATUS if failed else 0


def _threshold(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ConfigurationError(f"--threshold {text}: use a number from 0 to 1, such as 0.65.")
    return value


def _scores(
    model: ClapModel, path: Path, labels: list[str], normalize: Normalize | None, terminal: Console
) -> FileScores:
    from clap_server.audio.decode import decode
    from clap_server.detection.classify import classify

    samples = decode(path, model.sample_rate)
    with Progress(
        TextColumn(escape(path.name)), BarColumn(), TimeRemainingColumn(), console=terminal, transient=True
    ) as bar:
        task = bar.add_task("", total=len(samples) / model.sample_rate)
        return classify(
            model,
            load_library(),
            [samples],
            labels,
            normalize=normalize,
            progress=lambda done_s: bar.update(task, completed=done_s),
        )


def _table(answer: Classification) -> Table:
    table = Table(box=None, show_header=False)
    for entry in answer.labels:
        filled = round(entry.score * _BAR_WIDTH)
        style = "bold red" if entry.detected and load_library().resolve(entry.label) is not NORMAL else ""
        table.add_row(
            escape(entry.label),
            "█" * filled + "░" * (_BAR_WIDTH - filled),
            f"{entry.score:.2f}",
            "heard" if entry.detected else "",
            style=style,
        )
    return table


def _complain(what: object) -> None:
    print(f"clap-server: {what}", file=sys.stderr)
