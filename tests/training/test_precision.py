"""Half the bits only where the processor multiplies in them: elsewhere it takes many times as long."""

from __future__ import annotations

import platform
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest
import torch

from training.precision import has_bfloat16, mixed

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    has_bfloat16.cache_clear()
    yield
    has_bfloat16.cache_clear()


def product() -> torch.dtype:
    with mixed("cpu"):
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"avx512_f": True}, torch.float32),
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"neon": True, "bf16": True}, torch.bfloat16),
        ({"neon": True, "bf16": False}, torch.float32),
    ],
)
def test_the_processor_decides(
    capabilities: dict[str, bool], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType(capabilities))
    assert product() is dtype


def test_pytorch_tells_what_this_processor_has() -> None:
    known = torch.cpu.get_capabilities()
    assert ("bf16" if platform.machine() in {"aarch64", "arm64"} else "avx512_bf16") in known


def test_a_gpu_always_computes_so() -> None:
    assert has_bfloat16("cuda")
