"""What is said of events is learnt at their microphone, listed, and can be taken back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from clap_server.listening.traces import Trace
from tests.server.listening.spectral import SpectralModel, crash, scene, tone
from tests.support.banks import spectral_bank
from tests.support.running_server import Client, ReadyHolder, pcm, running
from tests.support.sound_events import START, sound_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from clap_server.listening.events import SoundEvent
    from clap_server.store.events import Verdict

RATE = 16_000
DIMENSION = SpectralModel().dimension


@pytest.fixture(scope="module")
def model() -> SpectralModel:
    made = SpectralModel()
    made.everyday = spectral_bank(DIMENSION, made_for="spectral 1")
    return made


@pytest.fixture
async def client(tmp_path: Path, model: SpectralModel) -> AsyncIterator[Client]:
    async with running(tmp_path, holder=ReadyHolder(tmp_path, model)) as client:
        await add(client, "kitchen")
        yield client


async def add(client: Client, microphone_id: str) -> None:
    settings = {
        "name": microphone_id,
        "source": {"type": "push"},
        "labels": [{"label": "glass_breaking", "threshold": 0.3}, {"label": "alarm", "threshold": 0.3}],
    }
    await client.json("PUT", f"/api/microphones/{microphone_id}", status=201, json=settings)


async def play(client: Client, samples: np.ndarray, microphone_id: str = "kitchen") -> list[str]:
    """Push sound; return the labels of the events that came of it."""
    before = len((await client.json("GET", "/api/events?limit=1000"))["events"])
    known = await judged(client, microphone_id)
    async with client.socket(f"/api/microphones/{microphone_id}/audio") as socket:
        await socket.send_json({"format": "s16le", "sample_rate": RATE})
        for start in range(0, len(samples), RATE // 5):
            await socket.send_bytes(pcm(samples[start : start + RATE // 5]))
            # As fast as it is heard, so that nothing is lost.
            due = known + int(start / RATE / 0.5) - 3
            async with asyncio.timeout(60):
                while await judged(client, microphone_id) < due:
                    await asyncio.sleep(0.01)
    await ended(client)
    events = (await client.json("GET", "/api/events?limit=1000"))["events"]
    return [event["label_id"] for event in events[before:]]


async def judged(client: Client, microphone_id: str) -> int:
    shown = await client.json("GET", f"/api/microphones/{microphone_id}")
    return int(shown["windows_scored"] + shown["windows_gated"] + shown["windows_dropped"])


async def ended(client: Client) -> None:
    async with asyncio.timeout(60):
        while client.server.context.store.events.active:
            await asyncio.sleep(0.05)


def trace(seed: int = 0, made_for: str = "spectral 1") -> Trace:
    rows = np.random.default_rng(seed).random(size=(2, DIMENSION))
    found = Trace(made_for)
    for row in rows / np.linalg.norm(rows, axis=1, keepdims=True):
        found.add(row.astype(np.float32))
    return found


async def heard(client: Client, *, seed: int = 0, made_for: str = "spectral 1", **changes: Any) -> SoundEvent:
    sink = client.server.context.supervisor._sink
    event = sound_event(**changes)
    await sink.event_started(event)
    await sink.event_traced(event, trace(seed, made_for))
    await sink.event_ended(replace(event, ended_at=START + timedelta(seconds=2)), None)
    return event


async def say(client: Client, event_id: str, verdict: str, status: int = 200) -> Any:
    return await client.json(
        "POST", f"/api/events/{event_id}/feedback", status=status, json={"verdict": verdict}
    )


async def false_pieces(client: Client) -> list[str]:
    """Names of what counts as everyday sound of a room because it was called false."""
    rows = await client.server.context.store.rooms._database.rows(
        "SELECT name FROM room_pieces WHERE name LIKE 'false %'"
    )
    return [row["name"] for row in rows]


async def lessons(client: Client, microphone_id: str = "kitchen") -> Any:
    return await client.json("GET", f"/api/microphones/{microphone_id}/feedback")


async def test_the_same_sound_does_not_fire_again_but_others_do(client: Client) -> None:
    plates = scene(12, (6, crash(seed=1)), (6.5, crash(seed=2)))
    assert await play(client, plates) == ["glass_breaking"]
    [event] = (await client.json("GET", "/api/events"))["events"]
    answer = await say(client, event["id"], "false_alarm")
    assert (answer["feedback"], answer["learnt"]) == ("false_alarm", True)
    assert "Glass breaking" in answer["learnt_words"]
    assert await play(client, scene(14, (7.2, crash(seed=1)), (7.7, crash(seed=2)))) == []
    assert await play(client, scene(14, (6, tone(5)))) == ["alarm"]
    await add(client, "hall")
    assert await play(client, plates, "hall") == ["glass_breaking"], "other microphones learn nothing"
    assert (await say(client, event["id"], "correct"))["learnt"]
    assert await play(client, plates) == ["glass_breaking"]


async def test_of_two_verdicts_at_once_one_holds_in_all_that_follows(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await heard(client)
    store = client.server.context.store
    noting, later = store.events.set_feedback, asyncio.Event()

    async def note_and_dawdle(event_id: str, verdict: Verdict) -> bool:
        noted = await noting(event_id, verdict)
        if verdict == "false_alarm":
            # The other one gets ahead of this one if nothing keeps it.
            later.set()
            await asyncio.wait([second], timeout=0.5)
        return noted

    monkeypatch.setattr(store.events, "set_feedback", note_and_dawdle)

    async def contradict() -> None:
        await later.wait()
        await say(client, event.id, "correct")

    second = asyncio.create_task(contradict())
    assert (await say(client, event.id, "false_alarm"))["feedback"] == "false_alarm"
    await second
    assert (await client.json("GET", f"/api/events/{event.id}"))["feedback"] == "correct"
    assert [lesson["verdict"] for lesson in (await lessons(client))["lessons"]] == ["correct"]
    assert await false_pieces(client) == []


@pytest.mark.parametrize("noted", [True, False])
async def test_a_false_alarm_counts_among_the_sound_that_was_heard_as_it_was(
    client: Client, noted: bool
) -> None:
    heard_so, sink = trace(), client.server.context.supervisor._sink
    if noted:
        heard_so.hop_s, heard_so.denoise = 0.5, False
    event = sound_event()
    await sink.event_started(event)
    await sink.event_traced(event, heard_so)
    settings = {
        "name": "Kitchen",
        "source": {"type": "push"},
        "labels": [{"label": "glass_breaking"}],
        "hop_s": 2.0,
    }
    await client.json("PUT", "/api/microphones/kitchen", json=settings)
    await say(client, event.id, "false_alarm")
    rows = await client.server.context.store.rooms._database.rows("SELECT * FROM room_pieces")
    [row] = rows
    assert row["made_for"].endswith(" 0.5 s" if noted else " 2 s")
    assert list(np.frombuffer(row["ends_cs"], "<u4")) == ([50, 100] if noted else [200, 400])


async def test_the_answer_tells_the_score_with_what_was_learnt(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await heard(client)
    supervisor = client.server.context.supervisor
    before = await say(client, event.id, "correct")
    assert before["score_now"] > 0
    after = await say(client, event.id, "false_alarm")
    [lesson] = (await lessons(client))["lessons"]
    assert after["score_now"] == lesson["score"] == 0
    await client.json("DELETE", f"/api/microphones/kitchen/feedback/{event.id}", status=204)
    scorer = supervisor.scorer("kitchen")
    assert scorer is not None
    again = scorer.scores(trace().embeddings)[:, scorer.label_ids.index("glass_breaking")].max()
    assert again == pytest.approx(before["score_now"], abs=1e-3)
    monkeypatch.setattr("clap_server.api.feedback.SETTLE_S", 0.05)
    async with supervisor.batcher.aside:
        slow = await say(client, event.id, "false_alarm")
        assert (await lessons(client))["lessons"][0]["score"] is None
    assert (slow["learnt"], slow["score_now"]) == (True, None)
    assert "not yet" in slow["learnt_words"]


async def test_a_correct_event_is_guarded_from_a_false_alarm_like_it(client: Client) -> None:
    sink = client.server.context.supervisor._sink
    meant = sound_event()
    near = Trace("spectral 1")
    for row in trace().embeddings + 0.15 * trace(5).embeddings:
        near.add((row / np.linalg.norm(row)).astype(np.float32))
    await sink.event_started(meant)
    await sink.event_traced(meant, near)
    await sink.event_ended(replace(meant, ended_at=START + timedelta(seconds=2)), None)
    before = (await say(client, meant.id, "correct"))["score_now"]
    await say(client, (await heard(client)).id, "false_alarm")
    wrong, right = sorted(
        (await lessons(client))["lessons"], key=lambda lesson: lesson["verdict"] == "correct"
    )
    assert (wrong["score"], right["score"]) == (0, pytest.approx(before))
    await client.json("DELETE", f"/api/microphones/kitchen/feedback/{meant.id}", status=204)
    event = await heard(client)
    assert (await say(client, event.id, "false_alarm"))["score_now"] == 0
    await sink.event_traced(meant, near)
    scorer = client.server.context.supervisor.scorer("kitchen")
    assert scorer is not None
    muted = scorer.scores(near.embeddings)[:, scorer.label_ids.index("glass_breaking")].max()
    assert muted < 0.5 * before


async def test_a_muted_microphone_learns_for_later(client: Client) -> None:
    event = await heard(client)
    await client.json("PUT", "/api/microphones/kitchen/mute")
    answer = await say(client, event.id, "false_alarm")
    assert (answer["learnt"], answer["score_now"]) == (True, None)
    assert "not yet" in answer["learnt_words"]


async def test_what_was_learnt_is_listed_with_what_became_of_it(client: Client) -> None:
    wrong, right = await heard(client), await heard(client, seed=1)
    await say(client, wrong.id, "false_alarm")
    await say(client, right.id, "correct")
    listed = await lessons(client)
    assert [(lesson["event_id"], lesson["verdict"]) for lesson in listed["lessons"]] == [
        (wrong.id, "false_alarm"),
        (right.id, "correct"),
    ]
    assert all(lesson["heeded"] and lesson["windows"] == 2 for lesson in listed["lessons"])
    assert all(lesson["words"] for lesson in listed["lessons"])
    [summary] = listed["labels"]
    assert (summary["label_id"], summary["false_alarms"], summary["correct"]) == ("glass_breaking", 1, 1)
    assert summary["correct_found"] <= summary["correct_known"] <= 1


async def test_feedback_can_be_taken_back(client: Client) -> None:
    event = await heard(client)
    await say(client, event.id, "false_alarm")
    await client.json("DELETE", f"/api/microphones/kitchen/feedback/{event.id}", status=204)
    assert (await lessons(client))["lessons"] == []
    assert (await client.json("GET", f"/api/events/{event.id}"))["feedback"] is None
    problem = await client.json("DELETE", f"/api/microphones/kitchen/feedback/{event.id}", status=404)
    assert problem["type"] == "/problems/no_such_lesson"


async def test_a_lesson_of_another_microphone_is_not_there(client: Client) -> None:
    event = await heard(client)
    await say(client, event.id, "false_alarm")
    await add(client, "hall")
    await client.json("DELETE", f"/api/microphones/hall/feedback/{event.id}", status=404)
    assert len((await lessons(client))["lessons"]) == 1
    await client.json("GET", "/api/microphones/nowhere/feedback", status=404)


async def test_feedback_on_an_event_that_never_was_is_refused(client: Client) -> None:
    problem = await say(client, "no-such-event", "false_alarm", status=404)
    assert problem["type"] == "/problems/no_such_event"


async def test_feedback_on_an_event_that_retention_deleted_is_refused_and_what_was_learnt_stays(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_before, unjudged = await heard(client), await heard(client, seed=1)
    await say(client, judged_before.id, "false_alarm")
    retention = client.server.context.store.retention
    monkeypatch.setattr(retention, "_policy", replace(retention._policy, event_days=0))
    await retention.sweep()
    assert (await client.json("GET", "/api/events"))["events"] == []
    for event in (judged_before, unjudged):
        problem = await say(client, event.id, "correct", status=404)
        assert problem["type"] == "/problems/no_such_event"
    kept = [(lesson["event_id"], lesson["verdict"]) for lesson in (await lessons(client))["lessons"]]
    assert kept == [(judged_before.id, "false_alarm")]
    await client.json("DELETE", f"/api/microphones/kitchen/feedback/{judged_before.id}", status=204)
    assert (await lessons(client))["lessons"] == []


async def test_an_event_of_which_nothing_is_kept_says_so(client: Client) -> None:
    sink = client.server.context.supervisor._sink
    event = sound_event()
    await sink.event_started(event)
    answer = await say(client, event.id, "false_alarm")
    assert (answer["feedback"], answer["learnt"]) == ("false_alarm", False)
    assert "nothing can be learnt" in answer["learnt_words"]


@pytest.mark.parametrize("verdict", ["false_alarm", "correct"])
async def test_nothing_is_learnt_of_what_has_no_sound_of_its_own(client: Client, verdict: str) -> None:
    event = await heard(client, label_id="normal", label_name="Normal")
    answer = await say(client, event.id, verdict)
    assert (answer["feedback"], answer["learnt"], answer["score_now"]) == (verdict, False, None)
    assert "normal has no sound of its own" in answer["learnt_words"]
    assert (await lessons(client))["lessons"] == []
    assert await false_pieces(client) == []
    # As an earlier version did.
    assert await client.server.context.store.lessons.learn(event, "false_alarm") == "learnt"
    [kept] = (await lessons(client))["lessons"]
    assert not kept["heeded"]
    assert "normal has no sound of its own" in kept["words"]


async def test_lessons_that_cannot_be_of_the_model_silence_nothing(
    tmp_path: Path, model: SpectralModel
) -> None:
    async with running(tmp_path, holder=ReadyHolder(tmp_path, model)) as client:
        await add(client, "kitchen")
        for verdict in ("false_alarm", "correct", "false_alarm"):
            event = await heard(client)
            assert (await say(client, event.id, verdict))["learnt"]
        async with client.server.context.store.lessons._database.transaction() as connection:
            await connection.execute(
                "UPDATE lessons SET windows = 2 * windows WHERE event_id <> ?", (event.id,)
            )
            await connection.execute("UPDATE traces SET windows = 2 * windows")
    async with running(tmp_path, holder=ReadyHolder(tmp_path, model)) as client:
        [kept] = (await lessons(client))["lessons"]
        assert kept["event_id"] == event.id
        assert await play(client, scene(12, (6, crash(seed=1)), (6.5, crash(seed=2)))) == ["glass_breaking"]
        assert (await say(client, event.id, "correct"))["learnt"], "by what was learnt before"


async def test_an_event_of_a_microphone_that_is_gone_says_so(client: Client) -> None:
    event = await heard(client, microphone_id="cellar")
    answer = await say(client, event.id, "false_alarm")
    assert not answer["learnt"]
    assert "not there any more" in answer["learnt_words"]


async def test_what_another_model_heard_is_kept_but_does_not_count(client: Client) -> None:
    event = await heard(client, made_for="larger clap")
    answer = await say(client, event.id, "false_alarm")
    assert answer["learnt"]
    assert "another model" in answer["learnt_words"]
    [lesson] = (await lessons(client))["lessons"]
    assert (lesson["heeded"], lesson["score"]) == (False, None)


async def test_an_event_judged_while_it_goes_on_is_learnt_whole(client: Client) -> None:
    sink = client.server.context.supervisor._sink
    event = sound_event()
    await sink.event_started(event)
    await sink.event_traced(event, trace(0))
    await say(client, event.id, "false_alarm")
    whole = trace(0)
    whole.add(trace(1).embeddings[0])
    await sink.event_traced(event, whole)
    [lesson] = (await lessons(client))["lessons"]
    assert lesson["windows"] == 3


async def test_lessons_survive_a_restart_and_go_with_their_microphone(
    tmp_path: Path, model: SpectralModel
) -> None:
    async with running(tmp_path, holder=ReadyHolder(tmp_path, model)) as client:
        await add(client, "kitchen")
        event = await heard(client)
        await say(client, event.id, "false_alarm")
    async with running(tmp_path, holder=ReadyHolder(tmp_path, model)) as client:
        assert len((await lessons(client))["lessons"]) == 1
        entry = client.server.context.supervisor._entries["kitchen"]
        assert [len(watched.label.wrong) for watched in entry.plan.labels] == [1, 0]
        await client.json("DELETE", "/api/microphones/kitchen", status=204)
        await add(client, "kitchen")
        assert (await lessons(client))["lessons"] == []


async def test_figures_of_tests_are_not_told_of_a_label_of_which_a_false_alarm_was_reported(
    client: Client, model: SpectralModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "builtin", True)

    async def told() -> list[tuple[bool, str | None]]:
        shown = (await client.json("GET", "/api/microphones/kitchen"))["labels"]
        return [(label["found"] is not None, label["found_unknown"]) for label in shown]

    event = await heard(client)
    assert await told() == [(True, None), (True, None)]
    await say(client, event.id, "false_alarm")
    assert await told() == [(False, "false_alarms"), (True, None)]
    glass, _ = (await client.json("GET", "/api/microphones/kitchen/calibration"))["labels"]
    assert glass["found_unknown"] == "false_alarms"
    assert glass["present"]["found"] is None
    kitchen = await client.json("GET", "/api/microphones/kitchen")
    settings = {name: kitchen[name] for name in ("name", "source")} | {
        "labels": [{"label": "glass breaking"}]
    }
    body = {"id": "kitchen", "settings": settings}
    (checked,) = (await client.json("POST", "/api/microphones/check", json=body))["labels"]
    assert checked["found_unknown"] == "false_alarms"
    await say(client, event.id, "correct")
    assert await told() == [(True, None), (True, None)]
