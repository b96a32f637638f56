"""Tries an engine in a process of its own."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clap_server.clap.engines.engine import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from numpy.typing import NDArray

    from clap_server.clap.engines.kinds import Kind

_LOGGER = logging.getLogger(__name__)

TIMEOUT_S = 300.0
"""For all of it: loading, exporting, quantising, compiling, timing. Some 40 s on two busy cores."""

_TELL_S = 1.0


def probe(
    kind: Kind,
    *,
    checkpoint: Path,
    device: str,
    threads: int,
    folder: Path,
    checks: torch.Tensor,
    calibration: torch.Tensor,
    tell: Callable[[str], None],
    timeout_s: float = TIMEOUT_S,
) -> tuple[float, NDArray[np.float32]]:
    """Build an engine and time it. Blocks.

    Args:
        kind: the engine.
        checkpoint: folder of the model.
        device: as torch names it.
        threads: to compute with on a CPU.
        folder: for what it exports; exists and is empty.
        checks: features to embed, ``(n, 1, frames, mels)``.
        calibration: features from which a quantisation learns, likewise; none where none is made.
        tell: called each second with a line of text. What it raises ends the trial.
        timeout_s: after which it is given up.

    Returns:
        Milliseconds a window, and ``(n, dimension)`` what it makes of ``checks``.

    Raises:
        EngineError: it cannot be had, crashed or hung; says which.
    """
    with tempfile.TemporaryDirectory(prefix="clap-engine-") as name:
        work = Path(name)
        job, answer, embeddings = work / "job.json", work / "answer.json", work / "embeddings.npy"
        np.savez(work / "sounds.npz", checks=checks.cpu().numpy(), calibration=calibration.cpu().numpy())
        job.write_text(
            json.dumps(
                {
                    "module": kind.module,
                    "name": kind.name,
                    "dtype": kind.dtype,
                    "checkpoint": str(checkpoint),
                    "device": device,
                    "threads": threads,
                    "folder": str(folder),
                    "sounds": str(work / "sounds.npz"),
                    "answer": str(answer),
                    "embeddings": str(embeddings),
                }
            ),
            "utf-8",
        )
        output = work / "output.txt"
        try:
            status = _run(
                job, output, lambda s: tell(f"Trying the engine {kind.name} ({s:.0f} s)"), timeout_s
            )
        finally:
            said = output.read_text("utf-8", errors="replace")
            if said:
                _LOGGER.debug("The trial of the engine %s wrote:\n%s", kind.name, said)
        try:
            found = json.loads(answer.read_text("utf-8"))
            if "problem" in found:
                raise EngineError(found["problem"])
            if status == 0:
                return float(found["ms_a_window"]), np.load(embeddings, allow_pickle=False)
        except (OSError, ValueError, KeyError):
            _LOGGER.debug("The trial of the engine %s left no answer", kind.name)
        raise EngineError(_cause(status, said))


def _run(job: Path, output: Path, tell: Callable[[float], None], timeout_s: float) -> int:
    started = time.monotonic()
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "clap_server.clap.engines.child", str(job)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            while True:
                try:
                    return process.wait(_TELL_S)
                except subprocess.TimeoutExpired:
                    elapsed_s = time.monotonic() - started
                    if elapsed_s > timeout_s:
                        raise EngineError(f"it was not done within {timeout_s:.0f} s") from None
                    tell(elapsed_s)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _cause(status: int, said: str) -> str:
    """Say how a process ended that left no answer."""
    lines = said.strip().splitlines()
    last = f": {lines[-1]}" if lines else ""
    if status >= 0:
        return f"it ended with status {status}{last}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"it crashed ({name}){last}"
