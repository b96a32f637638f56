"""Step ``crossvalidate``: a model for each fold, judged on the sources that it never heard.

Everything is chosen by this; the weights that ship are then trained on all folds, with the same settings.
Each model has a bank of everyday sound of its own, without the sources that it is judged on, so that its
scores are rates like those of the weights that ship.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING

from tqdm import tqdm

from clap_evaluation.conditions import place, score_placements
from clap_evaluation.manifest import NEGATIVE, Occurrence, read_manifest
from clap_evaluation.scored import ScoredRecording, score
from clap_server import synthesis
from clap_server.audio.decode import decode
from clap_server.detection.everyday.preparing import BUILTIN_FILE
from clap_server.detection.library import load_library
from clap_server.detection.scoring import LabelScorer
from clap_server.synthesis import mix_at
from training.concepts import load_concepts
from training.data import read_recordings
from training.distil import distilled
from training.everyday import everyday_rows, load_with_bank, write_bank
from training.export import write_manifest, write_model
from training.homes import ACTIVITIES, STRETCH_S, Homes, by_camera, endless
from training.prepare import seeded
from training.rooms import load_rooms
from training.train import Trainer, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from clap_server.clap.model import ClapModel
    from training.config import Config
    from training.data import Recording
    from training.rooms import Rooms

# The labels of the manifest of recordings, which are all in the library.
LABELS = (
    "glass_breaking",
    "alarm",
    "explosion_gunshot",
    "fighting_shouting",
    "metal_impact",
    "dog_bark",
    "baby_cry",
    "doorbell",
    "door_knock",
)
CLEAN, STRANGE = "clean", "strange"
SCORES, PLACED, HOMES = "scores.pickle", "placed.pickle", "homes.pickle"
BANK = f"model/{BUILTIN_FILE}"
STRANGE_ROOMS = "strange_rooms.npz"
_AROUND_S = 1.0
_SNR_DB = (0.0, 20.0)
_OTHER_SEED = 1000
_LONGEST_S = 30.0
# Of each label and fold that are placed over other sounds and at distances.
_PLACED_CLIPS = 20
_STEADY_S = 4.0


class Strange:
    """Plays recordings in rooms, amid backgrounds and through microphones that the training does not know.

    Args:
        runs: keeps the bank of rooms.
        rooms: how many.
        seed: decides them; must not be that of the training.
        sample_rate: of the recordings, in Hz.
        backgrounds: samples of steady sounds of the same held-out sources.
    """

    def __init__(
        self,
        runs: Path,
        rooms: int,
        seed: int,
        sample_rate: int,
        backgrounds: Sequence[NDArray[np.float32]],
    ) -> None:
        self._rooms: Rooms = load_rooms(runs / STRANGE_ROOMS, seed, rooms, sample_rate)
        self._rate, self._backgrounds = sample_rate, backgrounds

    def play(self, samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """Play ``(n,)`` samples 1 s into a background that goes on for 1 s after them, at 0 to 20 dB SNR."""
        wet = self._rooms.play(samples, int(rng.integers(len(self._rooms.responses))))
        background = self._backgrounds[int(rng.integers(len(self._backgrounds)))]
        count = len(samples) + 2 * round(_AROUND_S * self._rate)
        amid = endless(background, count, rng)
        return by_camera(mix_at(amid, wet, _AROUND_S, rng.uniform(*_SNR_DB), self._rate), self._rate)


def results_of_folds(config: Config, runs: Path, name: str) -> list[Path]:
    """The files of one name of all folds, in their order.

    Raises:
        SystemExit: a fold has none yet.
    """
    paths = [runs / f"fold-{fold}" / name for fold in range(len(config.split.folds))]
    missing = [fold for fold, path in enumerate(paths) if not path.is_file()]
    if missing:
        options = "".join(f" --fold {fold}" for fold in missing)
        raise SystemExit(
            f"{runs} lacks {name} of fold {', '.join(map(str, missing))}:"
            f" run `python -m training crossvalidate{options}` first."
        )
    return paths


def held_out_recordings(config: Config, data: Path, fold: int | None) -> list[Recording]:
    """The judged recordings of a fold's sources; of those that are never trained on if it is None."""
    return load_concepts().judged(read_recordings(data, config.split), fold)


