"""The number format that the training computes in."""

from __future__ import annotations

from functools import cache

import torch

from clap_server.clap.engines.processor import multiplies_bfloat16


@cache
def has_bfloat16(kind: str) -> bool:
    """Whether a kind of device multiplies in bfloat16 itself; others are many times slower in it."""
    return kind != "cpu" or multiplies_bfloat16()


def mixed(kind: str) -> torch.autocast:
    """Matrix products in bfloat16 where the device has it, all else in float32."""
    return torch.autocast(kind, torch.bfloat16, enabled=has_bfloat16(kind))
