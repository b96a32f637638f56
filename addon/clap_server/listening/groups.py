"""The same sound at several microphones is one group of events, which says where it stood out most.

Each microphone keeps its own event: the group only adds to what is known of it. Levels are compared above
each microphone's own L90, because microphones differ in gain, and rooms in noise.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clap_server.listening.events import EventGroup, HeardAt

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from clap_server.listening.events import SoundEvent

TOGETHER_S = 1.5
"""Onsets of one sound lie within this.

Sound itself takes 0.06 s for 20 m; the rest is how exactly streams and onsets are dated. Two sounds of one
microphone are further apart.
"""
UNSURE_DB = 3.0
"""With a smaller margin either microphone may be the nearest."""
MEMORY_S = 60.0
"""So long after the last news of a group an event that is told late still finds it."""
MOST_GROUPS = 1000
"""Of events that are over."""


@dataclass(frozen=True, slots=True)
class _Member:
    microphone_id: str
    onset_at: datetime
    above_db: float
    going_on: bool


class _Group:
    """Events of one label, each of another microphone."""

    def __init__(self, group_id: str, label_id: str) -> None:
        self.id = group_id
        self.label_id = label_id
        self.members: dict[str, _Member] = {}
        self.news_s = 0.0

    def takes(self, event: SoundEvent) -> bool:
        """Whether an event is of the same sound."""
        onsets = [event.started_at, *(member.onset_at for member in self.members.values())]
        return (
            event.label_id == self.label_id
            and all(member.microphone_id != event.microphone_id for member in self.members.values())
            and (max(onsets) - min(onsets)).total_seconds() <= TOGETHER_S
        )

    def distance_s(self, event: SoundEvent) -> float:
        """How far an event's onset is from the nearest of the group's."""
        return min(
            abs((member.onset_at - event.started_at).total_seconds()) for member in self.members.values()
        )

    def view(self) -> EventGroup:
        """What is known now."""
        heard = sorted(
            (HeardAt(member.microphone_id, member.above_db) for member in self.members.values()),
            key=lambda at: (-at.level_above_l90_db, at.id),
        )
        margin_db = heard[0].level_above_l90_db - heard[1].level_above_l90_db if len(heard) > 1 else None
        unsure = margin_db is not None and margin_db < UNSURE_DB
        return EventGroup(self.id, heard[0].id, margin_db, unsure, tuple(heard))


class EventGroups:
    """Puts the events of all microphones into groups, in whatever order they are told.

    An event joins the nearest group of its label in which its microphone is not and whose onsets are all
    within ``TOGETHER_S`` of its own; else it begins one. It never changes its group. Groups are not continued
    after a restart.

    Args:
        clock: seconds that are never set, by which groups are forgotten; the events have their own times.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Those with the newest news last.
        self._groups: dict[str, _Group] = {}
        self._group_of: dict[str, _Group] = {}

    def __len__(self) -> int:
        """How many groups are remembered."""
        return len(self._groups)

    def take(self, event: SoundEvent) -> dict[str, EventGroup]:
        """Take an event that started, of which more is known, or that ended.

        Returns:
            By event id, the groups that are now another; always that of the event itself.
        """
        self._forget()
        group = self._group_of.get(event.id)
        if group is None:
            near = [group for group in self._groups.values() if group.takes(event)]
            group = min(near, key=lambda group: group.distance_s(event), default=None)
        if group is None:
            group = _Group(event.id, event.label_id)
        before = group.view() if group.members else None
        floor_dbfs = event.peak_level_dbfs if event.noise_floor_dbfs is None else event.noise_floor_dbfs
        group.members[event.id] = _Member(
            event.microphone_id,
            event.started_at,
            float(event.peak_level_dbfs - floor_dbfs),
            event.ended_at is None,
        )
        self._group_of[event.id] = group
        group.news_s = self._clock()
        self._groups.pop(group.id, None)
        self._groups[group.id] = group
        now = group.view()
        return dict.fromkeys([event.id] if now == before else group.members, now)

    def _forget(self) -> None:
        """Let go of groups of which nothing can come any more; those that go on are kept."""
        over = [
            group
            for group in self._groups.values()
            if not any(member.going_on for member in group.members.values())
        ]
        old_s = self._clock() - MEMORY_S
        for number, group in enumerate(over):
            if len(over) - number >= MOST_GROUPS or group.news_s < old_s:
                del self._groups[group.id]
                for event_id in group.members:
                    del self._group_of[event_id]
