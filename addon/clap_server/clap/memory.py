"""How much memory there is for a model."""

from __future__ import annotations

from pathlib import Path

from clap_server.errors import ModelError

NEEDED = 3
"""Times the weights: the model, and the same again with what is exported of it while an engine is tried."""

_MEGABYTE = 1_000_000


def available_bytes(root: Path = Path("/")) -> int | None:
    """What can be had without swapping, within the limit of a container; None where it cannot be told.

    Args:
        root: of the file system that has ``proc`` and ``sys``.
    """
    try:
        fields = dict(
            line.split(":", 1)
            for line in (root / "proc/meminfo").read_text("ascii").splitlines()
            if ":" in line
        )
        available = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError, IndexError):
        return None
    limit = _limit_left(root / "sys/fs/cgroup")
    return available if limit is None else min(available, limit)


def _limit_left(cgroup: Path) -> int | None:
    """What a container's limit leaves; None if there is no limit."""
    try:
        limit = int((cgroup / "memory.max").read_text("ascii"))  # "max" if there is none
        used = int((cgroup / "memory.current").read_text("ascii"))
        counts = dict(line.split() for line in (cgroup / "memory.stat").read_text("ascii").splitlines())
        return max(0, limit - used + int(counts.get("inactive_file", 0)))
    except (OSError, ValueError):
        return None


def check_memory(weights: int, available: int | None) -> None:
    """See that there is enough for a model.

    Args:
        weights: bytes of its weights.
        available: bytes of memory; None if that is not known.

    Raises:
        ModelError: there is not.
    """
    needed = NEEDED * weights
    if available is not None and available < needed:
        raise ModelError(
            f"The full model needs {needed / _MEGABYTE:.0f} MB of free memory while it is set up, and "
            f"{available / _MEGABYTE:.0f} MB are free."
        )
