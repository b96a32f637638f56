"""Alarms that are told by their pattern, from the sound to the event, whatever the model does."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clap_server.audio.source import SourceState
from clap_server.listening.plan import make_plan
from tests.server.listening.rig import LIBRARY, MORNING, ArraySource, Rig, eventually, microphone
from tests.server.listening.spectral import RATE, SpectralModel, room, scene
from tests.server.listening.test_microphone import FailingModel


def beeps(
    starts_s: Sequence[float], on_s: float, *, carrier_hz: float = 900.0, peak: float = 0.1
) -> NDArray[np.float32]:
    """Beeps that the spectral model does not take for an alarm."""
    sound = np.zeros(round((starts_s[-1] + on_s) * RATE), np.float32)
    pulse = peak * np.sin(2 * np.pi * carrier_hz * np.arange(round(on_s * RATE)) / RATE)
    for start_s in starts_s:
        first = round(start_s * RATE)
        sound[first : first + len(pulse)] = pulse
    return sound


def t3(cycles: int, **options: float) -> NDArray[np.float32]:
    return beeps([4.0 * cycle + beep for cycle in range(cycles) for beep in range(3)], 0.5, **options)


def t4(cycles: int) -> NDArray[np.float32]:
    return beeps([5.7 * cycle + 0.2 * beep for cycle in range(cycles) for beep in range(4)], 0.1)


async def test_a_smoke_alarm_is_raised_once_by_its_pattern_and_ends(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(50, (3.0, t3(5)))), tmp_path)
    rig.listen_for("smoke alarm", "glass breaking", "carbon monoxide alarm")
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.ended))
        await rig.until_heard(50)
    (started,) = rig.sink.started
    ((ended, recording),) = rig.sink.ended
    assert (started.label_id, started.pattern, started.score) == ("smoke_alarm", "T3", 1.0)
    assert started.started_at.timestamp() == pytest.approx(MORNING + 3, abs=0.05)
    assert started.peak_level_dbfs == pytest.approx(-23, abs=0.5)
    assert (ended.id, ended.pattern) == (started.id, "T3")
    assert ended.ended_at is not None
    assert ended.ended_at.timestamp() == pytest.approx(MORNING + 3 + 18.5, abs=0.1)
    assert recording is not None
    assert recording.starts_at.timestamp() == pytest.approx(MORNING, abs=0.05)


async def test_a_carbon_monoxide_alarm_raises_what_is_watched_of_it(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(40, (3.0, t4(3)))), tmp_path)
    rig.listen_for("carbon monoxide alarm", "alarm", "smoke alarm")
    async with rig.running():
        await rig.sink.until(lambda: len(rig.sink.ended) == 2)
    assert {(event.label_id, event.pattern) for event in rig.sink.started} == {
        ("carbon_monoxide_alarm", "T4"),
        ("alarm", "T4"),
    }


async def test_a_chirp_once_a_half_minute_is_a_low_battery(tmp_path: Path) -> None:
    chirps = beeps([0.0, 30.0, 60.0, 90.0, 120.0], 0.08, carrier_hz=3200)
    rig = Rig(ArraySource(scene(240, (2.0, chirps)), block_s=0.5), tmp_path)
    rig.listen_for("smoke_alarm_low_battery")
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.ended))
        await rig.until_heard(239)
    assert [(event.label_id, event.pattern) for event in rig.sink.started] == [
        ("smoke_alarm_low_battery", "low_battery")
    ]
    # The event alone does not keep the model busy in the quiet between the chirps.
    assert rig.counters.gated > rig.counters.scored


async def test_a_pattern_that_is_not_watched_raises_nothing(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(30, (3.0, t3(5)))), tmp_path)
    rig.listen_for("glass breaking", "carbon monoxide alarm")
    async with rig.running():
        await rig.until_heard(30)
    assert rig.sink.started == []


async def test_a_pattern_below_the_gate_is_heard(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(40, (10.0, t3(5, peak=0.001)))), tmp_path)
    rig.listen_for("smoke alarm")
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.started))
    assert rig.sink.started[0].pattern == "T3"


async def test_a_smoke_alarm_is_heard_while_the_model_fails(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(50, (3.0, t3(5)))), tmp_path, model=FailingModel())
    rig.listen_for("smoke alarm")
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.ended))
        await eventually(lambda: rig.statuses[-1].state is SourceState.FAILED)
    assert [event.pattern for event in rig.sink.started] == ["T3"]
    assert rig.counters.scored == 0


class HangingModel(SpectralModel):
    """Gives no answer until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        self.released.wait(60)
        return super().embed_audio(windows)


