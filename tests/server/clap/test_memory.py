"""Memory as the kernel tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clap_server.clap.memory import available_bytes, check_memory
from clap_server.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

MEMORY = "MemTotal:       24684544 kB\nMemFree:        14731264 kB\nMemAvailable:   19524608 kB\n"
MB = 1_000_000


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def cgroup(limit: str, used: int, cached: int) -> dict[str, str]:
    folder = "sys/fs/cgroup"
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.current": f"{used}\n",
        f"{folder}/memory.stat": f"anon {used - cached}\ninactive_file {cached}\n",
    }


@pytest.mark.parametrize(
    ("files", "available"),
    [
        ({"proc/meminfo": MEMORY}, 19524608 * 1024),
        ({"proc/meminfo": MEMORY} | cgroup("max", 900 * MB, 0), 19524608 * 1024),
        ({"proc/meminfo": MEMORY} | cgroup(str(2000 * MB), 900 * MB, 100 * MB), 1200 * MB),
        ({"proc/meminfo": MEMORY} | cgroup(str(200 * MB), 900 * MB, 100 * MB), 0),
        ({"proc/meminfo": "MemTotal: 1 kB\n"}, None),
        ({}, None),
    ],
)
def test_what_is_available(files: dict[str, str], available: int | None, tmp_path: Path) -> None:
    assert available_bytes(tree(tmp_path, files)) == available


def test_too_little_is_told_in_words() -> None:
    check_memory(600 * MB, 1800 * MB)
    check_memory(600 * MB, None)
    with pytest.raises(ModelError, match="needs 1800 MB of free memory while it is set up, and 1799 MB"):
        check_memory(600 * MB, 1799 * MB)
