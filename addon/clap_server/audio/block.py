"""The unit in which sound flows from a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class AudioBlock:
    """A stretch of mono sound.

    Attributes:
        samples: ``(n,)`` float32, full scale -1..1.
        sample_rate: in Hz; the rate that the consumer asked the source for.
        captured_at: Unix time in seconds at which the *last* sample arrived here.
        after_gap: sound is missing between the block before and this one: nothing may join the two.
        dropped_s: how much of what is missing had come and was dropped, because nobody fetched it in time;
            in seconds.
        notice: what a user should know of how the sound is taken, in words.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    captured_at: float
    after_gap: bool = False
    dropped_s: float = 0.0
    notice: str | None = None

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate
