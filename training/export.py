"""Step ``export``: the files of the built-in model, and the manifest of what it never heard."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from clap_server.clap.builtin.model import CONFIG, TOKENIZER, WEIGHTS
from clap_server.clap.builtin.text_tower import load_tokenizer
from training.attribution import FILE as ATTRIBUTION
from training.attribution import of_training
from training.concepts import load_concepts
from training.data import ROOM_RESPONSE, heard_backgrounds, read_recordings
from training.distil import FOLDER as DISTILLED
from training.found import FILE as FOUND
from training.text import text_settings
from training.train import CHECKPOINT
from training.writing import replace_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from training.config import Config
    from training.data import Recording


def write_manifest(recordings: list[Recording], data: Path, out: Path) -> None:
    """Write recordings as ``clap-server evaluate`` reads them."""
    with out.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["file", "label", "group"])
        for row in recordings:
            writer.writerow([os.path.relpath(data / row.file, out.parent), row.label, row.source_repo])


def export(config: Config, data: Path, backgrounds: Path, runs: Path, folder: Path) -> None:
    """Write weights, tokenizer, configuration, what is found in tests and attribution into the package.

    Raises:
        SystemExit: there is no checkpoint yet, or the training is not over.
    """
    checkpoint = runs / DISTILLED / CHECKPOINT
    if not checkpoint.is_file():
        raise SystemExit(f"{runs} has no distilled model: run the steps before export first.")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    steps = config.distil.steps + config.distil.settle.steps
    if state["step"] < steps:
        raise SystemExit(
            f"{checkpoint}: it was interrupted at step {state['step']} of {steps}:"
            " run `python -m training distil` to finish it."
        )
    recordings = read_recordings(data, config.split)
    common = read_recordings(backgrounds, config.split)
    everyday_sound = heard_backgrounds(common, config.split)
    rooms = [row for row in common if row.label == ROOM_RESPONSE and row.fold is not None]
    parts = Counter(row.part for row in recordings)
    write_model(
        config,
        state["average"],
        runs,
        folder,
        {
            "seed": config.seed,
            "distilled_steps": state["step"],
            "teacher": "EfficientAT mn04_as",
            "batch": config.train.batch,
            "recordings": dict(sorted(parts.items())),
            "everyday_recordings": len(everyday_sound),
            "synthesised": sum(config.prepare.synthetic.values()),
        },
    )
    if (runs / FOUND).is_file():
        replace_text(folder / FOUND, (runs / FOUND).read_text("utf-8"))
    else:
        print(f"{folder / FOUND} is of other weights: run `python -m benchmarks.found --package` after this.")
    replace_text(folder / ATTRIBUTION, of_training([*recordings, *everyday_sound, *rooms]))
    held_out = load_concepts().judged(recordings, None)
    write_manifest(held_out, data, runs / "held_out.csv")
    print(f"{runs / 'held_out.csv'}: {len(held_out)} recordings")
    size = sum((folder / name).stat().st_size for name in (WEIGHTS, TOKENIZER, CONFIG))
    print(f"{folder}: {size / 1e6:.1f} MB")


def write_model(
    config: Config,
    state: Mapping[str, torch.Tensor],
    runs: Path,
    folder: Path,
    training: Mapping[str, Any],
) -> None:
    """Write what ``BuiltinClap`` loads.

    Args:
        config: sizes.
        state: of a ``Trainee``.
        runs: holds the tokenizer.
        folder: is made if it is not there.
        training: how it came to be; kept for people.
    """
    weights = {
        name: value.half().contiguous()
        for name, value in state.items()
        if name.startswith(("audio.", "text.")) and not name.endswith("num_batches_tracked")
    }
    tokenizer = load_tokenizer(runs / "text" / "tokenizer.json", config.text.max_tokens)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "sample_rate": config.features.sample_rate,
        "window_s": config.features.window_s,
        "audio": {"channels": list(config.model.channels), "dimension": config.model.dimension},
        "text": text_settings(config, tokenizer.get_vocab_size()),
        "training": dict(training),
    }
    # All are written before the first is replaced, so that an interruption leaves no mixture.
    new = {name: folder / f"{name}.new" for name in (WEIGHTS, TOKENIZER, CONFIG)}
    save_file(weights, new[WEIGHTS])
    new[WEIGHTS].chmod(0o644)  # it is written readable by its owner alone
    shutil.copyfile(runs / "text" / "tokenizer.json", new[TOKENIZER])
    new[CONFIG].write_text(json.dumps(settings, indent=1) + "\n", "utf-8")
    for name, path in new.items():
        path.replace(folder / name)
