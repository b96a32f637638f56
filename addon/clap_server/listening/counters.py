"""What is counted of a microphone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Windows of a microphone since the server started.

    Attributes:
        scored: by the model.
        gated: too quiet to score.
        dropped: lost because the computer is too slow, also before they were cut.
        failed: on which the model failed.
    """

    scored: int = 0
    gated: int = 0
    dropped: int = 0
    failed: int = 0
