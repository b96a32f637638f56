"""The messages of the server's WebSocket, parsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from .models import (
    EventInfo,
    Json,
    MicrophoneInfo,
    MicrophoneStatus,
    ServerInfo,
    microphones_from_json,
    utc_time,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class MicrophonesMessage:
    """Microphones as they are at connect, all in one message or in several."""

    microphones: tuple[MicrophoneInfo, ...]

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(microphones_from_json(data))


@dataclass(frozen=True, slots=True)
class MicrophoneChangedMessage:
    """A microphone was added, or its settings or labels changed."""

    microphone: MicrophoneInfo

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(MicrophoneInfo.from_json(data["microphone"]))


@dataclass(frozen=True, slots=True)
class MicrophoneRemovedMessage:
    """A microphone is there no more."""

    microphone_id: str

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(str(data["microphone_id"]))


@dataclass(frozen=True, slots=True)
class MicrophoneMessage:
    """One microphone's status changed."""

    microphone_id: str
    status: MicrophoneStatus

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(str(data["microphone_id"]), MicrophoneStatus.from_json(data["status"]))


@dataclass(frozen=True, slots=True)
class EventMessage:
    """An event changed: ``change`` is ``started`` or ``ended``."""

    sequence: int
    change: str
    event: EventInfo

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(int(data["sequence"]), str(data["change"]), EventInfo.from_json(data["event"]))


@dataclass(frozen=True, slots=True)
class EventConfirmedMessage:
    """More is known of an event: its pattern, what else it might be, or where else it was heard."""

    event: EventInfo

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(EventInfo.from_json(data["event"]))


@dataclass(frozen=True, slots=True)
class EventClipMessage:
    """The recording of an event that is over has come, or it is known why there is none."""

    event: EventInfo

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(EventInfo.from_json(data["event"]))


@dataclass(frozen=True, slots=True)
class ReplayedMessage:
    """All changes up to ``last_sequence`` have been sent; what follows is live.

    ``active``: ids of the events that go on; any other is over, even if its end was lost.
    """

    last_sequence: int | None
    active: frozenset[str]

    @classmethod
    def from_json(cls, data: Json) -> Self:
        # That everything has been sent is true without a number as well.
        number = data.get("last_sequence")
        active = frozenset(str(event_id) for event_id in data.get("active", ()))
        return cls(number if isinstance(number, int) else None, active)


@dataclass(frozen=True, slots=True)
class ScoresMessage:
    """Scores (0 to 1) of one window, by label id."""

    microphone_id: str
    at: datetime
    level_dbfs: float
    scores: Mapping[str, float]

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(
            str(data["microphone_id"]),
            utc_time(data["at"]),
            float(data["level_dbfs"]),
            {str(label): float(score) for label, score in data["scores"].items()},
        )


@dataclass(frozen=True, slots=True)
class LevelMessage:
    """Level of the last half second, dBFS; ``gated``: too quiet to be scored."""

    microphone_id: str
    at: datetime
    level_dbfs: float
    noise_floor_dbfs: float
    gated: bool

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(
            str(data["microphone_id"]),
            utc_time(data["at"]),
            float(data["level_dbfs"]),
            float(data["noise_floor_dbfs"]),
            bool(data["gated"]),
        )


type Message = (
    ServerInfo
    | MicrophonesMessage
    | MicrophoneChangedMessage
    | MicrophoneRemovedMessage
    | MicrophoneMessage
    | EventMessage
    | EventConfirmedMessage
    | EventClipMessage
    | ReplayedMessage
    | ScoresMessage
    | LevelMessage
)


_PARSERS: Mapping[str, Callable[[Json], Message]] = {
    "info": ServerInfo.from_json,
    "microphones": MicrophonesMessage.from_json,
    "microphone_changed": MicrophoneChangedMessage.from_json,
    "microphone_removed": MicrophoneRemovedMessage.from_json,
    "microphone": MicrophoneMessage.from_json,
    "event": EventMessage.from_json,
    "event_confirmed": EventConfirmedMessage.from_json,
    "event_clip": EventClipMessage.from_json,
    "replayed": ReplayedMessage.from_json,
    "scores": ScoresMessage.from_json,
    "level": LevelMessage.from_json,
}


def message_from_json(data: Json) -> Message | None:
    """Parse any message; None for a type that this version does not know."""
    parser = _PARSERS.get(data["type"])
    return None if parser is None else parser(data)
