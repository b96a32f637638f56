"""A self-test says whether a sound is found; no alarm comes of it, and none is lost to it."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server import synthesis
from clap_server.clap.builtin import load_builtin
from clap_server.listening.diary import MomentKind, MomentNote, WindowNote
from clap_server.listening.examples import TESTABLE, example
from clap_server.listening.self_test import Outcome, SelfTestError
from clap_server.listening.words import nearest_words
from tests.server.listening.rig import MORNING, Live, eventually
from tests.server.listening.spectral import SpectralModel, crash, room, scene, tone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture
def live(tmp_path: Path) -> Live:
    return Live(tmp_path)


async def test_a_digital_test_finds_its_sound_and_tells_nobody_else(live: Live) -> None:
    async with live.listening():
        test = await live.testing(live.listener.test_digitally("alarm", 30))
        live.fed.feed(room(12))
        finding = await test
        await live.judged(32)
        assert finding.outcome is Outcome.FOUND
        assert finding.watched.label.id == "alarm"
        assert finding.score is not None
        assert finding.score >= 0.7
        assert finding.delay_s is not None
        # Two hops of a sound that begins at once, and the model's time.
        assert finding.delay_s >= 0.8
        assert finding.noise_floor_dbfs == pytest.approx(-60, abs=1)
        assert finding.level_dbfs == pytest.approx(-30, abs=1)
        assert finding.live_score is not None
        assert finding.live_score < 0.3
        assert finding.words.startswith("found after ")
        assert live.listener.active == frozenset()
    assert live.told() == []
    assert all(scores.get("alarm", 0) < 0.3 for _, _, scores in live.sink.all_scores)
    moments = [note.words for note in live.diary.last(300) if isinstance(note, MomentNote)]
    assert moments == ["self-test of Alarm begins", "self-test of Alarm ends"]


async def test_a_real_event_in_a_digital_test_is_told_as_always(live: Live) -> None:
    async with live.listening():
        test = await live.testing(live.listener.test_digitally("alarm", 30))
        live.fed.feed(scene(12, (0.3, crash())))
        assert (await test).outcome is Outcome.FOUND
        await live.judged(32)
    assert live.told() == ["glass_breaking"]
    assert len(live.sink.ended) == 1


async def test_where_the_room_itself_sounds_like_it_a_test_is_unclear_and_the_event_told(live: Live) -> None:
    async with live.listening():
        test = await live.testing(live.listener.test_digitally("alarm", 30))
        live.fed.feed(tone(12) + room(12))
        finding = await test
        await live.judged(32)
    assert finding.outcome is Outcome.UNCLEAR
    assert finding.live_score is not None
    assert finding.live_score > 0.7
    assert "the room alone sounds like it" in finding.words
    assert live.told() == ["alarm"]


class DeafModel(SpectralModel):
    """Hears the same in everything."""

    def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.tile(np.eye(1, self.dimension, dtype=np.float32), (len(windows), 1))


async def test_what_is_not_found_says_what_came_nearest(tmp_path: Path) -> None:
    live = Live(tmp_path, DeafModel())
    async with live.listening():
        test = await live.testing(live.listener.test_digitally("glass_breaking", 30))
        live.fed.feed(room(16))
        finding = await test
    assert finding.outcome is Outcome.NOT_FOUND
    assert finding.delay_s is None
    threshold = finding.watched.threshold
    assert re.fullmatch(
        rf"not found: Glass breaking (0\.\d\d), under its threshold {threshold:.2f}:"
        r" at \1 you would have (about|more than) .+",
        finding.words,
    )


async def test_an_alarm_that_its_pattern_alone_tells_is_found(tmp_path: Path) -> None:
    live = Live(tmp_path, DeafModel())
    async with live.listening():
        test = await live.testing(live.listener.test_digitally("alarm", 30))
        live.fed.feed(room(16))
        finding = await test
    assert finding.outcome is Outcome.FOUND
    assert finding.score == 1.0
    assert finding.words.endswith("by the pattern of its beeps, T3")
    assert live.told() == []


async def test_a_model_that_hangs_is_no_end_of_a_test(tmp_path: Path) -> None:
    go = threading.Event()

    class Hanging(SpectralModel):
        def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
            go.wait(60)
            return super().embed_audio(windows)

    live = Live(tmp_path, Hanging())
    async with live.running():
        try:
            live.fed.feed(room(3))
            await eventually(lambda: live.listener._hearing._stretch is not None)
            test = await live.testing(live.listener.test_digitally("alarm", 0.2))
            live.fed.feed(room(16))
            finding = await test
        finally:
            go.set()
    assert finding.outcome is Outcome.NOT_FOUND
    assert finding.words.startswith("not found within 0.2 s")
    assert live.batcher.queue_length == 0


async def test_a_gap_ends_a_digital_test_with_its_reason(live: Live) -> None:
    async with live.listening():
        test = await live.testing(live.listener.test_digitally("alarm", 30))
        live.fed.feed(room(3), after_gap=True)
        with pytest.raises(SelfTestError, match="interrupted") as caught:
            await test
        assert caught.value.code == "interrupted"
        again = await live.testing(live.listener.test_digitally("alarm", 30))
        live.fed.feed(room(12))
        assert (await again).outcome is Outcome.FOUND


@pytest.mark.parametrize("mode", ["test_digitally", "test_aloud"])
async def test_listening_that_stops_ends_a_test(live: Live, mode: str) -> None:
    async with live.listening():
        test = await live.testing(getattr(live.listener, mode)("alarm", 30))
    with pytest.raises(SelfTestError) as caught:
        await test
    assert caught.value.code == "interrupted"


async def test_one_microphone_has_one_test_at_a_time(live: Live) -> None:
    async with live.listening():
        test = await live.testing(live.listener.test_aloud("alarm", 30))
        with pytest.raises(SelfTestError) as caught:
            await live.listener.test_digitally("alarm", 30)
        assert caught.value.code == "self_test_running"
        test.cancel()
        await asyncio.wait([test])
        assert live.listener._judging.withholding.tested == frozenset()


async def test_what_is_heard_already_is_not_tested(live: Live) -> None:
    async with live.listening():
        live.fed.feed(tone(4) + room(4))
        await live.sink.until(lambda: bool(live.sink.started))
        with pytest.raises(SelfTestError) as caught:
            await live.listener.test_aloud("alarm", 30)
        assert caught.value.code == "heard_already"


async def test_a_sound_played_aloud_is_told_to_the_caller_alone_and_the_next_one_to_all(live: Live) -> None:
    async with live.listening():
        test = await live.testing(live.listener.test_aloud("glass_breaking", 30))
        live.fed.feed(scene(4, (1, crash())))
        finding = await test
        assert finding.outcome is Outcome.FOUND
        assert finding.score is not None
        assert finding.score >= 0.7
        assert finding.delay_s == pytest.approx(0.2, abs=0.05)
        assert finding.level_dbfs == pytest.approx(-17, abs=6)
        await live.judged(24)
        assert live.listener.active == frozenset()
        live.fed.feed(room(8))
        await live.judged(32)
        assert live.told() == []
        assert live.sink.ended == []
        tested = [
            nearest_words(note, judgement.watched)
            for note in live.diary.last(300)
            if isinstance(note, WindowNote)
            for judgement in note.judgements
        ]
        assert tested[0].endswith("found by a self-test, so nobody else is told")
        live.fed.feed(scene(4, (1, crash())))
        await live.sink.until(lambda: bool(live.sink.started))
        assert live.listener.active == {"glass_breaking"}
    assert live.told() == ["glass_breaking"]


async def test_another_sound_is_told_while_one_is_waited_for(live: Live) -> None:
    async with live.listening():
        test = await live.testing(live.listener.test_aloud("alarm", 30))
        live.fed.feed(scene(4, (1, crash())))
        await live.sink.until(lambda: bool(live.sink.started))
        live.fed.feed(tone(4) + room(4))
        assert (await test).outcome is Outcome.FOUND
    assert live.told() == ["glass_breaking"]


async def test_an_alarm_that_goes_on_after_a_test_is_told_after_all(live: Live) -> None:
    async with live.listening():
        test = await live.testing(live.listener.test_aloud("alarm", 30))
        live.fed.feed(tone(60) + room(60))
        await test
        await live.sink.until(lambda: bool(live.sink.started))
        live.fed.feed(room(8))
        await live.sink.until(lambda: bool(live.sink.ended))
    assert live.told() == ["alarm"]
    assert live.sink.started[0].started_at.timestamp() == pytest.approx(MORNING + 20, abs=1.1)
    _, recording = live.sink.ended[0]
    assert recording is not None
    assert recording.starts_at.timestamp() == pytest.approx(MORNING + 17, abs=1.1)


async def test_what_is_not_heard_aloud_says_what_came_nearest(live: Live) -> None:
    async with live.listening():
        test = await live.testing(live.listener.test_aloud("alarm", 0.5))
        live.fed.feed(room(5))
        finding = await test
    assert finding.outcome is Outcome.NOT_FOUND
    assert finding.words.startswith("not found within 0.5 s: gated: ")
    assert finding.words.endswith(" dBFS is under the noise floor -60 + 6 dB")
    assert [note.kind for note in live.diary.last(300) if isinstance(note, MomentNote)] == [
        MomentKind.SELF_TEST,
        MomentKind.SELF_TEST,
    ]


@pytest.mark.parametrize("label_id", TESTABLE)
def test_an_example_is_the_same_each_time_and_begins_at_once(label_id: str) -> None:
    sound = example(label_id, 16_000)
    np.testing.assert_array_equal(sound, example(label_id, 16_000))
    assert np.abs(sound[:1600]).max() > 0.05
    assert np.abs(sound).max() <= 1


async def test_the_built_in_model_finds_each_example(tmp_path: Path) -> None:
    rate = synthesis.SAMPLE_RATE
    live = Live(tmp_path, load_builtin("cpu"))
    live.listen_for(*TESTABLE)
    found = {}
    async with live.listening(rate):
        for label_id in TESTABLE:
            test = await live.testing(live.listener.test_digitally(label_id, 60))
            live.fed.feed(room(16, rate=rate), rate=rate)
            found[label_id] = (await test).outcome
            await eventually(live.fed._queue.empty)
    assert found == dict.fromkeys(TESTABLE, Outcome.FOUND)
    assert live.told() == []
