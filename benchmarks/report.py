"""What every benchmark writes: figures with the date and the hardware they come from."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).resolve().parent / "results"


def hardware(device: str) -> dict[str, str | int]:
    """Name what the figures depend on.

    Args:
        device: as torch names it.
    """
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        processor = names[0] if names else processor
    facts: dict[str, str | int] = {
        "cpu": processor,
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
    }
    if device.startswith("cuda"):
        facts["gpu"] = torch.cuda.get_device_name(torch.device(device))
    return facts


def write(
    benchmark: str, device: str, parameters: dict[str, Any], figures: dict[str, Any], table: str
) -> None:
    """Write ``results/<benchmark>-<date>[-<model>]-<device>.json`` and the same as Markdown; print that.

    Args:
        benchmark: its name.
        device: it ran on, as torch names it.
        parameters: it ran with; ``model`` among them if there is one.
        figures: what it measured.
        table: the figures for people, in Markdown.
    """
    date = datetime.now(UTC).date().isoformat()
    facts = hardware(device)
    content = {
        "benchmark": benchmark,
        "date": date,
        "hardware": facts,
        "parameters": parameters,
        "figures": figures,
    }
    on = ", ".join(f"{name} {value}" for name, value in facts.items())
    used = ", ".join(f"{name} {value}" for name, value in parameters.items())
    text = f"# {benchmark}, {date}\n\nOn {on}; {used}.\n\n{table}\n"
    model = [str(parameters["model"]).replace("/", "_")] if "model" in parameters else []
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / "-".join([benchmark, date, *model, device.replace(":", "")])
    stem.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n")
    stem.with_suffix(".md").write_text(text)
    print(text)
