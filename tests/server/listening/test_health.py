"""What is wrong with sound that does come is told within a minute, and over when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.audio.block import AudioBlock
from clap_server.audio.source import SourceState, SourceStatus
from clap_server.detection.windows import Window
from clap_server.listening.condition import Condition
from clap_server.listening.health import Gaps, Peaks, Quiet, Rate
from tests.server.listening.rig import MORNING, Live, eventually
from tests.server.listening.spectral import RATE, crash, room, scene

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCK_S = 0.1
SILENCE = np.zeros(round(BLOCK_S * RATE), np.float32)


def arrivals(
    duration_s: float,
    *,
    share: float = 1.0,
    start_at: float = MORNING,
    burst_s: float = BLOCK_S,
    jitter_s: float = 0.0,
) -> Iterator[AudioBlock]:
    """Sound of a source that gives ``share`` of its rate, in bursts."""
    rng = np.random.default_rng(1)
    count = 0
    for number in range(1, round(duration_s / burst_s) + 1):
        at = start_at + number * burst_s + rng.uniform(0, jitter_s)
        while (count + 1) * BLOCK_S <= number * burst_s * share + 1e-9:
            count += 1
            yield AudioBlock(SILENCE, RATE, at)


def told_at(rate: Rate, blocks: Iterator[AudioBlock]) -> float | None:
    """Arrival of the block with which the rate was found wrong; all are taken."""
    found = None
    for block in blocks:
        rate.take(block)
        if rate.reason is not None and found is None:
            found = block.captured_at - MORNING
    return found


@pytest.mark.parametrize(("share", "words"), [(0.93, "93 %"), (44_100 / 48_000, "92 %"), (1.1, "110 %")])
@pytest.mark.parametrize("burst_s", [BLOCK_S, 4.0])
def test_a_wrong_rate_is_told_within_a_minute(share: float, words: str, burst_s: float) -> None:
    rate = Rate()
    found = told_at(rate, arrivals(120, share=share, burst_s=burst_s, jitter_s=0.05))
    assert found is not None
    assert found <= 60
    assert rate.reason is not None
    assert rate.reason.startswith("sound comes at ")
    assert int(rate.reason.split()[3]) == pytest.approx(int(words.split(maxsplit=1)[0]), abs=2)


@pytest.mark.parametrize(
    ("share", "burst_s", "jitter_s"),
    [
        (1.0, BLOCK_S, 0.0),
        (1.0, BLOCK_S, 0.5),
        (1.0, 6.0, 0.3),
        (1.0, 10.0, 0.3),
        (0.99, BLOCK_S, 0.1),
        (1.01, 2.0, 0.1),
    ],
)
def test_a_right_rate_is_right_however_it_arrives(share: float, burst_s: float, jitter_s: float) -> None:
    assert told_at(Rate(), arrivals(300, share=share, burst_s=burst_s, jitter_s=jitter_s)) is None


def test_a_buffer_sent_at_once_a_stall_and_a_clock_that_is_set_are_no_wrong_rate() -> None:
    rate = Rate()
    blocks = [AudioBlock(SILENCE, RATE, MORNING) for _ in range(120)]
    blocks += arrivals(100)
    # The network holds back 5 s, then the connection stays 2 s later than before.
    blocks += [AudioBlock(SILENCE, RATE, MORNING + 105) for _ in range(50)]
    blocks += arrivals(100, start_at=MORNING + 107)
    # An hour back, and 2 s on.
    blocks += arrivals(100, start_at=MORNING - 3600)
    blocks += arrivals(100, start_at=MORNING - 3498)
    assert told_at(rate, iter(blocks)) is None


def test_a_wrong_rate_is_found_between_gaps_too_and_is_over_when_it_is() -> None:
    rate = Rate()
    blocks = list(arrivals(70, share=0.93))
    for number, block in enumerate(blocks):
        if number % 80 == 0:
            rate.break_off()
        rate.take(block)
    assert rate.reason is not None
    assert rate.reason.startswith("sound comes at 93 % of its rate")
    for block in arrivals(70, start_at=MORNING + 70):
        rate.take(block)
    assert rate.reason is None


def test_gaps_again_and_again_are_choppy_until_they_stop() -> None:
    gaps = Gaps()
    told = []
    for number, block in enumerate(arrivals(100)):
        gap = number % 90 == 0 and number < 600
        gaps.take(AudioBlock(SILENCE, RATE, block.captured_at, after_gap=gap))
        told.append(gaps.reason)
    assert told[449] is None
    first = next(reason for reason in told if reason)
    assert (
        first == "choppy: sound was missing 6 times in the last minute; check the network of the microphone"
    )
    assert told.index(first) == 450
    assert told[-1] is None


def test_what_this_computer_dropped_is_not_choppy() -> None:
    gaps = Gaps()
    for block in arrivals(60):
        gaps.take(AudioBlock(SILENCE, RATE, block.captured_at, after_gap=True, dropped_s=0.1))
    assert gaps.reason is None


def test_clipping_is_a_notice_and_one_bang_is_none() -> None:
    peaks = Peaks()
    loud = np.clip(3 * np.sin(np.arange(RATE) * 0.1), -1, 1).astype(np.float32)
    told = []
    for number in range(100):
        samples = loud if number == 5 or 20 <= number < 35 else room(1)
        peaks.take(AudioBlock(samples, RATE, MORNING + number))
        told.append(peaks.notice)
    assert told[:28] == [None] * 28
    assert told[28] is not None
    assert told[28].startswith("clipping: ")
    assert told[60] is not None
    assert told[-1] is None


def test_a_day_of_nothing_but_noise_is_told_and_a_sound_ends_it() -> None:
    quiet = Quiet()
    window = Window(0, 2, -60, None, (-60.0,) * 5)
    for _ in range(24 * 7200 - 1):
        quiet.heard(window, admitted=False)
    assert quiet.reason is None
    quiet.heard(window, admitted=False)
    assert quiet.reason is not None
    assert "24 hours" in quiet.reason
    quiet.heard(window, admitted=True)
    assert quiet.reason is None


def test_the_condition_tells_each_with_its_code_and_the_notice_beside_the_sources_own() -> None:
    told: list[SourceStatus] = []
    condition = Condition(told.append)
    condition.source_is(SourceStatus(SourceState.LISTENING, "listening", "listening", "only left is used"))
    loud = np.ones(RATE, np.float32)

    def hear(block: AudioBlock) -> None:
        condition.health.take(block)
        condition.health_may_differ()

    for number in range(12):
        hear(AudioBlock(loud, RATE, MORNING + number))
    for number in range(12, 20):
        hear(AudioBlock(loud, RATE, MORNING + number, after_gap=True))
    assert [status.code for status in told] == ["listening", "listening", "choppy"]
    assert {status.state for status in told} == {SourceState.LISTENING}
    assert told[1].notice is not None
    assert told[1].notice.startswith("only left is used; clipping: ")
    assert told[2].notice == told[1].notice


async def test_a_stream_at_a_wrong_rate_is_listened_to_and_told(tmp_path: Path) -> None:
    live = Live(tmp_path)
    async with live.running():
        noise = room(60)
        size = RATE // 10
        for start in range(0, len(noise), size):
            at = MORNING + start / RATE / 0.93
            live.fed._queue.put_nowait(AudioBlock(noise[start : start + size], RATE, at))
        await eventually(lambda: bool(live.statuses) and live.statuses[-1].code == "wrong_rate")
        assert live.statuses[-1].state is SourceState.LISTENING
        assert "93 %" in live.statuses[-1].reason


async def test_a_stream_of_nothing_but_noise_is_told_until_something_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clap_server.listening.health._DAY_S", 30.0)
    live = Live(tmp_path)
    async with live.listening():
        assert live.statuses[-1].code == "listening"
        live.fed.feed(room(40))
        await eventually(lambda: bool(live.statuses) and live.statuses[-1].code == "only_noise")
        assert live.statuses[-1].state is SourceState.LISTENING
        live.fed.feed(scene(4, (1, crash())))
        await eventually(lambda: live.statuses[-1].code == "listening")
        await live.judged(64)
    assert live.told() == ["glass_breaking"]


async def test_a_choppy_stream_is_told_until_it_is_steady(tmp_path: Path) -> None:
    live = Live(tmp_path)
    async with live.listening():
        for _ in range(6):
            live.fed.feed(room(1), after_gap=True)
        await eventually(lambda: bool(live.statuses) and live.statuses[-1].code == "choppy")
        live.fed.feed(room(62))
        await eventually(lambda: live.statuses[-1].code == "listening")
