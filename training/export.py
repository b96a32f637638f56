"""Step ``export``: the files of the built-in model, and the manifests of what it never heard."""

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
from training.concepts import load_concepts
from training.data import read_recordings
from training.text import text_settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from training.config import Config
    from training.data import Recording

_ATTRIBUTION_HEAD = """# Recordings that the built-in model was trained on

Made by `python -m training export` from the manifest of the recordings. None of them is in this package; the
weights were fitted to them. For the training the sounds were changed: resampled, cut, mixed
and played in simulated rooms. Clips under a share-alike licence were not used for training. The text tower
was distilled from all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0), whose word pieces it keeps; both
towers had the scores of YAMNet (Google, Apache-2.0) and the names of its classes as an auxiliary target.

The licences: [CC0-1.0](https://creativecommons.org/publicdomain/zero/1.0/),
[CC-BY-2.0](https://creativecommons.org/licenses/by/2.0/),
[CC-BY-3.0](https://creativecommons.org/licenses/by/3.0/),
[CC-BY-4.0](https://creativecommons.org/licenses/by/4.0/) and
[Apache-2.0](https://www.apache.org/licenses/LICENSE-2.0). Where no version is named, the source names none.

"""
# If the manifest's author is a link or a list of files: repository, how that begins, a piece of the path and
# whom the source's own lists (sources.md, planet/Sound.ocg/authors.txt) name.
_CREDITED = (
    ("AntumMT/mod-sounds", "[", "gorilla_", "Anton Baotic, Florian Sicks, Angela S. Stoeger"),
    ("AntumMT/mod-sounds", "[", "hyena_", "N. Mathevon, A. Koralek, M. Weldele, S. Glickman, F. Theunissen"),
    ("AntumMT/mod-sounds", "[", "piano", "Scott Joplin, Tim Starling"),
    ("openclonk/openclonk", "Confirm1", "/Farmer.ocg/Die", "Clonkonaut"),
    ("openclonk/openclonk", "Confirm1", "/Farmer.ocg/Hurt", "bennychico11"),
    ("openclonk/openclonk", "Confirm1", "", "ala"),
    ("openclonk/openclonk", "Die1-5", "", "ala"),
    ("openclonk/openclonk", "Chirp", "", "ala"),
    ("openclonk/openclonk", "Structures/DoorOpen", "", "ala"),
    ("openclonk/openclonk", "Structures/Repair", "", "ala, after JoelAudio and cmusounddesign"),
    ("openclonk/openclonk", "DiamondDigOut", "", "Sven2"),
    ("openclonk/openclonk", "Winbag/", "", "Ringwaul"),
)


def _attribution(recordings: list[Recording]) -> str:
    """One line for each author's clips of one source and licence."""
    used = [row for row in recordings if row.part == "train"]
    groups: dict[tuple[str, str, str], list[str]] = {}
    for row in used:
        groups.setdefault((row.source_repo, row.licence, _name(row)), []).append(row.source_path)
    lines = [_ATTRIBUTION_HEAD]
    repo_before = ""
    for (repo, licence, author), paths in sorted(groups.items()):
        if repo != repo_before:
            lines.append(f"\n## https://github.com/{repo}\n\n")
            repo_before = repo
        lines.append(f"- {author} ({licence}): {', '.join(sorted(paths))}\n")
    return "".join(lines)


def _name(row: Recording) -> str:
    """The author as text."""
    for repo, author, piece, name in _CREDITED:
        if row.source_repo == repo and row.author.startswith(author) and piece in row.source_path:
            return name
    return "named in the source's own list" if "](" in row.author else row.author or "unnamed"


def _replace(path: Path, text: str) -> None:
    """Write a text whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, "utf-8")
    new.replace(path)


def write_manifest(recordings: list[Recording], data: Path, out: Path) -> None:
    """Write recordings as ``clap-server evaluate`` reads them."""
    with out.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["file", "label", "group"])
        for row in recordings:
            writer.writerow([os.path.relpath(data / row.file, out.parent), row.label, row.source_repo])


def export(config: Config, data: Path, runs: Path, folder: Path) -> None:
    """Write weights, tokenizer, configuration and attribution into the package.

    Raises:
        SystemExit: there is no checkpoint or no calibration yet, or the training is not over.
    """
    checkpoint, calibration_path = runs / "checkpoint.pt", runs / "calibration.json"
    if not checkpoint.is_file() or not calibration_path.is_file():
        raise SystemExit(f"{runs} has no trained and calibrated model: run the steps before export first.")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if state["step"] < config.train.all_steps:
        raise SystemExit(
            f"{checkpoint}: training was interrupted at step {state['step']} of {config.train.all_steps}:"
            " run `python -m training train` to finish it."
        )
    calibration = json.loads(calibration_path.read_text("utf-8"))
    recordings = read_recordings(data, config.split)
    parts = Counter(row.part for row in recordings)
    write_model(
        config,
        state["average"],
        runs,
        folder,
        {"scale": calibration["scale"], "bias": calibration["bias"]},
        {
            "seed": config.seed,
            "steps": state["step"],
            "batch": config.train.batch,
            "recordings": dict(sorted(parts.items())),
            "synthesised": sum(config.prepare.synthetic.values()),
            "validation": calibration["labels"],
        },
    )
    _replace(folder / "ATTRIBUTION.md", _attribution(recordings))
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
    calibration: Mapping[str, float],
    training: Mapping[str, Any],
) -> None:
    """Write what ``BuiltinClap`` loads.

    Args:
        config: sizes.
        state: of a ``Trainee``.
        runs: holds the tokenizer.
        folder: is made if it is not there.
        calibration: scale and bias.
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
        "calibration": dict(calibration),
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
