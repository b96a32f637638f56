"""Step ``everyday``: the built-in model's bank of everyday sound.

It holds what no alarm should come of: those recordings of everyday sound that no training step sees. Counted
on what was trained on, a promise would be too good. What is share-alike stays out of it, so that promises can
be checked there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from clap_evaluation.manifest import NEGATIVE
from clap_evaluation.reading import read_blocks
from clap_server.audio.decode import decode
from clap_server.clap.builtin.model import BuiltinClap
from clap_server.clap.everyday import EverydayBank, Piece
from clap_server.detection.everyday.making import BankMaker
from clap_server.detection.everyday.preparing import BUILTIN_FILE, model_key
from clap_server.detection.library import load_library
from clap_server.errors import ModelError
from training.attribution import EVERYDAY_FILE, of_everyday_sound
from training.concepts import OTHER, load_concepts
from training.data import heard_backgrounds, read_recordings
from training.teacher import SAMPLE_RATE, WINDOW_S, Teacher, read_classes
from training.writing import replace_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
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
# Somebody talks, or music plays, in many a recording that is named after something else. The teacher tells
# both well; logits above 0 are more likely than not.
_HEARD = {"speech": "Speech", "music": "Music"}
_LEAST_SAMPLES = 2000


def heard_besides(teacher: Teacher, classes: Sequence[str], path: Path) -> frozenset[str]:
    """The labels of ``_HEARD`` that the audio teacher surely hears in a recording.

    Raises:
        AudioError: it cannot be read.
    """
    samples = decode(path, SAMPLE_RATE)
    step = round(WINDOW_S * SAMPLE_RATE)
    parts = [samples[first : first + step] for first in range(0, len(samples), step)]
    logits = [teacher.logits(part, SAMPLE_RATE) for part in parts if len(part) > _LEAST_SAMPLES]
    best = np.max(logits, axis=0, initial=-np.inf)
    return frozenset(label for label, name in _HEARD.items() if best[classes.index(name)] > 0)


def piece(recording: Recording, heard: frozenset[str] = frozenset()) -> Piece:
    """What a recording holds: for the library's labels, and in words.

    Args:
        recording: of the manifest.
        heard: labels that it holds besides what its names say.
    """
    concepts = load_concepts()
    known = {label.id for label in load_library().labels}
    concept = concepts.of_recording(recording)
    kinds = _KINDS.get(recording.file.partition("/")[0], ())
    holds = {*kinds, *heard}
    if concept is not None and concept != OTHER:
        said = zip(concepts.all, concepts.targets(concept), strict=True)
        holds |= {other.name for other, target in said if target != 0}
    names = (
        recording.fine_label,
        *kinds,
        *sorted(heard),
        *((concept,) if concept not in {None, OTHER} else ()),
    )
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
        held_out: a fold of whose sources nothing may be; None for the bank that ships.

    Returns:
        Each with the folder that its file is in.

    Raises:
        SystemExit: there are no recordings of everyday sound, or a manifest cannot be used.
    """
    recordings = read_recordings(data, config.split)
    sources = {row.source_repo for row in recordings if held_out is not None and row.fold == held_out}
    everyday_sound = read_recordings(backgrounds, config.split)
    heard = {row.file for row in heard_backgrounds(everyday_sound, config.split)}
    kept = [
        row
        for row in everyday_sound
        if row.label == NEGATIVE
        and row.fold is not None
        and row.file not in heard
        and row.source_repo not in sources
    ]
    if not kept:
        raise SystemExit(
            f"{backgrounds} has no recordings of everyday sound: name their folder with --backgrounds."
        )
    return [(backgrounds, row) for row in kept]


def pieces(rows: Sequence[tuple[Path, Recording]], teacher: Path) -> Iterator[Piece]:
    """What recordings hold, by their names and by what the audio teacher surely hears.

    Raises:
        SystemExit: the teacher is missing.
        AudioError: a recording cannot be read.
    """
    listener, classes = Teacher(teacher), read_classes(teacher)
    for root, row in rows:
        yield piece(row, heard_besides(listener, classes, root / row.file))


def write_bank(folder: Path, rows: Sequence[tuple[Path, Recording]], teacher: Path) -> EverydayBank:
    """Write ``everyday.npz`` beside a model's weights.

    Args:
        folder: of the model (see ``write_model``).
        rows: of ``everyday_rows``.
        teacher: folder of the audio teacher.

    Returns:
        The same bank.
    """
    model = BuiltinClap(folder, "cpu")
    maker = BankMaker(model)
    held = pieces(rows, teacher)
    for (root, row), what in zip(tqdm(rows, desc="everyday sound", mininterval=10), held, strict=True):
        maker.add(read_blocks(root / row.file, model.sample_rate), what)
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


def everyday(config: Config, data: Path, backgrounds: Path, teacher: Path, folder: Path) -> None:
    """Write ``everyday.npz`` beside the weights, and who made what it comes from.

    Args:
        config: says what is never trained on.
        data: the recordings of the training.
        backgrounds: those of everyday sound.
        teacher: folder of the audio teacher.
        folder: of the weights; gets the bank.

    Raises:
        SystemExit: there are no recordings of everyday sound, or a manifest cannot be used.
    """
    rows = everyday_rows(config, data, backgrounds)
    bank = write_bank(folder, rows, teacher)
    replace_text(folder / EVERYDAY_FILE, of_everyday_sound(row for _, row in rows))
    path = folder / BUILTIN_FILE
    print(f"{path}: {bank.hours:.2f} hours above the gate, {path.stat().st_size / 1e6:.1f} MB")
