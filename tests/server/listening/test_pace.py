"""Where there are too many windows, each microphone has every second looked at, before any is dropped."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from clap_server.audio.source import SourceState
from clap_server.listening.diary import Fate, WindowNote
from clap_server.listening.pace import Pace
from tests.server.listening.rig import ArraySource, Live, Rig
from tests.server.listening.spectral import crash, room, scene, tone

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    """Goes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Load:
    """What a batcher tells of some seconds."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.pace = Pace(self.clock)

    def goes_on(self, seconds: float, *, busy: float, late: float) -> int:
        """So busy and late for so long; what the pace is then."""
        for second in range(round(seconds)):
            for window in range(20):
                self.pace.take(late=window < 20 * late)
            self.pace.worked(busy)
            self.clock.now_s += 1.0
            del second
        return self.pace.every


def test_a_model_that_keeps_up_looks_at_every_window() -> None:
    assert Load().goes_on(60, busy=0.9, late=0.1) == 1


def test_windows_that_come_in_bursts_to_a_model_with_time_for_them_are_all_looked_at() -> None:
    assert Load().goes_on(60, busy=0.2, late=0.9) == 1


def test_a_model_that_works_without_a_pause_and_is_late_looks_at_every_second_after_some_seconds() -> None:
    load = Load()
    assert load.goes_on(3, busy=0.95, late=0.9) == 1
    assert load.goes_on(2, busy=0.95, late=0.9) == 2


def test_every_window_is_looked_at_again_when_there_is_time_for_all_and_not_before() -> None:
    load = Load()
    assert load.goes_on(5, busy=0.95, late=0.9) == 2
    assert load.goes_on(120, busy=0.5, late=0.0) == 2, "with all windows it would be too much again"
    assert load.goes_on(5, busy=0.3, late=0.0) == 1


def test_every_window_is_looked_at_again_when_the_others_have_gone() -> None:
    load = Load()
    assert load.goes_on(5, busy=0.95, late=0.9) == 2
    load.clock.now_s += 10
    assert load.pace.every == 1


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pace, "every", 2)


def _fates(rig: Rig) -> list[tuple[float, Fate]]:
    notes = [note for note in rig.diary.last(1e9) if isinstance(note, WindowNote)]
    return [(note.window.end_s, note.fate) for note in notes]


@pytest.mark.usefixtures("crowded")
async def test_every_second_window_is_looked_at_evenly_the_rest_is_counted_and_told(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(30, (5, tone(20)))), tmp_path)
    async with rig.running():
        await rig.until_heard(30)
    steady = [(end_s, fate) for end_s, fate in _fates(rig) if 8 < end_s < 24]
    scored = [end_s for end_s, fate in steady if fate is Fate.SCORED]
    assert len(scored) == 15
    assert {round(later - earlier, 3) for earlier, later in pairwise(scored)} == {1.0}
    assert rig.counters.dropped >= 15
    assert [event.label_id for event in rig.sink.started] == ["alarm"], "what lasts is still found"
    [slow] = [status for status in rig.statuses if status.code == "too_slow"]
    assert slow.state is SourceState.LISTENING
    assert slow.reason == (
        "the computer is too slow for a window each 0.5 s: for now it looks at one each 1 s; use fewer"
        " microphones or a longer hop"
    )


@pytest.mark.usefixtures("crowded")
async def test_what_rises_suddenly_is_looked_at_as_soon_as_ever(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(30, (5, tone(20)), (20.3, 3 * crash()))), tmp_path)
    async with rig.running():
        await rig.until_heard(30)
    after = [(round(end_s, 1), fate) for end_s, fate in _fates(rig) if 20.3 < end_s < 22.1]
    assert after == [(20.5, Fate.SCORED), (21.0, Fate.SCORED), (21.5, Fate.DROPPED), (22.0, Fate.SCORED)]


async def test_all_is_looked_at_and_told_again_when_there_is_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "every", 2)
    live = Live(tmp_path)
    async with live.listening():
        live.fed.feed(tone(10))
        await live.judged(30)
        assert live.statuses[-1].code == "too_slow"
        monkeypatch.setattr(Pace, "every", 1)
        before = live.counters.dropped
        # Too quiet to be looked at is soon enough, too.
        live.fed.feed(room(5))
        live.fed.feed(tone(10))
        await live.judged(45)
    assert live.statuses[-1].code == "listening"
    assert live.counters.dropped == before


@pytest.mark.usefixtures("crowded")
async def test_nothing_is_left_out_where_what_lasts_could_not_be_found_any_more(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(12, (2, tone(10)))), tmp_path)
    rig.listen_for("alarm", hop_s=0.25)
    async with rig.running():
        await rig.until_heard(12)
    assert rig.counters.dropped == 0
    assert all(status.code != "too_slow" for status in rig.statuses)
