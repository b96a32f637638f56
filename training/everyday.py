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
from clap_server.clap.builtin import load_builtin
from clap_server.clap.everyday import Piece
from clap_server.detection.everyday.making import BankMaker
from clap_server.detection.everyday.preparing import BUILTIN_FILE, model_key
from clap_server.detection.library import load_library
from training.concepts import OTHER, load_concepts
from training.data import read_recordings

if TYPE_CHECKING:
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


def everyday(config: Config, data: Path, backgrounds: Path, folder: Path) -> None:
    """Write ``everyday.npz`` beside the weights.

    Args:
        config: says what is never trained on.
        data: the recordings of the training.
        backgrounds: those of everyday sound.
        folder: of the weights; gets the bank.

    Raises:
        SystemExit: there are no recordings of everyday sound.
    """
    rows = [
        (root, row)
        for root in (backgrounds, data)
        for row in read_recordings(root, config.split)
        if row.label == NEGATIVE and row.fold is not None
    ]
    if not any(root == backgrounds for root, _ in rows):
        raise SystemExit(f"{backgrounds} has no recordings of everyday sound: name their folder.")
    model = load_builtin("cpu", folder)
    maker = BankMaker(model)
    for root, row in tqdm(rows, desc="everyday sound", mininterval=10):
        maker.add(read_blocks(root / row.file, model.sample_rate), piece(row))
    bank = maker.bank(model_key(model), f"{len(rows)} recordings")
    path = folder / BUILTIN_FILE
    bank.save(path)
    print(f"{path}: {bank.hours:.2f} hours above the gate, {path.stat().st_size / 1e6:.1f} MB")
