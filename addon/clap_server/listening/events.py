"""What was heard."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - part of the dataclass, read at run time by pydantic
from enum import StrEnum

from clap_server.detection.patterns import AlarmPattern  # noqa: TC001 - as datetime
from clap_server.detection.rivals import Close  # noqa: TC001 - as datetime


@dataclass(frozen=True, slots=True)
class HeardAt:
    """A microphone of an event group.

    Attributes:
        id: its own.
        level_above_l90_db: the event's peak level above the level that the microphone's sound exceeds for
            90 % of the time (L90, ISO 1996-1), dB.
    """

    id: str
    level_above_l90_db: float


@dataclass(frozen=True, slots=True)
class EventGroup:
    """One sound as all the microphones heard it that named it alike.

    Attributes:
        id: of its first event that was told.
        nearest: id of the microphone at which it stood out most.
        margin_db: by how much it stood out more there than at the next one; None if that is the only one.
        unsure: the margin is so small that either may be the nearest.
        microphones: the nearest first.
    """

    id: str
    nearest: str
    margin_db: float | None
    unsure: bool
    microphones: tuple[HeardAt, ...]


class ClipWithheld(StrEnum):
    """Why an event that is over has no recording, or has none yet.

    ``coming``: it is not whole yet. ``event_only``, ``speech``: the microphone keeps none, or none in which
    somebody speaks. ``check_failed``: whether somebody speaks could not be told, so it was dropped.
    ``muted``: the microphone was muted while it went on. ``lost``: the sound was forgotten before the model
    answered, or listening broke off. ``not_stored``: the disk did not take it. ``removed``: it was there.
    """

    COMING = "coming"
    EVENT_ONLY = "event_only"
    SPEECH = "speech"
    CHECK_FAILED = "check_failed"
    MUTED = "muted"
    LOST = "lost"
    NOT_STORED = "not_stored"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class SoundEvent:
    """A sound that crossed its threshold.

    Attributes:
        id: UUID, made when the event starts.
        microphone_id: where it was heard.
        label_id: what was heard; see ``Label.id``.
        label_name: English name, or the user's own words.
        started_at: onset of the sound, UTC.
        detected_at: when the server decided, UTC.
        ended_at: None while it lasts.
        threshold: that was in force.
        score: at the decision, 0 to 1; 1 if a pattern decided.
        peak_score: highest so far, 0 to 1.
        peak_level_dbfs: highest level so far, dBFS.
        has_clip: whether a recording is stored.
        pattern: of an alarm's beeps, by which it was recognised, at its start or since; None if the model
            alone heard it.
        close: what else an impulsive sound might have been, the best first.
        replaced_by: id of the label by which the same sound was named better, which ended this event.
        noise_floor_dbfs: L90 of the microphone when it started, dBFS; None in events of older versions.
        group: all events of the same sound, at whatever microphone, as far as is known; None until the server
            has put it into one, and in events of older versions.
        clip_withheld: why no recording is stored; None if one is, or while the sound lasts.
        clip_starts_at: of the recording's first sample, UTC; None if there is none, and in events of older
            versions.
    """

    id: str
    microphone_id: str
    label_id: str
    label_name: str
    started_at: datetime
    detected_at: datetime
    ended_at: datetime | None
    threshold: float
    score: float
    peak_score: float
    peak_level_dbfs: float
    has_clip: bool = False
    pattern: AlarmPattern | None = None
    close: tuple[Close, ...] = ()
    replaced_by: str | None = None
    noise_floor_dbfs: float | None = None
    group: EventGroup | None = None
    clip_withheld: ClipWithheld | None = None
    clip_starts_at: datetime | None = None
