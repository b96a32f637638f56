from __future__ import annotations

import numpy as np
import pytest

from clap_server.audio.ring import RingBuffer
from clap_server.errors import AudioError


def numbered(first: int, last: int) -> np.ndarray:
    return np.arange(first, last, dtype=np.float32)


def test_samples_keep_their_number_however_they_arrive() -> None:
    ring = RingBuffer(10, 2.0)
    rng = np.random.default_rng(1)
    total = 0
    while total < 500:
        count = int(rng.integers(0, 60))
        ring.append(numbered(total, total + count))
        total += count
        assert ring.total_samples == total
        assert ring.first_sample == max(0, total - 20)
        first, last = sorted(rng.integers(ring.first_sample, total + 1, 2))
        np.testing.assert_array_equal(ring.read(int(first), int(last)), numbered(int(first), int(last)))


@pytest.mark.parametrize(("first", "last"), [(0, 5), (9, 16), (12, 11), (-3, 12)])
def test_reading_what_is_not_held_is_an_error(first: int, last: int) -> None:
    ring = RingBuffer(10, 1.0)
    ring.append(numbered(0, 15))
    with pytest.raises(AudioError, match="not held"):
        ring.read(first, last)


def test_a_copy_stays_as_it_was() -> None:
    ring = RingBuffer(4, 1.0)
    ring.append(numbered(0, 4))
    copy = ring.read(0, 4)
    ring.append(numbered(4, 8))
    np.testing.assert_array_equal(copy, [0, 1, 2, 3])


@pytest.mark.parametrize(("rate", "capacity_s"), [(0, 1.0), (10, 0.0), (-1, -1.0)])
def test_a_ring_without_room_is_refused(rate: int, capacity_s: float) -> None:
    with pytest.raises(AudioError, match="positive"):
        RingBuffer(rate, capacity_s)
