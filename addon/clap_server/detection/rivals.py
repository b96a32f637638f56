"""One bang makes one event: labels that may be heard in the same bang compete for it.

A glass that breaks, a shot, a blow on metal, a door that slams and a knock are alike in their first moments,
so a model gives several of them high scores. Of those that are watched, the bang is named by the best score;
the others are told with it as *close*. Scores are left as they are: only events compete.

A bang goes on as long as its onsets follow each other within ``APART_S``: the shards of one break, the echoes
of one shot and a burst of knocks stay together. A window speaks of another bang if it has an onset after such
a pause, and if its scores cannot be those of the bang before: because it begins after that, or because the
label had not been heard in it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clap_server.detection.windows import Window

APART_S = 1.5
"""A pause between onsets that separates two bangs.

Shards fall within a second, knocks of one burst come two to four a second, and an echo that comes later has
gone more than 500 m.
"""
SAME_SOUND_S = 1.5
"""So long after its last onset a bang may still get a better name.

By then a regular window and both windows after the onset have been judged, the last with the sound well
inside, at any hop of up to a second.
"""
BODY_S = 0.3
"""A window that begins so long after an onset has heard next to nothing of that bang but its tail."""
CLOSE = 0.1
"""Under the named label's score, from where another counts as close; somewhat less than a factor of ten in
how often the two are wrong. Never under half of it."""
CLEARLY = 0.07
"""Above the named label's best score, from where another takes the bang over: half a factor of ten.

So no bang changes its name because two windows see it a little differently.
"""
MOST_A_MINUTE = 6
"""After so many events within a minute a further bang only prolongs the last one."""
_MINUTE_S = 60.0
# For sums of binary fractions.
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Close:
    """Another label that a sound might have been.

    Attributes:
        label: its id.
        score: its highest in the windows of the sound, 0 to 1.
    """

    label: str
    score: float


class Bid(NamedTuple):
    """What a window says for a label; ``convinced``: it would start an event by its own rule."""

    label_id: str
    score: float
    convinced: bool


@dataclass(frozen=True, slots=True)
class Named:
    """A label whose event starts with this window.

    Attributes:
        label_id: its id.
        score: in this window, 0 to 1.
        before: id of the label whose event ends with that, if one goes on.
        replaces: the event before was of the same bang, under another name.
        onset_s: stream time of the new bang's onset; None if it is not known, or the bang is not another.
    """

    label_id: str
    score: float
    before: str | None = None
    replaces: bool = False
    onset_s: float | None = None


class Contest:
    """Names the bangs of some labels that compete; one label alone only tells its bangs apart."""

    def __init__(self) -> None:
        self.named: str | None = None
        """Id of the label that the last bang was named by."""
        self.peak = 0.0
        """Its highest score in that bang."""
        self._close: dict[str, float] = {}
        self._heard: set[str] = set()
        self._names: set[str] = set()
        self._newest_onset_s = float("-inf")
        self._begun_s: deque[float] = deque(maxlen=MOST_A_MINUTE)

    @property
    def close(self) -> tuple[Close, ...]:
        """What else the last bang might have been, the best first."""
        return tuple(Close(*item) for item in sorted(self._close.items(), key=lambda item: -item[1]))

    def judge(self, window: Window, bids: Sequence[Bid], *, going_on: bool, held_off: bool) -> Named | None:
        """Take what the next window says for each label.

        Args:
            window: ends no earlier than the one before.
            bids: of all labels that compete. Of equal scores the first counts more.
            going_on: the event of ``named`` goes on.
            held_off: it ended so recently that nothing starts but by an onset of its own.
        """
        convinced = [bid for bid in bids if bid.convinced]
        if not (going_on or held_off):
            return self._begin(window, convinced, bids) if convinced else None
        before = self.named if going_on else None
        onset_s = self._follow(window) if convinced else None
        is_another = window.start_s >= self._newest_onset_s + BODY_S
        in_time = window.end_s - self._newest_onset_s <= SAME_SOUND_S
        named = None
        if onset_s is not None:
            fresh = [bid for bid in convinced if is_another or bid.label_id not in self._heard]
            if fresh and self._may_begin(window.end_s):
                named = self._begin(window, fresh, bids, before, onset_s)
            elif fresh:
                # One too many in this minute.
                self._newest_onset_s = window.onsets_s[-1]
        if named is None and going_on:
            better = [
                bid
                for bid in convinced
                if bid.label_id not in self._names and bid.score >= self.peak + CLEARLY - _TOLERANCE
            ]
            if better and in_time:
                named = self._replace(better, bids)
            elif better and is_another and self._may_begin(window.end_s):
                # Nothing rose, as in a loud place, but of the bang before it cannot be.
                named = self._begin(window, better, bids, before)
            else:
                self._listen(bids, in_time=in_time)
        self._heard.update(bid.label_id for bid in convinced)
        return named

    def _follow(self, window: Window) -> float | None:
        """Let the bang's onsets follow each other; return the first that is another bang's."""
        for onset_s in window.onsets_s:
            if onset_s >= self._newest_onset_s + APART_S - _TOLERANCE:
                return onset_s
            self._newest_onset_s = max(self._newest_onset_s, onset_s)
        return None

    def _may_begin(self, now_s: float) -> bool:
        while self._begun_s and self._begun_s[0] <= now_s - _MINUTE_S:
            self._begun_s.popleft()
        return len(self._begun_s) < MOST_A_MINUTE

    def _begin(
        self,
        window: Window,
        candidates: Sequence[Bid],
        bids: Sequence[Bid],
        before: str | None = None,
        onset_s: float | None = None,
    ) -> Named:
        """Name a new bang."""
        best = max(candidates, key=lambda bid: bid.score)
        self.named, self.peak = best.label_id, best.score
        self._names = {best.label_id}
        self._heard = {bid.label_id for bid in bids if bid.convinced}
        self._close = {}
        self._add(bids, CLOSE)
        if onset_s is None:
            # What sounded before the decision belongs to it.
            self._newest_onset_s = window.onsets_s[-1] if window.onsets_s else window.end_s
        else:
            self._newest_onset_s = onset_s
            self._follow(window)
        self._begun_s.append(window.end_s)
        return Named(best.label_id, best.score, before, onset_s=onset_s)

    def _replace(self, better: Sequence[Bid], bids: Sequence[Bid]) -> Named:
        """Give the bang that goes on a better name."""
        best = max(better, key=lambda bid: bid.score)
        before = self.named
        if before is not None:
            self._close[before] = self.peak
        self._close.pop(best.label_id, None)
        self.named, self.peak = best.label_id, best.score
        self._names.add(best.label_id)
        self._add(bids, CLOSE)
        return Named(best.label_id, best.score, before, replaces=True)

    def _listen(self, bids: Sequence[Bid], *, in_time: bool) -> None:
        """The bang keeps its name."""
        self.peak = max([self.peak, *(bid.score for bid in bids if bid.label_id == self.named)])
        self._add(bids, CLOSE if in_time else None)

    def _add(self, bids: Sequence[Bid], margin: float | None) -> None:
        """List what else it might have been: the convinced, and with a margin those that came so near."""
        for bid in bids:
            near = margin is not None and bid.score >= max(self.peak - margin, self.peak / 2) - _TOLERANCE
            if bid.label_id != self.named and (bid.convinced or near):
                self._close[bid.label_id] = max(self._close.get(bid.label_id, 0.0), bid.score)
