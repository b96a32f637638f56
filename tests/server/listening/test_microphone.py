"""One microphone from its sound to its events."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clap_server.audio.block import AudioBlock
from clap_server.audio.source import SourceState
from clap_server.errors import ModelError, StoreError
from clap_server.listening.events import SoundEvent
from clap_server.listening.plan import make_plan
from clap_server.listening.sink import Recording
from tests.server.listening.rig import (
    LIBRARY,
    MORNING,
    ArraySource,
    RememberingSink,
    Rig,
    eventually,
    microphone,
)
from tests.server.listening.spectral import RATE, SpectralModel, crash, room, scene, tone


def names(sink: RememberingSink) -> list[str]:
    return [event.label_id for event in sink.started]


async def test_a_break_is_reported_once_with_its_time_and_its_recording(tmp_path: Path) -> None:
    samples = scene(14, (5, crash()))
    rig = Rig(ArraySource(samples), tmp_path)
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.ended))
    assert names(rig.sink) == ["glass_breaking"]
    started = rig.sink.started[0]
    event, recording = rig.sink.ended[0]
    assert started.started_at.timestamp() == pytest.approx(MORNING + 5, abs=0.03)
    assert started.ended_at is None
    assert started.label_name == "Glass breaking"
    assert started.threshold == 0.7
    assert event.id == started.id
    assert event.ended_at is not None
    assert event.detected_at >= event.started_at
    assert event.started_at + timedelta(seconds=1) < event.ended_at < event.started_at + timedelta(seconds=3)
    assert event.peak_score >= event.score >= event.threshold
    assert -25 < event.peak_level_dbfs < -10
    assert recording is not None
    assert recording.starts_at.timestamp() == pytest.approx(MORNING + 2, abs=0.03)
    first = round((recording.starts_at.timestamp() - MORNING) * RATE)
    np.testing.assert_array_equal(recording.samples, samples[first : first + len(recording.samples)])
    assert 5 < len(recording.samples) / RATE < 9


async def test_an_alarm_is_one_event_as_long_as_it_sounds(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(24, (4, tone(10)))), tmp_path)
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.ended))
    assert names(rig.sink) == ["alarm"]
    _, recording = rig.sink.ended[0]
    assert recording is not None
    assert 13 < len(recording.samples) / RATE < 18


async def test_a_recording_is_at_most_thirty_seconds_and_begins_with_the_pre_roll(tmp_path: Path) -> None:
    samples = scene(80, (4, tone(60)))
    rig = Rig(ArraySource(samples), tmp_path)
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.ended))
    _, recording = rig.sink.ended[0]
    assert recording is not None
    assert len(recording.samples) == 30 * RATE
    assert recording.starts_at.timestamp() == pytest.approx(MORNING + 1, abs=0.1)


async def test_at_the_start_of_the_stream_the_pre_roll_is_what_there_is(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(9, (1, crash()))), tmp_path)
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.ended))
    _, recording = rig.sink.ended[0]
    assert recording is not None
    assert recording.starts_at.timestamp() == pytest.approx(MORNING)


async def test_quiet_is_counted_and_not_scored(tmp_path: Path) -> None:
    rig = Rig(ArraySource(room(40)), tmp_path)
    async with rig.running():
        await rig.until_heard(40)
    assert rig.counters.gated > 60
    at, level, floor, gated = rig.sink.levels[-1]
    assert len(rig.sink.levels) == 80
    assert level == pytest.approx(-60, abs=0.5)
    assert floor == pytest.approx(-60, abs=1)
    assert gated
    assert at.timestamp() == pytest.approx(MORNING + 40, abs=0.2)


async def test_scores_are_told_for_each_window_with_its_time(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(4, (1, tone(3)))), tmp_path)
    async with rig.running():
        await rig.until_heard(4)
    microphone_id, at, scores = rig.sink.all_scores[-1]
    assert microphone_id == "kitchen"
    assert at.timestamp() == pytest.approx(MORNING + 4)
    assert scores["alarm"] > 0.8
    assert scores["glass_breaking"] < 0.3


async def test_once_it_is_quiet_no_scores_are_told_once(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(30, (20, tone(2)))), tmp_path)
    async with rig.running():
        await rig.until_heard(30)
    told = [scores for _, _, scores in rig.sink.all_scores]
    assert told[-1] == {}
    assert told[-2]["glass_breaking"] < 0.5
    after = [at for _, at, scores in rig.sink.all_scores if not scores and at.timestamp() > MORNING + 20]
    assert len(after) == 1


async def test_when_the_stream_breaks_off_no_scores_are_told(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(3, (1, tone(2))), room(1)), tmp_path)
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.all_scores) and not rig.sink.all_scores[-1][2])
    _, at, _ = rig.sink.all_scores[-1]
    assert at.timestamp() == pytest.approx(MORNING + 3, abs=0.6)


async def test_an_event_ends_when_the_source_dies_in_the_middle_of_it(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(6, (2, tone(4))), scene(8, (2, crash()))), tmp_path)
    async with rig.running():
        await rig.sink.until(lambda: len(rig.sink.started) == 2)
        assert [event.label_id for event, _ in rig.sink.ended] == ["alarm"]
        assert rig.listener.active == {"glass_breaking"}
    assert [event.label_id for event, _ in rig.sink.ended] == ["alarm", "glass_breaking"]
    assert SourceState.LISTENING in {status.state for status in rig.statuses}
    assert any(status.state is not SourceState.LISTENING for status in rig.statuses)
    # The second stretch's recording holds nothing of the first.
    _, recording = rig.sink.ended[1]
    assert recording is not None
    assert recording.starts_at.timestamp() == pytest.approx(MORNING)


async def test_what_goes_on_ends_when_listening_is_stopped(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(5, (2, crash()))), tmp_path)
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.started))
    assert len(rig.sink.ended) == 1
    assert rig.listener.active == frozenset()


async def test_labels_change_without_losing_the_stream(tmp_path: Path) -> None:
    gate = asyncio.Event()
    first, second = scene(8, (2, tone(4)), (6.5, crash())), scene(8, (2, tone(6)))

    class Waiting(ArraySource):
        async def blocks(self, sample_rate: int) -> AsyncIterator[AudioBlock]:
            number = 0
            async for block in super().blocks(sample_rate):
                yield block
                number += 1
                if number == 80:
                    await gate.wait()

    rig = Rig(Waiting(np.concatenate((first, second))), tmp_path)
    rig.listen_for("glass breaking")
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.started))
        plan = make_plan(microphone(labels=("alarm",), hop_s=0.25).settings, LIBRARY)
        rig.listener.change(plan, await rig.listener.prepare(plan))
        await rig.sink.until(lambda: bool(rig.sink.ended))
        gate.set()
        await rig.sink.until(lambda: len(rig.sink.started) == 2)
    assert names(rig.sink) == ["glass_breaking", "alarm"]
    assert rig.source.opened == [RATE]


async def test_another_threshold_needs_no_new_text_embeddings(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(8, (2, tone(6)))), tmp_path)
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.started))
        before = rig.listener._scoring._present
        plan = make_plan(microphone(labels=("glass breaking", ("alarm", 0.3))).settings, LIBRARY)
        rig.listener.change(plan, await rig.listener.prepare(plan))
        assert rig.listener._scoring._present is before
        assert rig.listener.active == {"alarm"}


async def test_another_model_takes_over_without_losing_the_stream(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(30, (25, crash())), block_s=0.02), tmp_path)
    other = SpectralModel(window_s=1.0)
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.levels))
        rig.holder._use(other)
        await rig.sink.until(lambda: bool(rig.sink.started))
    assert rig.source.opened == [RATE]
    assert other.batches


async def test_with_windows_of_ten_seconds_a_break_is_one_event_with_its_own_time(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(60, (25, crash()))), tmp_path, model=SpectralModel(window_s=10.0))
    async with rig.running():
        await rig.until_heard(60)
    (started,), ((_, recording),) = rig.sink.started, rig.sink.ended
    assert started.started_at.timestamp() == pytest.approx(MORNING + 25, abs=0.03)
    first = next(at for _, at, scores in rig.sink.all_scores if scores.get("glass_breaking", 0) >= 0.7)
    assert first.timestamp() < MORNING + 25.8
    assert recording is not None
    assert recording.starts_at.timestamp() == pytest.approx(MORNING + 22, abs=0.03)
    assert 13 < len(recording.samples) / RATE < 16


async def test_a_model_of_another_rate_gets_the_stream_at_that_rate(tmp_path: Path) -> None:
    rig = Rig(
        ArraySource(scene(20, (2, tone(18))), scene(20, (4, tone(9, rate=32_000)), rate=32_000)), tmp_path
    )
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.started))
        rig.holder._use(SpectralModel(sample_rate=32_000))
        await rig.sink.until(lambda: len(rig.sink.started) == 2)
    assert rig.source.opened == [RATE, 32_000]
    assert len(rig.sink.ended) == 2


class FailingModel(SpectralModel):
    """Fails until it is mended."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = True

    def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        if self.broken:
            raise RuntimeError("CUDA error")
        return super().embed_audio(windows)


