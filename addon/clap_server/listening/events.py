"""What was heard."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - part of the dataclass, read at run time by pydantic

from clap_server.detection.patterns import AlarmPattern  # noqa: TC001 - as datetime


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
        score: at the decision, 0 to 1; 1 if a pattern decided. Of an impulsive sound that two windows
            confirmed it can be a little below the threshold (see ``ImpulsiveRule``).
        peak_score: highest so far, 0 to 1.
        peak_level_dbfs: highest level so far, dBFS.
        has_clip: whether a recording is stored.
        pattern: of an alarm's beeps, by which it was recognised, at its start or since; None if the model
            alone heard it.
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
