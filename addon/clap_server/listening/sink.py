"""Where listening sends what it learns; the API implements it with the store and the event bus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import numpy as np
    from numpy.typing import NDArray

    from clap_server.audio.source import SourceStatus
    from clap_server.listening.events import SoundEvent
    from clap_server.listening.traces import Trace


@dataclass(frozen=True, slots=True)
class Recording:
    """The sound around an event: pre-roll, the event, post-roll.

    Attributes:
        samples: ``(n,)`` float32 mono.
        sample_rate: in Hz.
        starts_at: UTC time of the first sample.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    starts_at: datetime


class ListeningSink(Protocol):
    """Receives everything that happens at the microphones. Called on the event loop."""

    async def event_started(self, event: SoundEvent) -> None:
        """A label's score crossed its threshold, by the rules of its kind, or its pattern was decoded."""

    async def event_confirmed(self, event: SoundEvent) -> None:
        """More is known of an event that goes on: its pattern, or what else it might be."""

    async def event_ended(self, event: SoundEvent, recording: Recording | None) -> None:
        """The sound is over; ``recording`` holds it, unless ``event.clip_withheld`` says why not."""

    async def clip_came(self, event: SoundEvent, recording: Recording | None) -> None:
        """The recording of an event that ended without it (``coming``), or why there is none after all."""

    async def event_traced(self, event: SoundEvent, trace: Trace) -> None:
        """How the model heard an event so far; told at its start and at its end."""

    def scores(
        self, microphone_id: str, at: datetime, scores: Mapping[str, float], level_dbfs: float
    ) -> None:
        """One window was scored (label id to 0..1).

        Empty once when nothing is scored any more, because the gate closed or the stream broke off.
        """

    def level(
        self, microphone_id: str, at: datetime, level_dbfs: float, noise_floor_dbfs: float, gated: bool
    ) -> None:
        """The level of the last half second; ``gated`` means that nothing is scored in this quiet."""

    def status(self, microphone_id: str, status: SourceStatus) -> None:
        """A microphone's state or its reason changed."""
