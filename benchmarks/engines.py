"""What a window costs with each engine, against what one would write with transformers.

The reference is `ClapFeatureExtractor` (all that `ClapProcessor` does with sound) and
`ClapModel.get_audio_features`, a window at a time, in float32. All are measured in turn, several rounds in
one run, so that what else the machine does meets them alike: compare shares, which are taken within a round.
Without a checkpoint the tower has random weights in the configuration of laion/clap-htsat-fused, which says
how fast it is and little about how exact.

    .venv/server/bin/python -m benchmarks.engines [--checkpoint DIR] [--rounds N] [--builtin]
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, PreTrainedTokenizerFast

from benchmarks.report import write
from clap_server.clap import threads
from clap_server.clap.builtin import FOLDER as BUILTIN
from clap_server.clap.builtin.model import build_towers
from clap_server.clap.engines import processor
from clap_server.clap.engines.checks import calibration_sounds, check_sounds, nearness
from clap_server.clap.engines.kinds import KINDS
from clap_server.clap.engines.tower import AudioTower, load_checkpoint
from clap_server.clap.huggingface import HuggingFaceClap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from clap_server.clap.engines.engine import Engine

    Windows = Sequence[NDArray[np.float32]]

REFERENCE = "transformers"


def write_checkpoint(folder: Path) -> Path:
    """Write HTSAT-tiny with random weights, beside a small text tower."""
    torch.manual_seed(7)
    # transformers' defaults for sound are those of LAION's checkpoints.
    config = ClapConfig(
        text_config={"num_hidden_layers": 1}, audio_config={"enable_fusion": True, "fusion_type": "aff_2d"}
    )
    model: Any = ClapModel(config)
    model.eval()
    # Fresh batch normalisation has running statistics of 0 and 1; real input is around -50 dB.
    norm = model.audio_model.audio_encoder.batch_norm
    norm.running_mean.fill_(-50.0)
    norm.running_var.fill_(400.0)
    model.save_pretrained(folder)
    ClapFeatureExtractor(frequency_min=50, truncation="fusion").save_pretrained(folder)
    wrap: Any = PreTrainedTokenizerFast
    wrap(tokenizer_object=Tokenizer.from_file(str(BUILTIN / "tokenizer.json"))).save_pretrained(folder)
    return folder


def reference(folder: Path) -> Callable[[Windows], object]:
    """What one would write, a window at a time."""
    extractor = ClapFeatureExtractor.from_pretrained(folder)
    model: Any = ClapModel.from_pretrained(folder)
    model.eval()

    def embed(windows: Windows) -> None:
        for window in windows:
            with torch.inference_mode():
                inputs = extractor([window], sampling_rate=extractor.sampling_rate, return_tensors="pt")
                model.get_audio_features(**inputs)

    return embed


def contenders(
    model: HuggingFaceClap, checkpoint: Path, folder: Path, wanted: Sequence[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Engines by name, each with all that it computes of a window; and why others are not among them."""
    engines: dict[str, Any] = {}
    reasons = {}
    calibration = model.features(calibration_sounds(model.sample_rate, model.window_s))
    for kind in KINDS:
        if wanted and kind.name not in wanted:
            continue
        problem = None if wanted else kind.missing(model.device)
        if problem is not None:
            reasons[kind.name] = problem
            continue
        (folder / kind.name).mkdir()
        # Each has a tower of its own: exporting changes it.
        source = replace(
            model.subject.source(folder / kind.name),
            tower=lambda: AudioTower(load_checkpoint(checkpoint, "checkpoint")).to(model.device),
            calibration=calibration if kind.dtype == "int8" else calibration[:0],
        )
        print(f"making {kind.name}")
        engines[kind.name] = kind.build(source)
    return engines, reasons


def measure(
    contestants: dict[str, Callable[[Windows], object]], windows: Windows, rounds: int
) -> dict[str, list[float]]:
    """Milliseconds a window of each, by round."""
    took: dict[str, list[float]] = {name: [] for name in contestants}
    for embed in contestants.values():
        embed(windows)
    for _ in range(rounds):
        for name, embed in contestants.items():
            started = time.perf_counter()
            embed(windows)
            took[name].append((time.perf_counter() - started) * 1000 / len(windows))
    return took


