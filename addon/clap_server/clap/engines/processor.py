"""What the processor of this machine is and can do by itself."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import torch

# As `torch.cpu.get_capabilities` calls them, on x86 and on ARM.
_MULTIPLIES_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")
_MULTIPLIES_INT8 = ("avx512_vnni", "avx_vnni", "amx_int8", "dot", "i8mm")


def multiplies_bfloat16() -> bool:
    """Whether it multiplies in bfloat16; others convert to and fro, and are many times slower in it."""
    return _has(_MULTIPLIES_BFLOAT16)


def multiplies_int8() -> bool:
    """Whether it adds up products of 8-bit integers in one step; without, they gain nothing over float32."""
    return _has(_MULTIPLIES_INT8)


def description() -> str:
    """Its name and a digest of all that it can do; machines of one description compute at one speed.

    Virtual machines give different processors the same name.
    """
    able = sorted(name for name, value in torch.cpu.get_capabilities().items() if value is True)
    return f"{_name()} ({hashlib.sha256(' '.join(able).encode()).hexdigest()[:8]})"


def _has(names: tuple[str, ...]) -> bool:
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in names)


def _name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
