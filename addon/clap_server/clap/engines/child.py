"""Builds one engine and times it, in a process of its own: ``python -m clap_server.clap.engines.child JOB``.

A library that crashes or hangs here takes nothing with it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clap_server.clap.engines.tower import AudioTower

BATCH = 4
"""Windows in a pass that is timed: what a home's microphones bring together."""

_PASSES = 5
_NICE = 5


def main(job_path: Path) -> None:
    """Do a job and leave the answer beside it.

    Args:
        job_path: as ``probing`` wrote it.
    """
    # A model listens meanwhile.
    os.nice(_NICE)
    job = json.loads(job_path.read_text("utf-8"))
    # First of all: what breaks is rather a library than the rest.
    code = importlib.import_module(job["module"])
    answer = Path(job["answer"])
    try:
        answer.write_text(json.dumps(_measured(job, code)), "utf-8")
    except Exception as error:
        lines = str(error).strip().splitlines()
        answer.write_text(json.dumps({"problem": lines[0] if lines else type(error).__name__}), "utf-8")
        raise


def _measured(job: dict[str, Any], code: Any) -> dict[str, Any]:
    import numpy as np
    import torch

    from clap_server.clap.engines.engine import Source

    with np.load(job["sounds"], allow_pickle=False) as sounds:
        checks = torch.from_numpy(sounds["checks"])
        calibration = torch.from_numpy(sounds["calibration"])
    torch.set_num_threads(job["threads"])
    device = job["device"]
    source = Source(
        tower=lambda: _tower(job),
        device=device,
        frames=checks.shape[2],
        mels=checks.shape[3],
        threads=job["threads"],
        folder=Path(job["folder"]),
        calibration=calibration,
    )
    engine = code.build(source, job["name"], job["dtype"])
    # One by one and together, so that an engine that mixes up a batch is found out.
    half = len(checks) // 2
    rows = [engine.embed(checks[number : number + 1].to(device)) for number in range(half)]
    rows.append(engine.embed(checks[half:].to(device)))
    np.save(job["embeddings"], np.concatenate(rows), allow_pickle=False)
    batch = checks[:BATCH].to(device)
    engine.embed(batch)
    took = []
    for _ in range(_PASSES):
        started = time.perf_counter()
        engine.embed(batch)
        took.append(time.perf_counter() - started)
    engine.close()
    # The least disturbed pass; others say how busy the machine was.
    return {"ms_a_window": min(took) * 1000 / BATCH}


def _tower(job: dict[str, Any]) -> AudioTower:
    from clap_server.clap.engines.tower import AudioTower, load_checkpoint

    return AudioTower(load_checkpoint(Path(job["checkpoint"]), job["checkpoint"])).to(job["device"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
