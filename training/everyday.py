"""Step ``everyday``: the built-in model's bank of everyday sound.

It holds what no alarm should come of: the recordings of everyday sound, which no training step sees, and the
negatives among those that are trained on, which are the hard ones (dishes, coins, cutlery, doors). What is
never trained on stays out of it, so that promises can be checked there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tqdm import tqdm

from clap_evaluation.manifest import NEGATIVE
from clap_evaluation.reading import read_blocks
from clap_server.clap.builtin.model import BuiltinClap
from clap_server.clap.everyday import EverydayBank, Piece
from clap_server.detection.everyday.making import BankMaker
from clap_server.detection.everyday.preparing import BUILTIN_FILE, model_key
from clap_server.detection.library import load_library
from clap_server.errors import ModelError
from training.attribution import EVERYDAY_FILE, of_everyday_sound
from training.concepts import OTHER, load_concepts
from training.data import read_recordings
from training.writing import replace_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.config import Config
    from training.data import Recording

# What a folder of everyday recordings holds besides what their names say.
_KINDS: dict[str, tuple[str, ...]] = {
    "speech": ("speech",),
    "speech_short": ("speech",),
    "music": ("music",),
    "places": ("speech",),
    "street": ("vehicle",),
}


def piece(recording: Recording) -> Piece:
    """What a recording holds: for the library's labels, and in words."""
    concepts = load_concepts()
    known = {label.id for label in load_library().labels}
    concept = concepts.of_recording(recording)
    kinds = _KINDS.get(recording.file.partition("/")[0], ())
    holds = set(kinds)
    if concept is not None and concept != OTHER:
        said = zip(concepts.all, concepts.targets(concept), strict=True)
        holds |= {other.name for other, target in said if target != 0}
    names = (recording.fine_label, *kinds, *((concept,) if concept not in {None, OTHER} else ()))
    tags = dict.fromkeys(name.replace("_", " ").strip() for name in names if name)
    return Piece(frozenset(holds & known), tuple(tags))


def everyday_rows(
    config: Config, data: Path, backgrounds: Path, held_out: int | None = None
) -> list[tuple[Path, Recording]]:
    """Choose what a bank is made of.

    Args:
        config: says what is never trained on, and what is held out together.
        data: the recordings of the training.
        backgrounds: those of everyday sound.
        held_out: a fold that nothing may be of, nor may everyday sound be of its sources; None for the bank
            that ships.

    Returns:
        Each with the folder that its file is in: everyday sound first, then negatives of the training.

    Raises:
        SystemExit: there are no recordings of everyday sound, or a manifest cannot be used.
    """
    recordings = read_recordings(data, config.split)
    sources = {row.source_repo for row in recordings if held_out is not None and row.fold == held_out}
    common = [
        row for row in _usable(read_recordings(backgrounds, config.split)) if row.source_repo not in sources
    ]
    if not common:
        raise SystemExit(
            f"{backgrounds} has no recordings of everyday sound: name their folder with --backgrounds."
        )
    hard = [row for row in _usable(recordings) if held_out is None or row.fold != held_out]
    return [*((backgrounds, row) for row in common), *((data, row) for row in hard)]


def _usable(rows: Sequence[Recording]) -> list[Recording]:
    return [row for row in rows if row.label == NEGATIVE and row.fold is not None]


def write_bank(folder: Path, rows: Sequence[tuple[Path, Recording]]) -> EverydayBank:
    """Write ``everyday.npz`` beside a model's weights.

    Args:
        folder: of the model (see ``write_model``).
        rows: of ``everyday_rows``.

    Returns:
        The same bank.
    """
    model = BuiltinClap(folder, "cpu")
    maker = BankMaker(model)
    for root, row in tqdm(rows, desc="everyday sound", mininterval=10):
        maker.add(read_blocks(root / row.file, model.sample_rate), piece(row))
    bank = maker.bank(model_key(model), f"{len(rows)} recordings")
    bank.save(folder / BUILTIN_FILE)
    return bank


def load_with_bank(folder: Path) -> BuiltinClap:
    """Load a model with the bank beside it, so that its scores are rates.

    Raises:
        ModelError: a file is missing or damaged.
    """
    model = BuiltinClap(folder, "cpu")
    try:
        model.everyday = EverydayBank.load(folder / BUILTIN_FILE)
    except FileNotFoundError as error:
        raise ModelError(f"{folder} has no bank: run `python -m training everyday` first.") from error
    return model


def everyday(config: Config, data: Path, backgrounds: Path, folder: Path) -> None:
    """Write ``everyday.npz`` beside the weights, and who made what it comes from.

    Args:
        config: says what is never trained on.
        data: the recordings of the training.
        backgrounds: those of everyday sound.
        folder: of the weights; gets the bank.

    Raises:
        SystemExit: there are no recordings of everyday sound, or a manifest cannot be used.
    """
    rows = everyday_rows(config, data, backgrounds)
    bank = write_bank(folder, rows)
    replace_text(folder / EVERYDAY_FILE, of_everyday_sound(row for _, row in rows))
    path = folder / BUILTIN_FILE
    print(f"{path}: {bank.hours:.2f} hours above the gate, {path.stat().st_size / 1e6:.1f} MB")
