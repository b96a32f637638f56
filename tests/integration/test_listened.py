"""When a microphone listened, as far as it is known."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from freezegun import freeze_time

from custom_components.clap_sound.client.models import MicrophoneInfo, MicrophoneStatus
from custom_components.clap_sound.listened import MAX_SPANS, ListeningLog

BEGIN = datetime(2026, 11, 27, 20, tzinfo=UTC)
MICROPHONE = MicrophoneInfo(
    id="a",
    name="A",
    source={},
    labels=(),
    negatives=(),
    hop_s=0.5,
    enabled=True,
    owner="server",
    adopted=False,
    muted=False,
    denoise=False,
    recording={},
    status=MicrophoneStatus("listening", "listening", "", None, BEGIN),
)


def at(minutes: float) -> datetime:
    return BEGIN + timedelta(minutes=minutes)


class Log(ListeningLog):
    """Takes in what happens minute by minute."""

    def status(self, state: str, since: float, code: str | None = None) -> None:
        status = MicrophoneStatus(state, code or state, "", None, at(since))
        self.note({"a": replace(MICROPHONE, status=status)})

    def lost_at(self, minutes: float) -> None:
        with freeze_time(at(minutes)):
            self.lost()

    def between(self, since: float, until: float) -> list[tuple[float, float, str]]:
        spans = self.spans("a", at(since), at(until))
        return [
            ((span.begin - BEGIN).total_seconds() / 60, (span.end - BEGIN).total_seconds() / 60, span.state)
            for span in spans
        ]


@pytest.fixture
def log() -> Log:
    return Log()


def test_each_state_lasts_until_the_next(log: Log) -> None:
    assert log.between(0, 60) == []
    log.status("listening", 0)
    log.status("muted", 10)
    log.status("listening", 20)
    assert log.between(5, 60) == [(5, 10, "listening"), (10, 20, "muted"), (20, 60, "listening")]
    assert log.between(12, 15) == [(12, 15, "muted")]


def test_what_lasted_over_a_break_was_never_gone(log: Log) -> None:
    log.status("listening", 0)
    log.lost_at(10)
    assert log.between(0, 60) == [(0, 10, "listening")]
    log.status("listening", 0)
    assert log.between(0, 60) == [(0, 60, "listening")]


def test_what_changed_in_a_break_is_not_known_before(log: Log) -> None:
    log.status("listening", 0)
    log.lost_at(10)
    log.lost_at(11)
    log.status("listening", 30)
    assert log.between(0, 60) == [(0, 10, "listening"), (30, 60, "listening")]


def test_what_changed_before_the_break_was_noticed_counts_from_its_own_time(log: Log) -> None:
    log.status("listening", 0)
    log.status("muted", 5)
    log.lost_at(10)
    log.status("failed", 4)
    assert log.between(0, 60) == [(0, 4, "listening"), (4, 60, "failed")]


@pytest.mark.parametrize("code", ["choppy", "only_noise", "too_slow", "wrong_rate"])
def test_sound_that_cannot_be_judged_well_is_not_heard(log: Log, code: str) -> None:
    log.status("listening", 0, code)
    log.status("listening", 10)
    assert [span.hears for span in log.spans("a", at(0), at(20))] == [False, True]


def test_what_was_saved_is_known_after_a_restart_up_to_then(log: Log) -> None:
    log.status("listening", 0)
    log.status("muted", 10)
    log.status("listening", 20)
    with freeze_time(at(30)):
        saved = json.loads(json.dumps(log.to_save()))
    for since, known in ((20, []), (40, [(20, 30, "listening")])):
        restarted = Log()
        restarted.restore(saved)
        restarted.status("listening", since)
        assert restarted.between(0, 60) == [
            (0, 10, "listening"),
            (10, 20, "muted"),
            *known,
            (since, 60, "listening"),
        ]


def test_memory_is_bounded_and_forgets_a_microphone_that_is_gone(log: Log) -> None:
    for number in range(2 * MAX_SPANS):
        log.status("listening" if number % 2 else "stalled", number)
    assert len(log.between(0, 3 * MAX_SPANS)) == MAX_SPANS + 1
    log.note({})
    assert log.between(0, 3 * MAX_SPANS) == []
