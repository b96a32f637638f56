"""Turns the scores of one microphone's windows, and patterns, into the starts and ends of sounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clap_server.detection.judgement import Decision, Judgement
from clap_server.detection.patterns import RAISED_BY
from clap_server.detection.temporal import TIMING, Rule, Timing, make_rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from clap_server.detection.labels import WatchedLabel
    from clap_server.detection.patterns import AlarmPattern, DecodedPattern
    from clap_server.detection.windows import Window


# A score may hover between the two limits of the hysteresis for hours before a sound is confirmed; only so
# much of that belongs to it.
LONGEST_APPROACH_S = 15.0
# From this part of its threshold on a label came near, so that it is said what decided.
_NEAR = 0.5
PATTERN_SCORE = 1.0
"""Of what a pattern alone decides."""


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
        detected_s: end of the window, or the sound, that decided.
        ended_s: end of the last window in which it was heard; None while it lasts.
        score: of the deciding window, 0 to 1; ``PATTERN_SCORE`` if a pattern decided.
        peak_score: highest so far, 0 to 1.
        peak_level_dbfs: highest so far, dBFS.
        pattern: the first by which it was recognised, at its start or since; None if only by the model.
    """

    watched: WatchedLabel
    onset_s: float
    detected_s: float
    ended_s: float | None
    score: float
    peak_score: float
    peak_level_dbfs: float
    pattern: AlarmPattern | None = None


class _Track:
    """One label's memory."""

    def __init__(self, watched: WatchedLabel, timing: Timing, *, hop_s: float) -> None:
        self.watched = watched
        self._timing = timing
        self._rule: Rule = make_rule(watched.label.kind, watched.threshold, hop_s=hop_s)
        self.current: Detection | None = None
        self.patterns: set[AlarmPattern] = set()
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
            self._heard_s = max(self._heard_s, window.end_s)
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
        self._heard_s = window.end_s
        self.current = Detection(
            self.watched,
            self._own_onset_s(approach.onset_s),
            window.end_s,
            None,
            score,
            approach.peak_score,
            approach.peak_level_dbfs,
        )
        return self.current

    def take_pattern(self, pattern: DecodedPattern) -> Detection | None:
        """Take a pattern that begins or stops; return the detection if it starts or is confirmed by it."""
        if pattern.ended:
            self.patterns.discard(pattern.pattern)
            self._heard_s = max(self._heard_s, pattern.last_s)
            return None
        self.patterns.add(pattern.pattern)
        if self.current is None:
            # A pattern does not flap, so nothing is held off.
            self._heard_s = pattern.last_s
            self.current = Detection(
                self.watched,
                self._own_onset_s(pattern.onset_s),
                pattern.known_s,
                None,
                PATTERN_SCORE,
                PATTERN_SCORE,
                pattern.level_dbfs,
                pattern.pattern,
            )
        elif self.current.pattern is None:
            self.current = replace(
                self.current,
                pattern=pattern.pattern,
                peak_score=PATTERN_SCORE,
                peak_level_dbfs=max(self.current.peak_level_dbfs, pattern.level_dbfs),
            )
        else:
            return None
        return self.current

    def _own_onset_s(self, onset_s: float) -> float:
        """Leave what sounded before the end of the last event to that one."""
        return max(onset_s, self._free_at_s - self._timing.hold_off_s)

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
        if self.current is None or self.patterns:
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
        ended_s = max(self._heard_s, now_s) if self.patterns else min(self._heard_s, now_s)
        ended = replace(self.current, ended_s=ended_s)
        self.current = None
        self._approach = None
        self._free_at_s = now_s + self._timing.hold_off_s
        return ended


class Detector:
    """Watches the labels of one microphone.

    Feed it every window, in order; where none come, ``tick`` lets time pass. Patterns come when they are
    decoded, which may be before windows of the same time.

    A pattern starts an event at once, and one that goes on does not end before the pattern stops, nor is it
    cut off after the longest time: what decodes patterns always tells when they stop.

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
        self._patterns: dict[AlarmPattern, DecodedPattern] = {}
        self._now_s = float("-inf")

    @property
    def reporting(self) -> bool:
        """Whether an event goes on of which windows must tell when it ends."""
        return any(track.current is not None and not track.patterns for track in self._tracks.values())

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
        return self._those(track.end_if_due(self._now_s) for track in self._tracks.values()) + started

    def take_pattern(self, pattern: DecodedPattern) -> list[Detection]:
        """Take an alarm that was decoded or that stopped.

        Returns:
            The detections that started, and those that went on and now have their ``pattern``.
        """
        if pattern.ended:
            self._patterns.pop(pattern.pattern, None)
        else:
            self._patterns[pattern.pattern] = pattern
        tracks = [self._tracks[id_] for id_ in RAISED_BY[pattern.pattern] if id_ in self._tracks]
        return self._those(track.take_pattern(pattern) for track in tracks)

    def forget_patterns(self) -> None:
        """Let what patterns hold end by itself, because nothing is decoded any more."""
        self._patterns.clear()
        for track in self._tracks.values():
            track.patterns.clear()

    def judgements(self, window: Window, scores: Mapping[str, float]) -> list[Judgement]:
        """What the window that ``update`` just took did for each label that came near."""
        judged = (track.judgement(window.end_s, scores.get(id_, 0.0)) for id_, track in self._tracks.items())
        return [judgement for judgement in judged if judgement is not None]

    def tick(self, now_s: float) -> list[Detection]:
        """Let time pass where windows stopped coming; return what ended."""
        self._now_s = max(self._now_s, now_s)
        return self._those(track.end_if_due(self._now_s) for track in self._tracks.values())

    def finish(self, at_s: float | None = None) -> list[Detection]:
        """End everything now, because the stream broke off or listening stops.

        Args:
            at_s: when that was, and so when what goes on ended; if left out, each ended when last heard.
        """
        ended = self._those(track.end(self._now_s) for track in self._tracks.values())
        return ended if at_s is None else [replace(detection, ended_s=at_s) for detection in ended]

    def change(self, labels: Sequence[WatchedLabel], *, hop_s: float) -> list[Detection]:
        """Watch these labels from now on; events of labels that stay go on.

        Returns:
            The events that ended because their label is gone or of another kind, and those that started
            because a pattern of a new label goes on.

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
        ended = self._those(track.end(self._now_s) for track in before.values())
        going_on = [*self._patterns.values()]
        return ended + [detection for pattern in going_on for detection in self.take_pattern(pattern)]

    def _track(self, watched: WatchedLabel) -> _Track:
        return _Track(watched, TIMING[watched.label.kind], hop_s=self.hop_s)

    @staticmethod
    def _those(detections: Iterable[Detection | None]) -> list[Detection]:
        return [detection for detection in detections if detection is not None]
