"""Milliseconds a window by batch size, and how many microphones that serves.

All batch sizes are measured in turn, several rounds in one run, so that what else the machine does
meets them alike; compare the ratios within a run rather than figures of two runs.

    .venv/server/bin/python -m benchmarks.throughput [--model M] [--device D] [--batches 1 2 4 8 16]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.report import write
from clap_server.clap.loader import load_model

if TYPE_CHECKING:
    from clap_server.clap.model import ClapModel


def measure(model: ClapModel, batches: list[int], rounds: int) -> dict[int, float]:
    """Median milliseconds a window, by batch size."""
    rng = np.random.default_rng(0)
    count = round(model.window_s * model.sample_rate)
    windows = [(0.1 * rng.standard_normal(count)).astype(np.float32) for _ in range(max(batches))]
    took: dict[int, list[float]] = {size: [] for size in batches}
    for size in batches:
        model.embed_audio(windows[:size])
    for _ in range(rounds):
        for size in batches:
            started = time.perf_counter()
            model.embed_audio(windows[:size])
            took[size].append((time.perf_counter() - started) / size * 1000)
    return {size: float(np.median(times)) for size, times in took.items()}


def main() -> None:
    """Run and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="builtin", help="builtin, a folder or a hub name")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--hop", type=float, default=0.5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(arguments.model, device=arguments.device, cache_dir=Path(folder), progress=print)
        took_ms = measure(model, arguments.batches, arguments.rounds)
    single_ms = took_ms[arguments.batches[0]]
    figures = {}
    lines = ["| batch | ms a window | times as fast as the first | microphones |", "|---|---|---|---|"]
    for size, ms in took_ms.items():
        faster, microphones = round(single_ms / ms, 2), int(arguments.hop * 1000 / ms)
        figures[str(size)] = {
            "ms_a_window": round(ms, 3),
            "times_as_fast": faster,
            "microphones": microphones,
        }
        lines.append(f"| {size} | {ms:.2f} | {faster} | {microphones} |")
    parameters = {
        "model": arguments.model,
        "dtype": model.dtype,
        "window_s": model.window_s,
        "hop_s": arguments.hop,
        "rounds": arguments.rounds,
    }
    write("throughput", model.device, parameters, figures, "\n".join(lines))


if __name__ == "__main__":
    main()