def _listener(folder: Path) -> tuple[ClapModel, LabelScorer]:
    """A fold's model, and what scores all labels of the library with it."""
    model, library = load_with_bank(folder), load_library()
    return model, LabelScorer(model, library.described, library.background)


def _clips(data: Path, rows: Sequence[Recording], sample_rate: int) -> dict[str, NDArray[np.float32]]:
    """Samples of recordings by file, at most ``_LONGEST_S`` of each."""
    return {row.file: decode(data / row.file, sample_rate)[: int(_LONGEST_S * sample_rate)] for row in rows}


def _backgrounds(
    config: Config, rows: Sequence[Recording], clips: Mapping[str, NDArray[np.float32]], sample_rate: int
) -> list[NDArray[np.float32]]:
    """The steady ones among recordings; noise if there are none."""
    concepts = load_concepts()
    steady = {concept.name for concept in concepts.all if concept.background}
    # A short one would have to be repeated, and each seam is a bang.
    found = [
        clips[row.file]
        for row in rows
        if concepts.of_recording(row) in steady
        and len(clips[row.file]) >= _STEADY_S * sample_rate
        and clips[row.file].any()
    ]
    return found or [synthesis.noise(seeded(config.seed, "background"), sample_rate, duration_s=4.0)]


def score_held_out(
    config: Config, data: Path, runs: Path, folder: Path, fold: int | None
) -> dict[str, list[ScoredRecording]]:
    """Score the held-out recordings as they are and as a strange room and microphone make them.

    Args:
        config: seed and folds.
        data: the recordings.
        runs: keeps the strange rooms.
        folder: of the model and its bank.
        fold: whose recordings.

    Returns:
        For ``clean`` and ``strange`` the recordings with the scores of all windows.
    """
    model, scorer = _listener(folder)
    rate = model.sample_rate
    rows = held_out_recordings(config, data, fold)
    clips = _clips(data, rows, rate)
    backgrounds = _backgrounds(config, rows, clips, rate)
    strange = Strange(runs, config.crossvalidation.rooms, config.seed + _OTHER_SEED, rate, backgrounds)
    result: dict[str, list[ScoredRecording]] = {CLEAN: [], STRANGE: []}
    for number, row in enumerate(tqdm(rows, desc=f"held out ({fold})", mininterval=10)):
        samples = clips[row.file]
        if not samples.any():
            continue
        label = None if row.label == NEGATIVE else row.label
        whole = Occurrence(number + 2, label, None, None, row.source_repo)
        result[CLEAN].append(score(model, scorer, [samples], [whole], name=row.file))
        amid = strange.play(samples, seeded(config.seed + _OTHER_SEED, row.file))
        length_s = len(samples) / rate
        within = replace(whole, onset_s=_AROUND_S, offset_s=_AROUND_S + length_s) if label else whole
        result[STRANGE].append(score(model, scorer, [amid], [within], name=row.file))
    return result


def score_homes(
    config: Config, data: Path, runs: Path, folder: Path, fold: int | None
) -> list[ScoredRecording]:
    """Score ``home_minutes`` of home life that is made of held-out recordings and surely holds no label.

    Args:
        config: seed, folds and how much.
        data: the recordings.
        runs: keeps the strange rooms.
        folder: of the model and its bank.
        fold: whose recordings.

    Returns:
        The stretches with the scores of all windows; none if the fold holds nothing that a home does.
    """
    model, scorer = _listener(folder)
    rate = model.sample_rate
    rows = [row for row in held_out_recordings(config, data, fold) if row.label == NEGATIVE]
    clips = _clips(data, rows, rate)
    concepts = load_concepts()
    activities: dict[str, list[NDArray[np.float32]]] = {}
    for row in rows:
        concept = concepts.of_recording(row)
        if concept in ACTIVITIES:
            activities.setdefault(concept, []).append(clips[row.file])
    if not activities:
        return []
    settings = config.crossvalidation
    seed = config.seed + _OTHER_SEED
    rooms = load_rooms(runs / STRANGE_ROOMS, seed, settings.rooms, rate)
    homes = Homes(activities, _backgrounds(config, rows, clips, rate), rooms, rate)
    result = []
    for number in tqdm(
        range(round(settings.home_minutes * 60 / STRETCH_S)), desc=f"homes ({fold})", mininterval=10
    ):
        name = f"home/{fold}/{number}"
        nothing = Occurrence(number + 2, None, None, None, "homes")
        result.append(score(model, scorer, [homes.stretch(seeded(seed, name))], [nothing], name=name))
    return result


