"""Turns the scores of one microphone's windows, and patterns, into the starts and ends of sounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clap_server.detection.judgement import Decision, Judgement, Nearer
from clap_server.detection.labels import LabelKind
from clap_server.detection.patterns import RAISED_BY
from clap_server.detection.rivals import Bid, Close, Contest
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
        close: what else an impulsive sound might have been, the best first.
        replaced_by: id of the label by which the same sound was named better, which ended this detection.
    """

    watched: WatchedLabel
    onset_s: float
    detected_s: float
    ended_s: float | None
    score: float
    peak_score: float
    peak_level_dbfs: float
    pattern: AlarmPattern | None = None
    close: tuple[Close, ...] = ()
    replaced_by: str | None = None


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
        self._nearer: Nearer | None = None

    def change(self, watched: WatchedLabel, *, hop_s: float) -> None:
        """Take another threshold or hop; a running event goes on by the new rule."""
        self.watched = watched
        self._rule = make_rule(watched.label.kind, watched.threshold, hop_s=hop_s)

    def hear(self, window: Window, score: float) -> bool:
        """Take one score; return whether the rule is now convinced."""
        convinced = self._rule.starts(window.end_s, score)
        self._held_off = False
        self._nearer = None
        if not self._rule.present:
            self._approach = None
        elif self.current is not None:
            self._heard_s = max(self._heard_s, window.end_s)
            self.current = replace(
                self.current,
                peak_score=max(self.current.peak_score, score),
                peak_level_dbfs=max(self.current.peak_level_dbfs, window.level_dbfs),
            )
        else:
            self._approach = self._approached(window, score)
        return convinced

    def is_free(self, now_s: float) -> bool:
        """Whether an event may start; if not, that is what decided about this window."""
        self._held_off = self.current is None and now_s < self._free_at_s
        return self.current is None and not self._held_off

    def lose(self, nearer: Nearer) -> None:
        """Another label names the sound."""
        self._nearer = nearer

    def start(self, window: Window, score: float, onset_s: float | None = None) -> Detection:
        """Start an event with the window that was heard last.

        Args:
            window: that one.
            score: in it.
            onset_s: of a sound that only this window told apart from the one before; None if all that was
                heard of the label until now leads to it.
        """
        approach = self._approach
        if onset_s is not None or approach is None:
            first_s = (window.start_s + window.end_s) / 2 if onset_s is None else onset_s
            approach = _Approach(window.end_s, first_s, score, window.level_dbfs)
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
        elif self._nearer is not None:
            decision = Decision.OUTDONE
        elif self._held_off:
            decision = Decision.HELD_OFF
        elif self._rule.counted:
            decision = Decision.UNCONFIRMED
        elif score >= _NEAR * self.watched.threshold:
            decision = Decision.UNDER_THRESHOLD
        else:
            return None
        held_until_s = self._free_at_s if self._held_off else None
        return Judgement(self.watched, score, decision, self._rule.progress, held_until_s, self._nearer)

    def end_if_due(self, now_s: float) -> Detection | None:
        """End the event if its time is over; return it if it just ended."""
        if self.current is None or self.patterns:
            return None
        started_s = self.current.detected_s
        released_s = max(started_s + self._timing.minimum_on_s, self._heard_s + self._timing.release_s)
        if now_s < min(released_s, started_s + self._timing.maximum_on_s):
            return None
        return self.end(now_s)

    def end(self, now_s: float, *, replaced_by: str | None = None) -> Detection | None:
        """End the event now."""
        if self.current is None:
            return None
        ended_s = max(self._heard_s, now_s) if self.patterns else min(self._heard_s, now_s)
        ended = replace(self.current, ended_s=ended_s, replaced_by=replaced_by)
        self.current = None
        self._approach = None
        self._free_at_s = now_s + self._timing.hold_off_s
        return ended