async def test_a_model_that_cannot_embed_the_labels_leaves_the_old_one_at_work(tmp_path: Path) -> None:
    class Mute(SpectralModel):
        def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
            raise ModelError(f"{len(texts)} texts are too many")

    rig = Rig(ArraySource(scene(40, (30, crash())), block_s=0.02), tmp_path)
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.levels))
        rig.holder._use(Mute())
        await rig.sink.until(lambda: bool(rig.sink.started))
        await eventually(lambda: "model_failed" in [status.code for status in rig.statuses])


async def test_a_failing_model_is_shown_once_and_hearing_returns(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(300, (1, tone(299))), block_s=0.5), tmp_path)
    model = FailingModel()
    rig.holder._use(model)
    async with rig.running():
        await eventually(lambda: rig.counters.failed >= 3)
        assert [status.code for status in rig.statuses].count("model_failed") == 1
        assert rig.statuses[-1].code == "model_failed"
        assert "CUDA error" in rig.statuses[-1].reason
        model.broken = False
        await rig.sink.until(lambda: bool(rig.sink.started))
        assert rig.statuses[-1].state is SourceState.LISTENING


async def test_an_event_ends_although_the_model_fails_from_then_on(tmp_path: Path) -> None:
    model = FailingModel()
    model.broken = False
    rig = Rig(ArraySource(scene(300, (1, tone(299))), block_s=0.5), tmp_path)
    rig.holder._use(model)
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.started))
        model.broken = True
        await rig.sink.until(lambda: bool(rig.sink.ended))
        assert rig.listener.active == frozenset()