def crossvalidate(
    config: Config,
    data: Path,
    backgrounds: Path,
    teacher: Path,
    runs: Path,
    folds: Sequence[int] = (),
) -> None:
    """Train and judge a model for each fold; what is finished is kept.

    Args:
        config: of the training; ``crossvalidation.steps`` steps for each fold.
        data: the recordings.
        backgrounds: those of everyday sound.
        teacher: folder of the audio teacher.
        runs: gets a folder for each fold.
        folds: only these, so that several processes can share the work; all if empty.
    """
    steps, train = config.crossvalidation, config.train
    parts = {
        "steps": steps.steps,
        "finish": train.finish.model_copy(update={"steps": steps.finish_steps}),
        "polish": train.polish.model_copy(update={"steps": steps.polish_steps}),
        "everyday": train.everyday.model_copy(update={"steps": steps.everyday_steps}),
        "steady": train.steady.model_copy(update={"steps": steps.steady_steps}),
        "settle": train.settle.model_copy(update={"steps": steps.settle_steps}),
    }
    shorter = config.model_copy(
        update={
            "train": train.model_copy(update=parts),
            "distil": config.distil.model_copy(update={"steps": steps.distil_steps}),
        }
    )
    for fold in folds or range(len(config.split.folds)):
        if all((runs / f"fold-{fold}" / name).is_file() for name in (BANK, SCORES, HOMES, PLACED)):
            print(f"fold {fold} is done already; remove {runs / f'fold-{fold}'} to make it anew")
        else:
            _hold_out(shorter, data, backgrounds, teacher, runs, fold)


def score_conditions(
    config: Config, data: Path, folder: Path, fold: int | None
) -> dict[tuple[str, str], list[ScoredRecording]]:
    """Score held-out sounds that are placed over other held-out sounds and at distances.

    Args:
        config: folds.
        data: the recordings.
        folder: of the model and its bank, which gets the manifest of the recordings.
        fold: whose recordings.

    Returns:
        As ``score_placements`` of the evaluation.
    """
    library = load_library()
    labels = [library.resolve(name) for name in LABELS]
    manifest = folder / "held_out.csv"
    write_manifest(held_out_recordings(config, data, fold), data, manifest)
    placements = place(read_manifest(manifest, library), LABELS, clips_per_label=_PLACED_CLIPS)
    with tqdm(desc=f"placed ({fold})", total=len(placements), mininterval=10) as bar:
        return score_placements(
            load_with_bank(folder), placements, labels, library.background, progress=bar.update
        )


def _keep(what: object, path: Path) -> None:
    """Write a result whole or not at all."""
    with path.with_suffix(".part").open("wb") as out:
        pickle.dump(what, out)
    path.with_suffix(".part").replace(path)


def _hold_out(config: Config, data: Path, backgrounds: Path, teacher: Path, runs: Path, fold: int) -> None:
    """Train and judge the model of one fold; what is finished is kept."""

    def log(line: str) -> None:
        print(f"fold {fold}: {line}", flush=True)

    folder = runs / f"fold-{fold}"
    model = folder / "model"
    if not (folder / BANK).is_file():
        for other in (SCORES, HOMES, PLACED):
            (folder / other).unlink(missing_ok=True)  # of another model, or another bank
        rows = everyday_rows(config, data, backgrounds, fold)
        run(Trainer(config, data, runs, log, fold))
        state = distilled(config, data, backgrounds, teacher, runs, log, fold)
        write_model(config, state, runs, model, {"fold": fold, "steps": config.train.all_steps})
        write_bank(model, rows, teacher)
    if not (folder / SCORES).is_file():
        _keep(score_held_out(config, data, runs, model, fold), folder / SCORES)
    if not (folder / HOMES).is_file():
        _keep(score_homes(config, data, runs, model, fold), folder / HOMES)
    if not (folder / PLACED).is_file():
        _keep(score_conditions(config, data, model, fold), folder / PLACED)