class Detector:
    """Watches the labels of one microphone.

    Feed it every window, in order; where none come, ``tick`` lets time pass. Patterns come when they are
    decoded, which may be before windows of the same time.

    Impulsive labels that are rivals compete for each bang (see ``Contest``), so at most one event of them
    goes on at a time.

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
        self._contests: dict[tuple[str, str], tuple[Contest, list[_Track]]] = {}
        self._compete()
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
            The detections that ended; those that started (``ended_s`` is None); and those that go on and
            might now be another label as well (see ``Detection.close``).
        """
        self._now_s = max(self._now_s, window.end_s)
        convinced = {id_: track.hear(window, scores.get(id_, 0.0)) for id_, track in self._tracks.items()}
        ended: list[Detection | None] = []
        started: list[Detection | None] = []
        for contest, tracks in self._contests.values():
            ids = [track.watched.label.id for track in tracks]
            bids = [Bid(id_, scores.get(id_, 0.0), convinced[id_]) for id_ in ids]
            before, detection = self._decide(contest, window, bids)
            ended.append(before)
            started.append(detection)
        for id_, track in self._tracks.items():
            sustained = track.watched.label.kind is LabelKind.SUSTAINED
            if sustained and convinced[id_] and track.is_free(window.end_s):
                started.append(track.start(window, scores[id_]))
        ended += [track.end_if_due(self._now_s) for track in self._tracks.values()]
        doubted = [self._doubted(contest) for contest, _ in self._contests.values()]
        return self._those(ended + started + doubted)

    def _decide(
        self, contest: Contest, window: Window, bids: Sequence[Bid]
    ) -> tuple[Detection | None, Detection | None]:
        """Let labels compete for a window; return what ended by it, and what started."""
        last = None if contest.named is None else self._tracks.get(contest.named)
        going_on = last is not None and last.current is not None
        free = last is None or last.is_free(window.end_s)
        named = contest.judge(window, bids, going_on=going_on, held_off=not (going_on or free))
        ended = started = None
        if named is not None:
            onset_s = named.onset_s
            if last is not None and (current := last.current) is not None:
                if named.replaces:
                    onset_s = current.onset_s
                    ended = last.end(window.end_s, replaced_by=named.label_id)
                else:
                    ended = last.end(window.end_s if onset_s is None else max(onset_s, current.detected_s))
            track = self._tracks[named.label_id]
            started = track.current = replace(track.start(window, named.score, onset_s), close=contest.close)
        winner = None if contest.named is None else self._tracks.get(contest.named)
        if winner is not None and winner.current is not None:
            nearer = Nearer(winner.watched, contest.peak)
            outdone = {bid.label_id for bid in bids if bid.convinced}
            if named is not None and named.replaces:
                outdone.add(str(named.before))
            for label_id in outdone - {contest.named}:
                self._tracks[label_id].lose(nearer)
        return ended, started

    def _doubted(self, contest: Contest) -> Detection | None:
        """Keep what else a sound that goes on might be; return its detection if that is more than before."""
        track = None if contest.named is None else self._tracks.get(contest.named)
        if track is None or track.current is None or track.current.close == contest.close:
            return None
        known = {close.label for close in track.current.close}
        track.current = replace(track.current, close=contest.close)
        return track.current if any(close.label not in known for close in contest.close) else None

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
        self._compete()
        ended = self._those(track.end(self._now_s) for track in before.values())
        going_on = [*self._patterns.values()]
        return ended + [detection for pattern in going_on for detection in self.take_pattern(pattern)]

    def _track(self, watched: WatchedLabel) -> _Track:
        return _Track(watched, TIMING[watched.label.kind], hop_s=self.hop_s)

    def _compete(self) -> None:
        """Put the impulsive labels into their contests; one whose last winner is still watched goes on."""
        before, self._contests = self._contests, {}
        for id_, track in self._tracks.items():
            label = track.watched.label
            if label.kind is LabelKind.IMPULSIVE:
                key = ("label", id_) if label.rivals is None else ("rivals", label.rivals)
                contest, tracks = self._contests.get(key) or (before.get(key, (Contest(), []))[0], [])
                self._contests[key] = (contest, [*tracks, track])
        for key, (contest, tracks) in self._contests.items():
            if contest.named is not None and contest.named not in self._tracks:
                self._contests[key] = (Contest(), tracks)

    @staticmethod
    def _those(detections: Iterable[Detection | None]) -> list[Detection]:
        return [detection for detection in detections if detection is not None]
