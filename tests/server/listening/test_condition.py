"""Of all that is wrong with a microphone the worst is told, once, and gone when it is over."""

import pytest

from clap_server.audio.source import SourceState, SourceStatus
from clap_server.errors import ModelError
from clap_server.listening.condition import Condition, Losses

LISTENING = SourceStatus(SourceState.LISTENING, "listening", "listening", "left and right cancel each other")
GONE = SourceStatus(SourceState.FAILED, "unauthorized", "401 from camera")


def add(losses: Losses, lost: int, heard: int) -> None:
    losses.add(lost=True, count=lost, hop_s=0.5)
    losses.add(lost=False, count=heard, hop_s=0.5)


def test_a_hiccup_is_not_too_slow() -> None:
    losses = Losses()
    add(losses, 9, 3)
    assert losses.reason is None


def test_a_tenth_that_is_lost_is_too_slow_until_hardly_any_is() -> None:
    losses = Losses()
    for _ in range(12):
        add(losses, 1, 9)
    assert losses.reason is not None
    assert "too slow: " in losses.reason
    assert "of the last" in losses.reason
    add(losses, 0, 60)
    assert losses.reason is not None
    add(losses, 0, 10)
    assert losses.reason is None


def test_the_reason_is_told_again_only_when_the_share_is_another() -> None:
    losses = Losses()
    reasons = []
    for _ in range(200):
        add(losses, 3, 1)
        if losses.reason not in reasons[-1:]:
            reasons.append(losses.reason)
    assert reasons == [None, reasons[-1]]
    add(losses, 0, 60)
    assert losses.reason != reasons[-1]


@pytest.mark.parametrize("hop_s", [0.1, 0.5, 5.0])
def test_a_minute_is_a_minute_at_any_hop(hop_s: float) -> None:
    losses = Losses()
    losses.add(lost=True, count=round(60 / hop_s), hop_s=hop_s)
    assert losses.reason is not None
    losses.add(lost=False, count=round(60 / hop_s), hop_s=hop_s)
    assert losses.reason is None


def test_the_worst_is_told_and_what_it_hid_when_it_is_over() -> None:
    told: list[SourceStatus] = []
    condition = Condition(told.append)
    condition.source_is(LISTENING)
    condition.windows_were(lost=True, count=50, hop_s=0.5)
    condition.silent_is(True)
    condition.model_fails(ModelError("CUDA error"))
    condition.model_fails(ModelError("another error"))
    condition.source_is(GONE)
    condition.model_works()
    condition.source_is(LISTENING)
    condition.silent_is(False)
    condition.windows_were(lost=False, count=200, hop_s=0.5)
    codes = [(status.state, status.code) for status in told]
    assert codes == [
        (SourceState.LISTENING, "listening"),
        (SourceState.LISTENING, "too_slow"),
        (SourceState.STALLED, "silent"),
        (SourceState.FAILED, "model_failed"),
        (SourceState.FAILED, "unauthorized"),
        (SourceState.STALLED, "silent"),
        (SourceState.LISTENING, "too_slow"),
        (SourceState.LISTENING, "listening"),
    ]
    assert all(status.notice == LISTENING.notice for status in told if status.state is SourceState.LISTENING)
