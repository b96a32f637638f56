"""What is known of each engine on this machine, kept on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from clap_server.clap.engines import processor

if TYPE_CHECKING:
    from pathlib import Path

    from clap_server.clap.engines.kinds import Kind

_LOGGER = logging.getLogger(__name__)

FORMAT = 1
"""Of the files, and of the way in which engines are exported and compared."""

_RECORD = "trial.json"

# What kept an engine from computing at all may be gone then: a busy machine, too little memory, a full disk.
_FAILURE_KEPT_S = 86400.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What came out of trying an engine.

    Attributes:
        engine: its name.
        ms_a_window: milliseconds a window in batches of ``child.BATCH``; None if it did not come to that.
        cosine: see ``Nearness``.
        deviation: see ``Nearness``.
        problem: why it is not used, in words; None if it can be.
    """

    engine: str
    ms_a_window: float | None = None
    cosine: float | None = None
    deviation: float | None = None
    problem: str | None = None


class TrialStore:
    """Trials and exported graphs of one checkpoint on one device, a folder for each engine.

    A trial counts only as long as its engine, its libraries, the checkpoint and the processor are the same.
    One that failed before its embeddings could be compared counts for a day.
    What is damaged counts as absent.

    Args:
        cache_dir: in which all of this lies.
        identity: of the checkpoint's weights.
        device: as torch names it.
        device_name: what computes there: another one has other speeds.
        threads: that are computed with.
    """

    def __init__(self, cache_dir: Path, identity: str, device: str, device_name: str, threads: int) -> None:
        name = hashlib.sha256(f"{identity} {device}".encode()).hexdigest()[:16]
        self._root = cache_dir / "engines" / name
        self._common = {
            "format": FORMAT,
            "checkpoint": identity,
            "device": device_name,
            "threads": threads,
        }

    def folder(self, kind: Kind) -> Path:
        """Where an engine's graphs lie."""
        return self._root / kind.name

    def emptied(self, kind: Kind) -> Path:
        """The same folder, made and emptied.

        Raises:
            OSError: it cannot be written.
        """
        folder = self.folder(kind)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def read(self, kind: Kind, *, graphs: bool) -> Trial | None:
        """What is known of an engine; None if it has to be tried.

        Args:
            kind: the engine.
            graphs: whether what it exported has to be there too, unchanged.
        """
        folder = self.folder(kind)
        try:
            content = json.loads((folder / _RECORD).read_text("utf-8"))
            if content["key"] != self._key(kind):
                return None
            trial = Trial(**content["trial"])
            speed = trial.ms_a_window
            if trial.problem is None and (speed is None or not 0 < speed < math.inf):
                raise ValueError("an engine without a speed")
            if trial.problem is not None and trial.cosine is None and _is_old(folder / _RECORD):
                return None
            whole = not graphs or all(
                _digest(folder / name) == digest for name, digest in content["files"].items()
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _LOGGER.warning(
                "What is known of the engine %s cannot be read (%s): it is tried again", kind.name, error
            )
            return None
        if not whole:
            _LOGGER.warning("The graph of the engine %s is damaged: it is made again", kind.name)
            return None
        return trial

    def write(self, kind: Kind, trial: Trial) -> None:
        """Keep a trial with what its engine exported.

        Raises:
            OSError: it cannot be written.
        """
        folder = self.folder(kind)
        content = {
            "key": self._key(kind),
            "trial": asdict(trial),
            "files": {path.name: _digest(path) for path in sorted(folder.iterdir()) if path.is_file()},
        }
        temporary = folder / f"{_RECORD}.tmp"
        temporary.write_text(json.dumps(content, indent=2), "utf-8")
        temporary.replace(folder / _RECORD)

    def drop_graphs(self, kind: Kind) -> None:
        """Make room: keep what is known of an engine, but not what it exported."""
        for path in self.folder(kind).glob("*"):
            if path.name == _RECORD:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _key(self, kind: Kind) -> dict[str, Any]:
        return {**self._common, "engine": kind.name, "libraries": kind.versions()}


def device_name(device: str) -> str:
    """Say what computes on a device."""
    if device == "cpu":
        return processor.description()
    import torch

    return torch.cuda.get_device_name(torch.device(device))


def _is_old(path: Path) -> bool:
    # A file of the future tells of a clock that was wrong.
    return not 0 <= time.time() - path.stat().st_mtime < _FAILURE_KEPT_S


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