async def test_a_model_that_hangs_is_shown_and_takes_no_more_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clap_server.listening.judging._ANSWER_S", 0.1)
    monkeypatch.setattr("clap_server.listening.judging._TICK_S", 0.05)
    monkeypatch.setattr("clap_server.listening.judging._LONGEST_QUEUE", 10)
    released = threading.Event()

    class Hanging(SpectralModel):
        def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
            released.wait(60)
            return super().embed_audio(windows)

    rig = Rig(ArraySource(scene(60, (1, tone(59))), block_s=0.5), tmp_path, model=Hanging())
    async with rig.running():
        await eventually(lambda: bool(rig.statuses) and rig.statuses[-1].code == "model_failed")
        assert "has not answered" in rig.statuses[-1].reason
        await rig.sink.until(lambda: len(rig.sink.levels) == 120)
        assert rig.listener._judging._queue.qsize() == 10
        assert rig.counters.dropped > 50
        released.set()
        await eventually(lambda: rig.statuses[-1].state is SourceState.LISTENING)


async def test_a_model_that_comes_meanwhile_does_not_bring_the_old_labels_back(tmp_path: Path) -> None:
    rig = Rig(ArraySource(), tmp_path)
    rig.listen_for("glass breaking")
    plan = make_plan(microphone(labels=("alarm",)).settings, LIBRARY)
    async with rig.running():
        await eventually(lambda: rig.listener._scoring._present is not None)
        scoring = await rig.listener.prepare(plan)
        released = threading.Event()
        blocking = asyncio.create_task(rig.batcher.run(lambda: released.wait(60)))
        # The model that comes is asked for the old labels, and answers after the change to the new ones.
        rig.holder._use(newer := SpectralModel())
        await eventually(lambda: not rig.listener._scoring._outdated.is_set())
        rig.listener.change(plan, scoring)
        released.set()
        await blocking

        def ready() -> bool:
            now = rig.listener._scoring._present
            return now is not None and now.model is newer

        await eventually(ready)
        assert rig.listener._scoring._present is not None
        assert rig.listener._scoring._present.scorer.label_ids == ("alarm",)


