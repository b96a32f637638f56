"""The last seconds of one microphone, addressed by sample number."""

from __future__ import annotations

import math
from mmap import mmap
from typing import TYPE_CHECKING

import numpy as np

from clap_server.errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RingBuffer:
    """Holds the newest ``capacity_s`` seconds; samples are counted from the first one ever appended.

    Not locked: one task owns it.

    Args:
        sample_rate: in Hz.
        capacity_s: how much is kept at least, in seconds.

    Raises:
        AudioError: the rate or the capacity is not positive.
    """

    def __init__(self, sample_rate: int, capacity_s: float) -> None:
        capacity = math.ceil(sample_rate * capacity_s)
        if sample_rate <= 0 or capacity <= 0:
            raise AudioError("A ring buffer needs a positive sample rate and capacity.")
        # Pages of its own: only those that were written to are there, and all go when it goes. Of the heap
        # glibc would keep them, below whatever else lives longer.
        self._data: NDArray[np.float32] = np.frombuffer(mmap(-1, 4 * capacity), np.float32)
        self._sample_rate = sample_rate
        self._total = 0

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self._sample_rate

    @property
    def capacity(self) -> int:
        """Number of samples that it can hold."""
        return len(self._data)

    @property
    def total_samples(self) -> int:
        """Number of samples ever appended; the index that the next one gets."""
        return self._total

    @property
    def first_sample(self) -> int:
        """Index of the oldest sample still held."""
        return max(0, self._total - self.capacity)

    def append(self, samples: NDArray[np.float32]) -> None:
        """Add ``(n,)`` samples; the oldest make room."""
        count = len(samples)
        kept = samples[-self.capacity :]
        start = (self._total + count - len(kept)) % self.capacity
        head = min(len(kept), self.capacity - start)
        self._data[start : start + head] = kept[:head]
        self._data[: len(kept) - head] = kept[head:]
        self._total += count

    def wipe(self) -> None:
        """Forget the sound: what is read of it from here on is silence."""
        self._data[: min(self._total, self.capacity)] = 0

    def read(self, first_sample: int, last_sample: int) -> NDArray[np.float32]:
        """Copy out samples ``first_sample`` (included) to ``last_sample`` (excluded).

        Returns:
            ``(last_sample - first_sample,)`` float32.

        Raises:
            AudioError: part of the range is no longer held, or not yet there.
        """
        if not self.first_sample <= first_sample <= last_sample <= self._total:
            raise AudioError(
                f"Samples {first_sample} to {last_sample} are not held: "
                f"the buffer has {self.first_sample} to {self._total}."
            )
        count = last_sample - first_sample
        start = first_sample % self.capacity
        head = min(count, self.capacity - start)
        return np.concatenate((self._data[start : start + head], self._data[: count - head]))
