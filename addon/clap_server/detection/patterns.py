"""Alarms that a standard describes, told by the pattern of their beeps alone.

- T3, smoke and fire (ISO 8201, ANSI/ASA S3.41, NFPA 72): three pulses of 0.5 s, 0.5 s apart, then 1.5 s of
  silence; again every 4 s.
- T4, carbon monoxide (UL 2034): four pulses of 0.1 s, 0.1 s apart, then 5 s of silence; after four minutes
  the pause may be as long as a minute.
- The chirp of an alarm whose battery is low (UL 217): one short beep a half to a full minute apart.

The standards allow 10 % of deviation. Onsets are sharp even where a room rings, ends are not, so that the
starts are held to the pattern and the lengths only roughly.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from clap_server.detection.pulses import PulseFinder, PulseLength

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from clap_server.detection.pulses import Pulse


class AlarmPattern(StrEnum):
    """What the beeps say."""

    T3 = "T3"
    T4 = "T4"
    LOW_BATTERY = "low_battery"


RAISED_BY: Mapping[AlarmPattern, tuple[str, ...]] = {
    AlarmPattern.T3: ("smoke_alarm", "alarm"),
    AlarmPattern.T4: ("carbon_monoxide_alarm", "alarm"),
    AlarmPattern.LOW_BATTERY: ("smoke_alarm_low_battery",),
}
"""Ids of the labels that a pattern means, the one that says most first."""


@dataclass(frozen=True, slots=True)
class DecodedPattern:
    """An alarm in stream time, seconds.

    Attributes:
        pattern: which.
        carrier_hz: of its beeps.
        onset_s: start of the first beep that was recognised.
        last_s: end of the newest one.
        known_s: when it was recognised, or was found to have stopped.
        level_dbfs: RMS level of the newest beep at its peak; up to 4 dB too low where a channel beside the
            carrier recognised it.
        ended: whether it has stopped since.
    """

    pattern: AlarmPattern
    carrier_hz: float
    onset_s: float
    last_s: float
    known_s: float
    level_dbfs: float
    ended: bool = False


@dataclass(frozen=True, slots=True)
class _Shape:
    """A group of pulses and what comes between two groups.

    Attributes:
        length: how its pulses are watched for.
        pulses: in a group.
        step_s: from the start of one to the start of the next.
        on_s: length of a pulse.
        shortest_s: of a pulse as it is heard; short where the room cancels its carrier.
        longest_s: of a pulse, in a room that rings.
        cycles_s: from group to group, each as lowest and highest.
        joined_s: shorter gaps are the room's beats, not silence.
        groups: needed to recognise it.
        lasting: needed for it to go on.
        lowest_db: every pulse must be so prominent.
        steady_db: pulses that are less steady are a bell's, or a sounder's whose room nearly cancels it: one
            more group is needed to tell.
    """

    length: PulseLength
    pulses: int
    step_s: float
    on_s: float
    shortest_s: float
    longest_s: float
    cycles_s: tuple[tuple[float, float], ...]
    joined_s: float
    groups: int
    lasting: int = 1
    lowest_db: float = 12.0
    steady_db: float = -np.inf

    @property
    def memory_s(self) -> float:
        """How long pulses matter: for as many cycles as may be needed."""
        return (self.groups + 1) * self.cycles_s[-1][1]

    def is_step(self, seconds: float) -> bool:
        """Whether two starts are a step apart: within the standards' 10 % and the grid of the pulses."""
        return abs(seconds - self.step_s) <= 0.1 * self.step_s + _GRID_S

    def is_cycle(self, seconds: float) -> bool:
        return any(low <= seconds <= high for low, high in self.cycles_s)


_SHAPES = {
    AlarmPattern.T3: _Shape(
        PulseLength.LONG, 3, 1.0, 0.5, 0.35, 0.95, ((3.55, 4.45),), joined_s=0.15, groups=2, steady_db=-4.0
    ),
    AlarmPattern.T4: _Shape(
        PulseLength.SHORT, 4, 0.2, 0.1, 0.02, 0.19, ((5.1, 6.4), (50.0, 70.0)), joined_s=0.035, groups=2
    ),
    AlarmPattern.LOW_BATTERY: _Shape(
        PulseLength.LONG,
        1,
        0.0,
        0.1,
        0.015,
        0.4,
        ((28.0, 66.0),),
        joined_s=0.15,
        groups=4,
        lasting=2,
        lowest_db=14.0,
    ),
}
_GRID_S = 0.025
# Cycles of one chirp are alike: its clock is a quartz or an RC oscillator, not a bird.
_CHIRP_DEVIATION = 0.02
# Within a pause no beep may come near those of the alarm.
_QUIETER_DB = 6.0
# Two parts of a beep are as loud, a noise before it is not.
_ALIKE_DB = 10.0
# An alarm goes on though one group of it was not heard, and after so long it may slow down.
_PATIENCE = 1.1
_SLOWS_AFTER_S = 200.0


@dataclass(frozen=True, slots=True)
class _GoingOn:
    """An alarm with the time at which it is over, if nothing more of it is heard."""

    alarm: DecodedPattern
    cycle_s: float
    over_s: float