def measure_builtin(folder: Path, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """The built-in model's audio tower on one thread, by PyTorch as it runs and by the other libraries."""
    import onnxruntime
    import openvino

    config = json.loads((BUILTIN / "config.json").read_text("utf-8"))
    tower = build_towers(config)[0].eval().requires_grad_(requires_grad=False)
    tower.fuse()
    tower.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
    frames = int(config["window_s"] * 100) + 1
    mels = np.random.default_rng(0).normal(-50, 20, (4, frames, 64)).astype(np.float32)
    path = folder / "builtin.onnx"
    axes = {"mel": {0: "windows"}, "embedding": {0: "windows"}}
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.zeros(2, frames, 64)
        torch.onnx.export(
            tower,
            (example,),
            str(path),
            dynamo=False,
            input_names=["mel"],
            output_names=["embedding"],
            dynamic_axes=axes,
        )
    request = (
        openvino.Core()
        .compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})
        .create_infer_request()
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def in_torch(rows: Windows) -> None:
        threads.use_threads(1)
        with torch.inference_mode():
            tower(torch.from_numpy(np.asarray(rows)))

    return compare(
        measure(
            {
                "torch": in_torch,
                "openvino": lambda rows: request.infer([np.asarray(rows)]),
                "onnxruntime": lambda rows: session.run(None, {"mel": np.asarray(rows)}),
            },
            list(mels),
            rounds * 10,
        ),
        "torch",
    )


def run(model: HuggingFaceClap, engine: Engine, windows: Windows) -> object:
    """All that an engine's users compute of sound."""
    return engine.embed(model.features(windows))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, and between what half of the rounds lie."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {"median": round(float(middle), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def compare(took: dict[str, list[float]], measure_of_all: str) -> dict[str, dict[str, dict[str, float]]]:
    """Milliseconds and the share of what the measure of all takes in the same round."""
    base = np.array(took[measure_of_all])
    return {
        name: {"ms_a_window": spread(values), "share": spread(list(np.array(values) / base))}
        for name, values in took.items()
    }


def lines_of(title: str, found: dict[str, dict[str, dict[str, float]]], notes: dict[str, str]) -> list[str]:
    """A table."""
    lines = [
        f"\n## {title}\n",
        "| | ms a window | share of the first's time (half of the rounds) | |",
        "|---|---|---|---|",
    ]
    for name, figures in found.items():
        ms, share = figures["ms_a_window"], figures["share"]
        shares = f"{share['median']:.3f} ({share['low']:.3f} to {share['high']:.3f})"
        lines.append(f"| {name} | {ms['median']:.1f} | {shares} | {notes.get(name, '')} |")
    return lines


def main() -> None:
    """Run and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, help="folder; HTSAT-tiny with random weights if left out")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--engines", nargs="*", default=[], help="all that suit this machine if left out")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--builtin", action="store_true", help="the built-in model's audio tower too")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    lines: list[str] = []
    with TemporaryDirectory() as temporary:
        work = Path(temporary)
        checkpoint = arguments.checkpoint or write_checkpoint(work / "checkpoint")
        model = HuggingFaceClap(
            checkpoint, name="checkpoint", device=arguments.device, cache_dir=work / "cache"
        )
        (work / "engines").mkdir()
        engines, reasons = contenders(model, checkpoint, work / "engines", arguments.engines)
        checks = model.features(check_sounds(model.sample_rate, model.window_s))
        expected = model.embed_audio(check_sounds(model.sample_rate, model.window_s))
        near = {name: nearness(engine.embed(checks), expected) for name, engine in engines.items()}
        notes = {
            name: f"cosine {value.cosine:.4f}, deviation {value.deviation:.3f}"
            + (", refused" if value.problem else "")
            for name, value in near.items()
        }
        plain = reference(checkpoint)
        for size in arguments.batches:
            sounds = check_sounds(model.sample_rate, model.window_s)
            windows = [sounds[number % len(sounds)] for number in range(size)]
            contestants: dict[str, Callable[[Windows], object]] = {REFERENCE: plain}
            contestants["features alone"] = model.features
            for name, engine in engines.items():
                contestants[name] = partial(run, model, engine)
            found = compare(measure(contestants, windows, arguments.rounds), REFERENCE)
            figures[f"batches of {size}"] = found
            lines += lines_of(f"Batches of {size}", found, notes)
        if arguments.builtin:
            found = measure_builtin(work, arguments.rounds)
            figures["built-in tower"] = found
            lines += lines_of("The built-in model's audio tower, batches of 4, from features on", found, {})
    figures["not measured"] = reasons
    figures["nearness"] = {
        name: {
            "cosine": round(value.cosine, 6),
            "deviation": round(value.deviation, 4),
            "problem": value.problem,
        }
        for name, value in near.items()
    }
    lines += [
        f"\nNot measured: {'; '.join(f'{name}, {reason}' for name, reason in reasons.items()) or 'none'}."
    ]
    parameters = {
        "checkpoint": str(arguments.checkpoint or "HTSAT-tiny, random weights"),
        "window_s": model.window_s,
        "rounds": arguments.rounds,
        "processor": processor.description(),
        "bfloat16": processor.multiplies_bfloat16(),
        "int8": processor.multiplies_int8(),
    }
    write("engines", arguments.device, parameters, figures, "\n".join(lines))


if __name__ == "__main__":
    main()
