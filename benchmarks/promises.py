"""Whether the built-in model's everyday sound promises what sources hold that are not in it.

    .venv/server/bin/python -m benchmarks.promises [--backgrounds FOLDER] [--sounds FOLDER]

Each source of the recordings that the shipped bank was made of is left out in turn: the tails are fitted on
all others, and false alarms are counted on it. The one source that is a quarter of all hours, single objects
and instruments, is left out in ten parts, recording by recording: without all of it a bank would hold hardly
anything of a household. The folders are those that ``python -m training everyday``
was given; their ``MANIFEST.csv`` says which recording of the bank is of which source.
"""

from __future__ import annotations

import argparse
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from benchmarks.report import write
from clap_evaluation.promises import LeftOut, leave_sources_out
from clap_evaluation.reading import read_blocks
from clap_evaluation.reliability import THRESHOLDS
from clap_server.clap import builtin
from clap_server.clap.everyday import EverydayBank
from clap_server.detection.everyday.about import pieces_about
from clap_server.detection.everyday.making import BankMaker
from clap_server.detection.everyday.preparing import BUILTIN_FILE, model_key
from clap_server.detection.everyday.rate import SOUNDING_HOURS_A_DAY
from clap_server.detection.library import load_library
from clap_server.detection.scoring import LabelScorer
from training.config import DEFAULT_CONFIG, load_config
from training.everyday import everyday_rows, pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clap_server.clap.model import ClapModel
    from training.data import Recording

_PARTS = 10
SHARED = Path(__file__).resolve().parents[2] / "shared"


def everyday_of(
    model: ClapModel, sounds: Path, backgrounds: Path, teacher: Path
) -> tuple[EverydayBank, list[str]]:
    """The shipped bank, or a new one if that is of other recordings, and the source of each of its pieces."""
    config = load_config(DEFAULT_CONFIG, {})
    split, rows = config.split, everyday_rows(config, sounds, backgrounds)
    held = tuple(pieces(rows, teacher))
    bank = EverydayBank.load(builtin.FOLDER / BUILTIN_FILE)
    if bank.pieces != held:
        print("The shipped bank was made of other recordings: these are listened to, for about an hour.")
        maker = BankMaker(model)
        for (folder, row), what in zip(tqdm(rows, mininterval=10), held, strict=True):
            maker.add(read_blocks(folder / row.file, model.sample_rate), what)
        bank = maker.bank(model_key(model), f"{len(rows)} recordings, not the shipped ones")
    return bank, [_source(row, split.everyday_halved) for _, row in rows]


def _source(row: Recording, parted: Sequence[str]) -> str:
    recording = f"{row.source_repo}/{row.source_path.partition('#')[0]}"
    if any(recording.startswith(source) for source in parted):
        return f"{row.source_repo} ({zlib.crc32(recording.encode()) // 2 % _PARTS})"
    return row.source_repo


def measure(model: ClapModel, bank: EverydayBank, sources: Sequence[str]) -> list[LeftOut]:
    """Leave the sources out for each label of the library that a model scores."""
    library = load_library()
    found: list[LeftOut] = []
    margins = LabelScorer(model, library.described, library.background).margins(bank.embeddings())
    for column, label in enumerate(library.described):
        kept = bank.without(pieces_about(bank, model, label))
        found += leave_sources_out(bank, margins[:, column], kept, sources, label)
    return found


def as_markdown(found: Sequence[LeftOut]) -> str:
    """A table with a row for each label."""
    header = " | ".join(f"{threshold:.2f}" for threshold in THRESHOLDS)
    lines = [
        "False alarms promised / counted, by threshold; **bold** where the promise lies outside the 95 %",
        "interval of the count, taken as if each came by itself. Loudest: the source with the most at 0.70.",
        "",
        f"| label | sources | hours | {header} | loudest |",
        "|---" * (len(THRESHOLDS) + 4) + "|",
    ]
    for label_id in dict.fromkeys(each.promise.label_id for each in found):
        row = [each for each in found if each.promise.label_id == label_id]
        cells = [_cell(each) for each in row]
        at = row[THRESHOLDS.index(0.7)]
        loudest = f"{at.loudest} ({at.loudest_false_alarms})" if at.loudest else "-"
        lines.append(
            f"| {label_id} | {at.sources} | {at.promise.hours:.2f} | {' | '.join(cells)} | {loudest} |"
        )
    pooled = [_pooled([each for each in found if each.promise.threshold == at]) for at in THRESHOLDS]
    lines.append(f"| all together | | | {' | '.join(pooled)} | |")
    kept = [each.promise.kept for each in found if each.promise.kept is not None]
    lines += ["", f"{sum(kept)} of {len(kept)} promises lie within the bounds of what was counted."]
    return "\n".join(lines)


def _promised(found: LeftOut) -> float:
    """How many false alarms the hours should have held."""
    return found.promise.promised_per_day * found.promise.hours / SOUNDING_HOURS_A_DAY


def _pooled(found: Sequence[LeftOut]) -> str:
    """Over all labels; as they heard the same sound, there are no bounds."""
    told = [each for each in found if each.promise.per_day is not None]
    return f"{sum(map(_promised, told)):.1f} / {sum(each.promise.false_alarms for each in told)}"


def _cell(found: LeftOut) -> str:
    promise = found.promise
    if promise.per_day is None:
        return "-"
    promised = _promised(found)
    text = f"{promised:.1f} / {promise.false_alarms}"
    return text if promise.kept else f"**{text}**"


def main() -> None:
    """Run and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backgrounds", type=Path, default=SHARED / "backgrounds")
    parser.add_argument("--sounds", type=Path, default=SHARED / "sounds")
    parser.add_argument("--teacher", type=Path, default=SHARED / "teacher")
    arguments = parser.parse_args()
    model = builtin.load_builtin("cpu")
    bank, sources = everyday_of(model, arguments.sounds, arguments.backgrounds, arguments.teacher)
    found = measure(model, bank, sources)
    figures: dict[str, Any] = {"promises": [asdict(each) for each in found]}
    parameters = {"model": model.name, "bank": bank.sources, "hours": round(bank.hours, 2)}
    write("promises", model.device, parameters, figures, as_markdown(found))


if __name__ == "__main__":
    main()
