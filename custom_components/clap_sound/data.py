"""What the integration knows of a server; never changed, only replaced."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .client.messages import EventMessage
    from .client.models import EventInfo, MicrophoneInfo, MicrophoneStatus, ServerInfo

type LabelKey = tuple[str, str]
"""Microphone id and label id."""


@dataclass(frozen=True, slots=True)
class ClapSoundData:
    """A server's state.

    Attributes:
        info: who the server is.
        microphones: by id.
        active: what sounds right now.
        latest: the newest event of each label.
    """

    info: ServerInfo
    microphones: Mapping[str, MicrophoneInfo]
    active: frozenset[LabelKey]
    latest: Mapping[LabelKey, EventInfo]

    def with_info(self, info: ServerInfo) -> Self:
        """Replace what is known of the server itself."""
        return replace(self, info=info)

    def with_microphones(self, microphones: Iterable[MicrophoneInfo]) -> Self:
        """Replace the microphones, and with them what is active."""
        by_id = {microphone.id: microphone for microphone in microphones}
        return replace(
            self,
            microphones=by_id,
            active=frozenset(
                (microphone.id, label.id)
                for microphone in by_id.values()
                for label in microphone.labels
                if label.active
            ),
        )

    def with_status(self, microphone_id: str, status: MicrophoneStatus) -> Self:
        """Replace one microphone's status."""
        if (microphone := self.microphones.get(microphone_id)) is None:
            return self
        return replace(
            self, microphones={**self.microphones, microphone_id: replace(microphone, status=status)}
        )

    def with_event(self, message: EventMessage) -> Self:
        """Take in that an event started or ended."""
        event = message.event
        key = (event.microphone_id, event.label_id)
        if message.change == "started":
            return replace(self, active=self.active | {key}, latest={**self.latest, key: event})
        if (newest := self.latest.get(key)) is not None and newest.id != event.id:
            # An older event of the label ends after the next has begun.
            return self
        return replace(self, active=self.active - {key}, latest={**self.latest, key: event})