class PatternDecoder:
    """Listens to all sound of one stretch of a stream, before the gate and without a model.

    Args:
        sample_rate: in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._finder = PulseFinder(sample_rate)
        self._pulses: dict[tuple[AlarmPattern, int], deque[Pulse]] = {}
        self._going_on: dict[AlarmPattern, _GoingOn] = {}

    def feed(self, samples: NDArray[np.float32]) -> list[DecodedPattern]:
        """Take the next ``(n,)`` samples of the stream, full scale -1..1.

        Returns:
            Alarms that were recognised or that stopped.
        """
        changes: list[DecodedPattern] = []
        for pulse in self._finder.feed(samples):
            changes += self._stopped(pulse.known_s)
            for pattern, shape in _SHAPES.items():
                if shape.length is pulse.length:
                    changes += self._take(pattern, shape, pulse)
        return changes + list(self._stopped(self._finder.now_s))

    def _take(self, pattern: AlarmPattern, shape: _Shape, pulse: Pulse) -> Iterator[DecodedPattern]:
        history = self._pulses.setdefault((pattern, pulse.channel), deque())
        _remember(history, pulse, shape)
        before = self._going_on.get(pattern)
        starts = _groups(shape, history, lasts=before is not None)
        if not starts:
            return
        cycle_s = starts[0] - starts[1] if before is None or len(starts) > 1 else before.cycle_s
        newest = history[-1]
        alarm = DecodedPattern(
            pattern,
            self._finder.carrier_hz(newest.channel) if before is None else before.alarm.carrier_hz,
            starts[-1] if before is None else before.alarm.onset_s,
            newest.end_s,
            pulse.known_s,
            newest.level_dbfs,
        )
        if before is None:
            yield alarm
        pause_s = (shape.lasting + _PATIENCE) * cycle_s
        if newest.end_s - alarm.onset_s > _SLOWS_AFTER_S:
            pause_s = max(pause_s, _PATIENCE * shape.cycles_s[-1][1])
        self._going_on[pattern] = _GoingOn(alarm, cycle_s, newest.end_s + pause_s)

    def _stopped(self, now_s: float) -> Iterator[DecodedPattern]:
        for pattern, going_on in tuple(self._going_on.items()):
            if now_s > going_on.over_s:
                del self._going_on[pattern]
                yield replace(going_on.alarm, known_s=going_on.over_s, ended=True)


def _remember(history: deque[Pulse], pulse: Pulse, shape: _Shape) -> None:
    before = history[-1] if history else None
    if (
        before is not None
        and pulse.start_s - before.end_s < shape.joined_s
        and abs(pulse.prominence_db - before.prominence_db) < _ALIKE_DB
    ):
        history.pop()
        pulse = replace(
            before,
            end_s=pulse.end_s,
            known_s=pulse.known_s,
            level_dbfs=max(before.level_dbfs, pulse.level_dbfs),
            prominence_db=max(before.prominence_db, pulse.prominence_db),
            steadiness_db=min(before.steadiness_db, pulse.steadiness_db),
        )
    elif before is not None and before.prominence_db < shape.lowest_db:
        # Nothing came to join it, so it stays too faint to count.
        history.pop()
    history.append(pulse)
    while history[0].end_s < pulse.end_s - shape.memory_s:
        history.popleft()


def _groups(shape: _Shape, history: Sequence[Pulse], *, lasts: bool) -> list[float]:
    """Starts of the groups that end with the newest pulse, newest first; empty if they are too few."""
    last = history[-1]
    if last.prominence_db < shape.lowest_db:
        return []
    starts: list[float] = []
    needed = shape.lasting if lasts else shape.groups
    while group := _group(shape, history, last):
        first = group[-1]
        starts.append(first.start_s)
        if not lasts and min(pulse.steadiness_db for pulse in group) < shape.steady_db:
            needed = shape.groups + 1
        quiet_db = min(first.prominence_db, last.prominence_db) - _QUIETER_DB
        before = [p for p in history if p.start_s < first.start_s - _GRID_S and p.prominence_db >= quiet_db]
        if len(starts) >= needed:
            # Nothing may belong to the oldest group that the pattern does not have.
            alone = not before or first.start_s - before[-1].start_s > 1.5 * shape.step_s
            return starts if alone and _steady(shape, starts) else []
        found = _last_of_group_before(shape, before, first)
        if found is None:
            break
        last = found
    return []


def _group(shape: _Shape, pulses: Sequence[Pulse], last: Pulse) -> list[Pulse]:
    """Go back from the last pulse of a group to its first; empty if one is missing."""
    if not _fits(shape, last):
        return []
    group = [last]
    while len(group) < shape.pulses:
        newest_s = group[-1].start_s
        found = next((p for p in pulses if shape.is_step(newest_s - p.start_s) and _fits(shape, p)), None)
        if found is None:
            return []
        group.append(found)
    return group


def _last_of_group_before(shape: _Shape, before: Sequence[Pulse], first: Pulse) -> Pulse | None:
    """The pulse that ends the group a cycle before; None if the pause between is not quiet."""
    if not before:
        return None
    span_s = (shape.pulses - 1) * shape.step_s
    # A room may make two of one: the beep itself, and what is left when it stops.
    newest = [p for p in before if p.start_s >= before[-1].start_s - 1.1 * shape.on_s - 2 * _GRID_S]
    return next(
        (
            p
            for p in reversed(newest)
            if shape.is_cycle(first.start_s - p.start_s + span_s) and _fits(shape, p)
        ),
        None,
    )


def _fits(shape: _Shape, pulse: Pulse) -> bool:
    return shape.shortest_s <= pulse.duration_s <= shape.longest_s


def _steady(shape: _Shape, starts: Sequence[float]) -> bool:
    """Whether the cycles are alike, which single beeps must be to be told from a bird's."""
    cycles = [later - earlier for later, earlier in pairwise(starts)]
    return shape.pulses > 1 or max(cycles) - min(cycles) <= _CHIRP_DEVIATION * max(cycles)
