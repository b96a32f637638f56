"""The number format that the training computes in."""

from __future__ import annotations

from functools import cache

import torch

# As `torch.cpu.get_capabilities` calls them, on x86 and on ARM.
_MULTIPLIES_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")


@cache
def has_bfloat16(kind: str) -> bool:
    """Whether a kind of device multiplies in bfloat16 itself; others are many times slower in it."""
    if kind != "cpu":
        return True
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in _MULTIPLIES_BFLOAT16)


def mixed(kind: str) -> torch.autocast:
    """Matrix products in bfloat16 where the device has it, all else in float32."""
    return torch.autocast(kind, torch.bfloat16, enabled=has_bfloat16(kind))
