"""Turns the scores of one microphone's windows into the starts and ends of sounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clap_server.detection.judgement import Decision, Judgement
from clap_server.detection.temporal import TIMING, Rule, Timing, make_rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from clap_server.detection.labels import WatchedLabel
    from clap_server.detection.windows import Window


# A score may hover between the two limits of the hysteresis for hours before a sound is confirmed; only so
# much of that belongs to it.
LONGEST_APPROACH_S = 15.0
# From this part of its threshold on a label came near, so that it is said what decided.
_NEAR = 0.5


@dataclass(frozen=True, slots=True)
class _Approach:
    """What the windows that lead to a decision have shown so far."""

    since_s: float
    onset_s: float
    peak_score: float
    peak_level_dbfs: float


@dataclass(frozen=True, slots=True)
class Detection:
    """A sound in stream time, seconds.

    Attributes:
        watched: the label with its threshold when it started.
        onset_s: where it begins: at its onset, else an estimate, the middle of the first window with it.
        detected_s: end of the window that decided.
        ended_s: end of the last window in which it was heard; None while it lasts.
        score: of the deciding window, 0 to 1.
        peak_score: highest so far, 0 to 1.
        peak_level_dbfs: highest so far, dBFS.
    """

    watched: WatchedLabel
    onset_s: float
    detected_s: float
    ended_s: float | None
    score: float
    peak_score: float
    peak_level_dbfs: float


class _Track:
    """One label's memory."""

    def __init__(self, watched: WatchedLabel, timing: Timing, *, hop_s: float) -> None:
        self.watched = watched
        self._timing = timing
        self._rule: Rule = make_rule(watched.label.kind, watched.threshold, hop_s=hop_s)
        self.current: Detection | None = None
        self._heard_s = 0.0
        self._free_at_s = float("-inf")
        self._approach: _Approach | None = None
        self._held_off = False

    def change(self, watched: WatchedLabel, *, hop_s: float) -> None:
        """Take another threshold or hop; a running event goes on by the new rule."""
        self.watched = watched
        self._rule = make_rule(watched.label.kind, watched.threshold, hop_s=hop_s)

    def update(self, window: Window, score: float) -> Detection | None:
        """Take one score; return the detection if it just started."""
        confirmed = self._rule.starts(window.end_s, score)
        self._held_off = False
        if not self._rule.present:
            self._approach = None
            return None
        if self.current is not None:
            self._heard_s = window.end_s
            self.current = replace(
                self.current,
                peak_score=max(self.current.peak_score, score),
                peak_level_dbfs=max(self.current.peak_level_dbfs, window.level_dbfs),
            )
            return None
        approach = self._approach = self._approached(window, score)
        self._held_off = confirmed and window.end_s < self._free_at_s
        if not confirmed or self._held_off:
            return None
        # What is left of the event before belongs to that one.
        onset_s = max(approach.onset_s, self._free_at_s - self._timing.hold_off_s)
        self._heard_s = window.end_s
        self.current = Detection(
            self.watched,
            onset_s,
            window.end_s,
            None,
            score,
            approach.peak_score,
            approach.peak_level_dbfs,
        )
        return self.current

    def _approached(self, window: Window, score: float) -> _Approach:
        """What is known of the sound with this window."""
        before = self._approach
        if before is None or window.end_s - before.since_s > LONGEST_APPROACH_S:
            onset_s = (window.start_s + window.end_s) / 2 if window.onset_s is None else window.onset_s
            return _Approach(window.end_s, onset_s, score, window.level_dbfs)
        return replace(
            before,
            peak_score=max(before.peak_score, score),
            peak_level_dbfs=max(before.peak_level_dbfs, window.level_dbfs),
        )

    def judgement(self, end_s: float, score: float) -> Judgement | None:
        """What the window that was taken last, which ended at ``end_s``, did; None if it came not near."""
        if self.current is not None:
            started = self.current.detected_s == end_s
            decision = Decision.STARTED if started else Decision.GOING_ON
        elif self._held_off:
            decision = Decision.HELD_OFF
        elif self._rule.counted:
            decision = Decision.UNCONFIRMED
        elif score >= _NEAR * self.watched.threshold:
            decision = Decision.UNDER_THRESHOLD
        else:
            return None
        held_until_s = self._free_at_s if self._held_off else None
        return Judgement(self.watched, score, decision, self._rule.progress, held_until_s)

    def end_if_due(self, now_s: float) -> Detection | None:
        """End the event if its time is over; return it if it just ended."""
        if self.current is None:
            return None
        started_s = self.current.detected_s
        released_s = max(started_s + self._timing.minimum_on_s, self._heard_s + self._timing.release_s)
        if now_s < min(released_s, started_s + self._timing.maximum_on_s):
            return None
        return self.end(now_s)

    def end(self, now_s: float) -> Detection | None:
        """End the event now."""
        if self.current is None:
            return None
        ended = replace(self.current, ended_s=min(self._heard_s, now_s))
        self.current = None
        self._approach = None
        self._free_at_s = now_s + self._timing.hold_off_s
        return ended


