"""What the integration knows of a server; never changed, only replaced."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .client.models import EventInfo, MicrophoneInfo, MicrophoneStatus, ServerInfo

type LabelKey = tuple[str, str]
"""Microphone id and label id."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A sound event; ``late``: it was too old to be news when Home Assistant got to know of it."""

    event: EventInfo
    late: bool

    @property
    def key(self) -> LabelKey:
        return (self.event.microphone_id, self.event.label_id)


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
    latest: Mapping[LabelKey, Heard]

    @classmethod
    def of_server(
        cls, info: ServerInfo, microphones: Iterable[MicrophoneInfo], latest: Mapping[LabelKey, Heard]
    ) -> Self:
        """Begin with what a server tells at connect, and the newest events known before."""
        data = cls(info, {}, frozenset(), latest)
        for microphone in microphones:
            data = data.with_microphone(microphone)
        return data

    def with_info(self, info: ServerInfo) -> Self:
        return replace(self, info=info)

    def with_microphone(self, microphone: MicrophoneInfo) -> Self:
        """Add or replace a microphone, and with it what is active there."""
        active = {(microphone.id, label.id) for label in microphone.labels if label.active}
        others = {key for key in self.active if key[0] != microphone.id}
        return replace(
            self,
            microphones={**self.microphones, microphone.id: microphone},
            active=frozenset(others | active),
        )

    def without_microphone(self, microphone_id: str) -> Self:
        """Remove a microphone, and what is known of its sounds."""
        return replace(
            self,
            microphones={key: value for key, value in self.microphones.items() if key != microphone_id},
            active=frozenset(key for key in self.active if key[0] != microphone_id),
            latest={key: value for key, value in self.latest.items() if key[0] != microphone_id},
        )

    def with_status(self, microphone_id: str, status: MicrophoneStatus) -> Self:
        if (microphone := self.microphones.get(microphone_id)) is None:
            return self
        return replace(
            self, microphones={**self.microphones, microphone_id: replace(microphone, status=status)}
        )

    def with_latest(self, change: str, heard: Heard) -> Self:
        """Remember the newest event of a label, whether it still sounds or not."""
        newest = self.latest.get(heard.key)
        if newest is not None and newest.event.id == heard.event.id:
            heard = replace(heard, late=newest.late)
        elif newest is not None and change == "ended" and heard.event.detected_at < newest.event.detected_at:
            # An older event of the label ends after the next has begun. A newer one may end without its start
            # having been seen.
            return self
        return replace(self, latest={**self.latest, heard.key: heard})

    def with_confirmed(self, event: EventInfo) -> Self:
        """Take in what became known of an event after it was told: its pattern, or its recording."""
        key = (event.microphone_id, event.label_id)
        newest = self.latest.get(key)
        if newest is None or newest.event.id != event.id:
            return self
        return replace(self, latest={**self.latest, key: replace(newest, event=event)})

    def with_event(self, change: str, heard: Heard) -> Self:
        """Take in that an event started or ended just now."""
        data = self.with_latest(change, heard)
        if change == "started":
            return replace(data, active=data.active | {heard.key})
        if data is self:
            return self
        return replace(data, active=data.active - {heard.key})
