"""What microphones needed is given back when they go, also while other things live on beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clap_server.audio.ring import RingBuffer
from clap_server.listening.memory import give_back

MB = 1_000_000
PAGE = 4096


def resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * PAGE


def test_the_memory_of_rings_is_given_back_whatever_lives_beside_them() -> None:
    # From the first large piece that was freed on, glibc takes as large ones from its heap.
    np.ones(45 * 48_000, np.float32).sum()
    before = resident()
    rings, others = [], []
    for _ in range(20):
        rings.append(RingBuffer(48_000, 45.0))
        rings[-1].append(np.ones(45 * 48_000, np.float32))
        others.append(np.ones(20_000, np.float32))
    held = resident() - before
    rings.clear()
    assert held > 150 * MB
    assert resident() - before < 50 * MB


def test_a_ring_needs_no_memory_for_sound_that_has_not_come() -> None:
    np.ones(45 * 48_000, np.float32).sum()
    before = resident()
    rings = [RingBuffer(48_000, 45.0) for _ in range(20)]
    for ring in rings:
        ring.append(np.ones(48_000, np.float32))
    assert resident() - before < 30 * MB


def test_free_memory_is_given_back_from_below_what_is_in_use() -> None:
    pieces = [bytes(60_000) for _ in range(2000)]
    last = pieces[-1]
    held = resident()
    pieces.clear()
    give_back()
    assert resident() < held - 80 * MB
    assert len(last) == 60_000
