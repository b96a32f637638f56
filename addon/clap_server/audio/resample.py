"""Streaming resampling to the one rate that the consumer wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import soxr

from clap_server.errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_RATE_HZ = 4_000
MAX_RATE_HZ = 384_000


def check_rate(rate: int) -> None:
    """Accept a rate in Hz.

    Raises:
        AudioError: it is not one of sound.
    """
    if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
        raise AudioError(f"A sample rate of {rate} Hz is not supported: use {MIN_RATE_HZ} to {MAX_RATE_HZ}.")


class Resampler:
    """Mono at any rate in, mono at ``sample_rate`` out; no clicks between calls.

    The input rate may change on the way: a camera does that when its settings change.

    Args:
        sample_rate: rate that comes out, in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._rate_out = sample_rate
        self._rate_in = sample_rate
        self._stream: soxr.ResampleStream | None = None

    def push(self, samples: NDArray[np.float32], rate_in: int) -> NDArray[np.float32]:
        """Resample the next ``(n,)`` samples.

        Returns:
            What is ready by now; may be empty, as the filter looks ahead.

        Raises:
            AudioError: the rate is not one of sound.
        """
        check_rate(rate_in)
        before = np.empty(0, dtype=np.float32)
        if rate_in != self._rate_in:
            before = self.flush()
            self._rate_in = rate_in
            self._stream = (
                None
                if rate_in == self._rate_out
                else soxr.ResampleStream(rate_in, self._rate_out, 1, dtype="float32", quality="HQ")
            )
        after = samples if self._stream is None else self._stream.resample_chunk(samples)
        return np.concatenate((before, after)) if before.size else after

    def flush(self) -> NDArray[np.float32]:
        """Take out what the filter still holds; the next ``push`` starts afresh."""
        if self._stream is None:
            return np.empty(0, dtype=np.float32)
        rest: NDArray[np.float32] = self._stream.resample_chunk(np.empty(0, dtype=np.float32), last=True)
        self._stream = None
        self._rate_in = self._rate_out
        return rest
