"""What happened to the last minutes of one microphone's sound, for whoever asks why.

Only facts that are there anyway are kept; words are made of them when somebody asks.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from clap_server.detection.gate import NoiseGate
    from clap_server.detection.judgement import Judgement
    from clap_server.detection.labels import WatchedLabel
    from clap_server.detection.scoring import NearerText
    from clap_server.detection.windows import Window

MEMORY_S = 300.0
# At the shortest hop and with all extra windows there are 12 a second.
_MOST = 4000


class Fate(StrEnum):
    """What became of a window."""

    SCORED = "scored"
    GATED = "gated"
    DROPPED = "dropped"
    FAILED = "failed"


class MomentKind(StrEnum):
    """What else can happen."""

    GAP = "gap"
    LOST = "lost"
    STATUS = "status"
    SELF_TEST = "self_test"


@dataclass(frozen=True, slots=True)
class GateView:
    """How the gate was when it judged a window.

    Attributes:
        floor_dbfs: the noise floor.
        opens_at_dbfs: level from which it lets sound through.
        reporting: an event was going on, which holds it open.
    """

    floor_dbfs: float
    opens_at_dbfs: float
    reporting: bool

    @classmethod
    def of(cls, gate: NoiseGate, *, reporting: bool) -> GateView:
        """As it is now."""
        return cls(gate.floor_dbfs, gate.opens_at_dbfs, reporting)


@dataclass(frozen=True, slots=True)
class WindowNote:
    """A window and what became of it.

    Attributes:
        window: in stream time.
        ended_at: UTC of its end.
        gate: when it was judged.
        fate: what became of it.
        watched: the labels with the thresholds in force.
        label_ids: in the order of ``scores``.
        scores: ``(n,)``; None if it was not scored.
        judgements: of the labels that came near.
        problem: why the model failed on it, in words.
        tested: ids of the labels of which a detection is a self-test's, and told to nobody else.
        nearer: what it is more like than a label that came near but stayed under its threshold, by label id.
    """

    window: Window
    ended_at: datetime
    gate: GateView
    fate: Fate
    watched: tuple[WatchedLabel, ...]
    label_ids: tuple[str, ...] = ()
    scores: NDArray[np.float32] | None = None
    judgements: tuple[Judgement, ...] = ()
    problem: str | None = None
    tested: frozenset[str] = frozenset()
    nearer: Mapping[str, NearerText] = field(default_factory=dict)

    def utc(self, stream_s: float) -> datetime:
        """When another moment of its stretch was or will be."""
        return self.ended_at + timedelta(seconds=stream_s - self.window.end_s)

    def score(self, label_id: str) -> float | None:
        """Of a label; None if it was not scored."""
        if self.scores is None or label_id not in self.label_ids:
            return None
        return float(self.scores[self.label_ids.index(label_id)])


@dataclass(frozen=True, slots=True)
class MomentNote:
    """Something else that happened.

    Attributes:
        at: UTC.
        kind: for programs.
        words: for people.
    """

    at: datetime
    kind: MomentKind
    words: str


class Diary:
    """Keeps the last five minutes, bounded in number too.

    Args:
        clock: seconds that are never set.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._notes: deque[tuple[float, WindowNote | MomentNote]] = deque(maxlen=_MOST)

    def note(self, note: WindowNote | MomentNote) -> None:
        """Remember something; what is too old is forgotten."""
        now_s = self._clock()
        self._notes.append((now_s, note))
        while self._notes[0][0] < now_s - MEMORY_S:
            self._notes.popleft()

    def happened(self, kind: MomentKind, words: str, at: datetime | None = None) -> None:
        """Remember a moment; now, if not said otherwise."""
        self.note(MomentNote(at or datetime.now(UTC), kind, words))

    def last(self, seconds: float) -> list[WindowNote | MomentNote]:
        """What was noted in the last seconds, oldest first."""
        since_s = self._clock() - seconds
        recent = takewhile(lambda entry: entry[0] >= since_s, reversed(self._notes))
        return [note for _, note in recent][::-1]