async def test_a_smoke_alarm_starts_and_ends_while_the_model_hangs_and_windows_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clap_server.listening.judging._GRACE_S", 0.1)
    monkeypatch.setattr("clap_server.listening.judging._TICK_S", 0.05)
    # The source need not wait for a model that never answers.
    monkeypatch.setattr("clap_server.listening.hearing._UNDER_WAY", 1000)
    monkeypatch.setattr("clap_server.listening.judging._LONGEST_QUEUE", 10)
    model = HangingModel()
    # The stream breaks off within the second alarm: the gap waits behind the model too.
    rig = Rig(ArraySource(scene(45, (3.0, t3(5))), scene(20, (3.0, t3(5)))), tmp_path, model=model)
    rig.listen_for("smoke alarm")
    async with rig.running():
        await rig.sink.until(lambda: len(rig.sink.started) == 2)
        await rig.sink.until(lambda: bool(rig.sink.ended))
        assert rig.counters.scored == 0
        assert rig.counters.dropped > 0
        assert rig.listener.active == {"smoke_alarm"}
        model.released.set()
    assert [event.pattern for event in rig.sink.started] == ["T3", "T3"]
    assert [event.id for event, _ in rig.sink.ended] == [event.id for event in rig.sink.started]


async def test_an_event_of_a_stream_that_broke_off_ends_while_the_model_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clap_server.listening.judging._GRACE_S", 0.1)
    monkeypatch.setattr("clap_server.listening.judging._TICK_S", 0.05)
    # The source need not wait for a model that never answers.
    monkeypatch.setattr("clap_server.listening.hearing._UNDER_WAY", 1000)
    model = HangingModel()
    rig = Rig(ArraySource(scene(15, (3.0, t3(3))), room(1)), tmp_path, model=model)
    rig.listen_for("smoke alarm")
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.ended))
        assert rig.counters.scored == 0
        model.released.set()
    assert len(rig.sink.started) == len(rig.sink.ended) == 1


async def test_beeps_before_and_after_a_gap_are_no_pattern_together(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(7, (3.0, t3(1))), scene(12, (0.5, t3(1)))), tmp_path)
    rig.listen_for("smoke alarm")
    async with rig.running():
        await rig.sink.until(lambda: len(rig.sink.levels) == 38)
        await eventually(lambda: rig.listener._judging._judged_s > 11.9)
    assert rig.sink.started == []


async def test_an_event_of_the_model_gets_its_pattern_while_it_goes_on(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(50, (3.0, t3(5, carrier_hz=3000)))), tmp_path)
    rig.listen_for("alarm")
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.ended))
    (started,) = rig.sink.started
    (confirmed,) = rig.sink.confirmed
    ((ended, _),) = rig.sink.ended
    assert started.pattern is None
    assert confirmed == replace(
        started, pattern="T3", peak_score=1.0, peak_level_dbfs=confirmed.peak_level_dbfs
    )
    assert (ended.pattern, ended.score) == ("T3", started.score)


async def test_a_label_added_while_its_alarm_sounds_is_raised(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(200, (1.0, t3(49))), block_s=0.5), tmp_path)
    rig.listen_for("glass breaking")
    plan = make_plan(microphone(labels=("smoke alarm",)).settings, LIBRARY)
    async with rig.running():
        await rig.sink.until(lambda: len(rig.sink.levels) > 40)
        rig.listener.change(plan, None)
        await rig.sink.until(lambda: bool(rig.sink.started))
    assert [event.label_id for event in rig.sink.started] == ["smoke_alarm"]
