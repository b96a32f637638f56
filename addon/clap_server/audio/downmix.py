"""From any number of channels to one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The mean of n channels that have nothing in common keeps 1/n of their power. Less than this share of that
# is left only where channels cancel each other; more than the second one, and they no longer do.
_CANCELLED_SHARE = 0.2
_RESTORED_SHARE = 0.6
_MEMORY_S = 1.0
# Quieter sound (-80 dBFS) says nothing about the wiring.
_LEAST_POWER = 1e-8
_STEREO = ("left", "right")


class Downmix:
    """The mean of the channels; where they cancel each other, the loudest one alone.

    A cable or a camera that turns one of two channels over makes their mean silent. That is told from the
    power of the last second, not from the format.
    """

    def __init__(self) -> None:
        self._channel_power: NDArray[np.float64] = np.zeros(0)
        self._mean_power = 0.0
        self._only: int | None = None

    @property
    def notice(self) -> str | None:
        """In words, that the channels cancel each other and what is done about it."""
        if self._only is None:
            return None
        if len(self._channel_power) == len(_STEREO):
            return f"left and right cancel each other: only the {_STEREO[self._only]} channel is used"
        return f"the channels cancel each other: only channel {self._only + 1} is used"

    def mix(self, channels: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
        """Mix the next ``(channels, n)`` samples at ``rate`` Hz to ``(n,)``."""
        count, length = channels.shape
        if count != len(self._channel_power):
            self._channel_power, self._mean_power, self._only = np.zeros(count), 0.0, None
        if count == 1 or not length:
            only: NDArray[np.float32] = channels[0]
            return only
        mean: NDArray[np.float32] = channels.mean(axis=0, dtype=np.float32)
        before = self._only
        self._learn(channels, mean, kept=float(np.exp(-length / rate / _MEMORY_S)))
        now = mean if self._only is None else channels[self._only]
        if self._only == before:
            return now
        # Faded, so that the change is no click.
        earlier = mean if before is None else channels[before]
        fade = np.linspace(0.0, 1.0, length, dtype=np.float32)
        faded: NDArray[np.float32] = (1.0 - fade) * earlier + fade * now
        return faded

    def _learn(self, channels: NDArray[np.float32], mean: NDArray[np.float32], kept: float) -> None:
        power = np.square(channels, dtype=np.float64).mean(axis=1)
        self._channel_power = kept * self._channel_power + (1.0 - kept) * power
        self._mean_power = kept * self._mean_power + (1.0 - kept) * float(np.square(mean).mean())
        average = float(self._channel_power.mean())
        if average < _LEAST_POWER:
            return
        share = self._mean_power / average * len(channels)
        if self._only is None and share < _CANCELLED_SHARE:
            self._only = int(np.argmax(self._channel_power))
        elif self._only is not None and share > _RESTORED_SHARE:
            self._only = None