class Detector:
    """Watches the labels of one microphone.

    Feed it every window, in order; where none come, ``tick`` lets time pass.

    Args:
        labels: with distinct ids.
        hop_s: seconds between regular windows.

    Raises:
        LabelError: a threshold makes detection impossible.
    """

    def __init__(self, labels: Sequence[WatchedLabel], *, hop_s: float) -> None:
        self.hop_s = hop_s
        self.watched = tuple(labels)
        """With the thresholds in force."""
        self._tracks = {watched.label.id: self._track(watched) for watched in labels}
        self._now_s = float("-inf")

    @property
    def active(self) -> frozenset[str]:
        """Ids of the labels of which an event is going on."""
        return frozenset(id_ for id_, track in self._tracks.items() if track.current is not None)

    def update(self, window: Window, scores: Mapping[str, float]) -> list[Detection]:
        """Take the scores of a window.

        Args:
            window: ends no earlier than the one before.
            scores: label id to 0..1; a label that is missing (a window that was not scored) counts as 0.

        Returns:
            The detections that started (``ended_s`` is None) or ended.
        """
        self._now_s = max(self._now_s, window.end_s)
        started = [
            detection
            for id_, track in self._tracks.items()
            if (detection := track.update(window, scores.get(id_, 0.0))) is not None
        ]
        return self._ended(track.end_if_due(self._now_s) for track in self._tracks.values()) + started

    def judgements(self, window: Window, scores: Mapping[str, float]) -> list[Judgement]:
        """What the window that ``update`` just took did for each label that came near."""
        judged = (track.judgement(window.end_s, scores.get(id_, 0.0)) for id_, track in self._tracks.items())
        return [judgement for judgement in judged if judgement is not None]

    def tick(self, now_s: float) -> list[Detection]:
        """Let time pass where windows stopped coming; return what ended."""
        self._now_s = max(self._now_s, now_s)
        return self._ended(track.end_if_due(self._now_s) for track in self._tracks.values())

    def finish(self, at_s: float | None = None) -> list[Detection]:
        """End everything now, because the stream broke off or listening stops.

        Args:
            at_s: when that was, and so when what goes on ended; if left out, each ended when last heard.
        """
        ended = self._ended(track.end(self._now_s) for track in self._tracks.values())
        return ended if at_s is None else [replace(detection, ended_s=at_s) for detection in ended]

    def change(self, labels: Sequence[WatchedLabel], *, hop_s: float) -> list[Detection]:
        """Watch these labels from now on; events of labels that stay go on.

        Returns:
            The events that ended because their label is gone or of another kind.

        Raises:
            LabelError: a threshold makes detection impossible; nothing was changed.
        """
        for watched in labels:
            make_rule(watched.label.kind, watched.threshold, hop_s=hop_s)
        self.hop_s = hop_s
        self.watched = tuple(labels)
        before, self._tracks = self._tracks, {}
        for watched in labels:
            track = before.get(watched.label.id)
            if track is not None and track.watched.label.kind is watched.label.kind:
                track.change(watched, hop_s=hop_s)
                self._tracks[watched.label.id] = track
                del before[watched.label.id]
            else:
                self._tracks[watched.label.id] = self._track(watched)
        return self._ended(track.end(self._now_s) for track in before.values())

    def _track(self, watched: WatchedLabel) -> _Track:
        return _Track(watched, TIMING[watched.label.kind], hop_s=self.hop_s)

    @staticmethod
    def _ended(detections: Iterable[Detection | None]) -> list[Detection]:
        return [detection for detection in detections if detection is not None]