async def test_stopping_waits_until_the_end_of_an_event_is_told(tmp_path: Path) -> None:
    telling, released = asyncio.Event(), asyncio.Event()

    class SlowSink(RememberingSink):
        async def event_ended(self, event: SoundEvent, recording: Recording | None) -> None:
            telling.set()
            await released.wait()
            await super().event_ended(event, recording)

    sink = SlowSink()
    rig = Rig(ArraySource(scene(14, (5, crash()))), tmp_path, sink)
    async with rig.running():
        await telling.wait()
        asyncio.get_running_loop().call_later(0.2, released.set)
    assert len(sink.ended) == 1


@pytest.mark.parametrize("error", [StoreError("the disk is full"), RuntimeError("the disk is full")])
async def test_a_store_that_fails_does_not_end_listening(
    tmp_path: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    class FullSink(RememberingSink):
        async def event_started(self, event: SoundEvent) -> None:
            await super().event_started(event)
            raise error

    sink = FullSink()
    rig = Rig(ArraySource(scene(20, (2, crash()), (12, crash()))), tmp_path, sink)
    async with rig.running():
        await sink.until(lambda: len(sink.started) == 2)
    assert "the disk is full" in caplog.text
    assert "broke off" not in caplog.text


async def test_events_keep_the_order_of_the_stream_in_a_burst(tmp_path: Path) -> None:
    """All of the sound arrives in one block, as from a client that sends what it saved up."""
    rig = Rig(ArraySource(scene(20, (3, crash()), (12, tone(8))), block_s=20), tmp_path)
    async with rig.running():
        await rig.sink.until(lambda: len(rig.sink.started) == 2)
        first, second = rig.sink.started
        assert (first.label_id, second.label_id) == ("glass_breaking", "alarm")
        assert second.started_at - first.started_at == pytest.approx(
            timedelta(seconds=9), abs=timedelta(seconds=0.5)
        )
    assert rig.counters.dropped == 0


async def test_an_event_ends_by_the_clock_when_the_model_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clap_server.listening.judging._GRACE_S", 0.1)
    monkeypatch.setattr("clap_server.listening.judging._TICK_S", 0.05)
    rig = Rig(ArraySource(scene(3, (2, crash()))), tmp_path)
    async with rig.running():
        # No window follows: as if the model never answered again.
        await rig.sink.until(lambda: bool(rig.sink.ended))
    assert len(rig.sink.ended) == 1


async def test_a_mute_microphone_is_a_problem_until_there_is_sound(tmp_path: Path) -> None:
    samples = np.concatenate((room(2), np.zeros(65 * RATE, np.float32), room(3)))
    rig = Rig(ArraySource(samples), tmp_path)
    async with rig.running():
        await rig.until_heard(70)
    told = [(status.state, status.code) for status in rig.statuses]
    assert told == [
        (SourceState.CONNECTING, "connecting"),
        (SourceState.LISTENING, "listening"),
        (SourceState.STALLED, "silent"),
        (SourceState.LISTENING, "listening"),
    ]
    assert "muted" in rig.statuses[2].reason


async def test_a_mute_microphone_that_connects_again_is_listened_to_first(tmp_path: Path) -> None:
    rig = Rig(ArraySource(np.zeros(61 * RATE, np.float32), np.zeros(RATE, np.float32)), tmp_path)
    async with rig.running():
        await eventually(lambda: len(rig.statuses) >= 5)
    told = [status.code for status in rig.statuses]
    assert told == ["connecting", "listening", "silent", "closed", "listening"]


async def test_a_quiet_room_is_not_mute(tmp_path: Path) -> None:
    rig = Rig(ArraySource(room(70, dbfs=-95)), tmp_path)
    async with rig.running():
        await rig.until_heard(70)
    assert [status.code for status in rig.statuses] == ["connecting", "listening"]
