from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.listening.traces import Trace
from clap_server.store.embeddings import from_blob, to_blob
from clap_server.store.lessons import MOST_LESSONS, MOST_TRACES
from tests.support.sound_events import START, microphone, sound_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from clap_server.listening.events import SoundEvent
    from clap_server.store.events import Verdict
    from clap_server.store.store import Store

    Opener = Callable[[], Store]


@pytest.fixture(autouse=True)
async def _microphones(store: Store) -> None:
    for microphone_id in ("kitchen", "hall"):
        await store.microphones.put(microphone(microphone_id))


def trace(seed: int = 0, windows: int = 2, made_for: str = "a model") -> Trace:
    rows = np.random.default_rng(seed).normal(size=(windows, 16))
    found = Trace(made_for)
    for row in rows / np.linalg.norm(rows, axis=1, keepdims=True):
        found.add(row.astype(np.float32))
    return found


async def judged(store: Store, verdict: Verdict, *, seed: int = 0, **changes: object) -> SoundEvent:
    event = sound_event(**changes)
    await store.lessons.keep_trace(event, trace(seed))
    assert await store.lessons.learn(event, verdict) == "learnt"
    return event


async def test_a_false_alarm_is_of_its_microphone_and_label_alone(store: Store) -> None:
    event = await judged(store, "false_alarm", seed=4)
    [(label_id, (examples,))] = store.lessons.wrong("kitchen").items()
    assert label_id == event.label_id
    assert examples.made_for == "a model"
    assert np.allclose(examples.embeddings, trace(4).embeddings, atol=1e-3)
    assert store.lessons.wrong("hall") == {}


async def test_the_settings_with_which_an_event_was_heard_survive_a_restart(store: Store) -> None:
    event, unknown = sound_event(), sound_event()
    heard = trace()
    heard.hop_s, heard.denoise = 0.25, True
    await store.lessons.keep_trace(event, heard)
    await store.lessons.keep_trace(unknown, trace(1))
    for each in (event, unknown):
        assert await store.lessons.learn(each, "false_alarm") == "learnt"
    await store.lessons.load()
    kept = [store.lessons.get(each.id) for each in (event, unknown)]
    assert [(lesson.hop_s, lesson.denoise) for lesson in kept if lesson is not None] == [
        (0.25, True),
        (None, None),
    ]


async def test_what_was_right_is_kept_but_is_not_wrong(store: Store) -> None:
    await judged(store, "correct")
    assert store.lessons.wrong("kitchen") == {}
    assert [lesson.verdict for lesson in store.lessons.of_microphone("kitchen")] == ["correct"]


async def test_the_other_verdict_takes_the_first_back(store: Store) -> None:
    event = await judged(store, "false_alarm")
    assert await store.lessons.learn(event, "correct") == "learnt"
    assert store.lessons.wrong("kitchen") == {}
    assert len(store.lessons.of_microphone("kitchen")) == 1


async def test_nothing_is_learnt_from_an_event_of_which_nothing_is_kept(store: Store) -> None:
    assert await store.lessons.learn(sound_event(), "false_alarm") == "no_trace"
    assert store.lessons.of_microphone("kitchen") == []


async def test_lessons_survive_a_restart_and_what_they_are_made_of_too(store: Store) -> None:
    event = await judged(store, "false_alarm")
    before = store.lessons.of_microphone("kitchen")
    await store.lessons.load()
    [after] = store.lessons.of_microphone("kitchen")
    assert [after] == before
    assert np.allclose(after.embeddings, before[0].embeddings, atol=1e-3)
    assert await store.lessons.learn(event, "correct") == "learnt"


async def test_lessons_are_bounded_and_the_oldest_go(store: Store) -> None:
    events = [await judged(store, "false_alarm", seed=number) for number in range(MOST_LESSONS + 3)]
    await judged(store, "correct")
    await judged(store, "false_alarm", label_id="alarm")
    kept = [
        lesson.event_id
        for lesson in store.lessons.of_microphone("kitchen")
        if (lesson.label_id, lesson.verdict) == ("glass_breaking", "false_alarm")
    ]
    assert kept == [event.id for event in events[3:]]
    before = store.lessons.of_microphone("kitchen")
    await store.lessons.load()
    assert store.lessons.of_microphone("kitchen") == before


async def traced(store: Store, count: int, **changes: object) -> list[SoundEvent]:
    events = [sound_event(**changes) for _ in range(count)]
    for number, event in enumerate(events):
        await store.lessons.keep_trace(event, trace(number))
    return events


async def kept(store: Store) -> dict[str, str]:
    """Verdicts by event, which must be the same in memory as after a restart."""

    def in_memory() -> dict[str, str]:
        return {
            lesson.event_id: lesson.verdict
            for microphone_id in ("kitchen", "hall")
            for lesson in store.lessons.of_microphone(microphone_id)
        }

    now = in_memory()
    await store.lessons.load()
    assert now == in_memory()
    return now


async def test_verdicts_that_come_at_once_are_all_learnt(store: Store) -> None:
    events = [
        *await traced(store, 4),
        *await traced(store, 4, microphone_id="hall"),
    ]
    await asyncio.gather(*(store.lessons.learn(event, "false_alarm") for event in events))
    assert await kept(store) == {event.id: "false_alarm" for event in events}


async def test_no_more_is_kept_of_what_is_learnt_at_once(store: Store) -> None:
    events = await traced(store, MOST_LESSONS + 3)
    await asyncio.gather(*(store.lessons.learn(event, "correct") for event in events))
    assert list(await kept(store)) == [event.id for event in events[3:]]


async def test_what_is_forgotten_while_something_is_learnt_stays_forgotten(store: Store) -> None:
    first, second, third = await traced(store, 3)
    await store.lessons.learn(first, "false_alarm")
    await asyncio.gather(
        store.lessons.learn(second, "false_alarm"),
        store.lessons.forget(first.id),
        store.lessons.learn(third, "false_alarm"),
    )
    assert set(await kept(store)) == {second.id, third.id}


async def test_an_event_that_ends_while_it_is_judged_keeps_the_newest_verdict(store: Store) -> None:
    event = await judged(store, "false_alarm")
    await asyncio.gather(
        store.lessons.keep_trace(event, trace(windows=5)), store.lessons.learn(event, "correct")
    )
    assert await kept(store) == {event.id: "correct"}
    lesson = store.lessons.get(event.id)
    assert lesson is not None
    assert len(lesson.embeddings) == 5


async def test_a_microphone_that_is_removed_while_it_learns_has_learnt_nothing(store: Store) -> None:
    [event] = await traced(store, 1)
    [other] = await traced(store, 1, microphone_id="hall")

    async def remove() -> None:
        await store.microphones.delete("kitchen")
        store.lessons.forget_microphone("kitchen")

    _, outcome, learnt = await asyncio.gather(
        remove(), store.lessons.learn(event, "false_alarm"), store.lessons.learn(other, "correct")
    )
    assert (outcome, learnt) == ("no_microphone", "learnt")
    assert await kept(store) == {other.id: "correct"}


async def test_a_microphone_may_be_removed_after_it_learnt(store: Store) -> None:
    [event] = await traced(store, 1)
    [other] = await traced(store, 1, microphone_id="hall")
    learning = asyncio.gather(
        store.lessons.learn(event, "false_alarm"), store.lessons.learn(other, "correct")
    )
    await store.microphones.delete("kitchen")
    store.lessons.forget_microphone("kitchen")
    await learning
    assert await kept(store) == {other.id: "correct"}


async def test_only_the_newest_events_can_be_learnt_from(store: Store) -> None:
    first, second = sound_event(), sound_event()
    await store.lessons.keep_trace(first, trace())
    await store.lessons.keep_trace(second, trace())
    async with store._database.transaction() as connection:
        await connection.execute("UPDATE traces SET rowid = rowid + ? WHERE event_id <> ?", (5, first.id))
        await connection.execute("UPDATE traces SET rowid = ? WHERE event_id = ?", (MOST_TRACES, second.id))
    await store.lessons.keep_trace(sound_event(), trace())
    assert await store.lessons.learn(first, "correct") == "no_trace"
    assert await store.lessons.learn(second, "correct") == "learnt"


async def test_an_event_judged_while_it_goes_on_is_learnt_from_whole(store: Store) -> None:
    event = await judged(store, "false_alarm")
    assert await store.lessons.keep_trace(event, trace(windows=5))
    [lesson] = store.lessons.of_microphone("kitchen")
    assert len(lesson.embeddings) == 5
    assert not await store.lessons.keep_trace(sound_event(), trace())


async def test_forgetting_takes_the_verdict_too(store: Store) -> None:
    event = sound_event(ended_at=START)
    await store.events.record("started", event, "Kitchen")
    await store.lessons.keep_trace(event, trace())
    await store.events.set_feedback(event.id, "false_alarm")
    await store.lessons.learn(event, "false_alarm")
    await store.lessons.forget(event.id)
    await store.lessons.forget(event.id)
    stored = await store.events.get(event.id)
    assert stored is not None
    assert stored.feedback is None
    await store.lessons.load()
    assert store.lessons.of_microphone("kitchen") == []


async def test_an_event_that_is_deleted_takes_its_trace_but_not_its_lesson(store: Store) -> None:
    event = sound_event(ended_at=START)
    await store.events.record("started", event, "Kitchen")
    await store.lessons.keep_trace(event, trace())
    await store.lessons.learn(event, "false_alarm")
    assert await store.events.delete_before(START + timedelta(days=1)) == 1
    assert await store._database.rows("SELECT * FROM traces") == []
    await store.lessons.load()
    assert store.lessons.get(event.id) is not None


async def test_lessons_go_with_their_microphone(store: Store) -> None:
    await judged(store, "false_alarm")
    await judged(store, "false_alarm", microphone_id="hall")
    await store.microphones.delete("kitchen")
    store.lessons.forget_microphone("kitchen")
    assert store.lessons.of_microphone("kitchen") == []
    await store.lessons.load()
    assert store.lessons.of_microphone("kitchen") == []
    assert len(store.lessons.of_microphone("hall")) == 1


@pytest.mark.parametrize(
    "damage",
    [
        "embeddings = x'00ff'",
        "windows = 0",
        "windows = 7",
        "hop_s = -0.5",
        "hop_s = 9e999",
        "verdict = 'maybe'",
        "heard_at = 'long ago'",
        "embeddings = zeroblob(64)",
        "embeddings = x'007e007e', windows = 1",
    ],
)
async def test_a_lesson_that_makes_no_sense_is_left_out(
    store: Store, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken, whole = await judged(store, "false_alarm"), await judged(store, "false_alarm")
    async with store._database.transaction() as connection:
        # Only texts of this test are put together.
        await connection.execute(f"UPDATE lessons SET {damage} WHERE event_id = ?", (broken.id,))  # noqa: S608
    await store.lessons.load()
    assert [lesson.event_id for lesson in store.lessons.of_microphone("kitchen")] == [whole.id]
    assert broken.id in caplog.text


async def test_what_cannot_be_of_the_model_that_it_names_is_left_out(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    broken, whole = await judged(store, "false_alarm"), await judged(store, "false_alarm")
    async with store._database.transaction() as connection:
        await connection.execute("UPDATE lessons SET windows = 4 WHERE event_id = ?", (broken.id,))
    await store.lessons.load()
    # Which of the two is right is known when the model is there; until then neither keeps the other out.
    assert {len(each.embeddings) for each in store.lessons.wrong("kitchen")["glass_breaking"]} == {2, 4}
    store.lessons.fit_to("another model", 8)
    assert len(store.lessons.of_microphone("kitchen")) == 2
    store.lessons.fit_to("a model", 16)
    store.lessons.fit_to("a model", 16)
    assert [lesson.event_id for lesson in store.lessons.of_microphone("kitchen")] == [whole.id]
    assert [record.getMessage() for record in caplog.records] == [
        f"What was learnt from event {broken.id} is unreadable: embeddings of another size than the model's"
    ]


async def test_a_trace_that_cannot_be_of_the_model_teaches_nothing(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.lessons.fit_to("a model", 16)
    [event] = await traced(store, 1)
    async with store._database.transaction() as connection:
        await connection.execute("UPDATE traces SET windows = 4")
    assert await store.lessons.learn(event, "false_alarm") == "no_trace"
    assert f"{event.id} was heard is unreadable" in caplog.text


async def test_a_damaged_trace_teaches_nothing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    event = sound_event()
    await store.lessons.keep_trace(event, trace())
    async with store._database.transaction() as connection:
        await connection.execute("UPDATE traces SET embeddings = x'00'")
    assert await store.lessons.learn(event, "false_alarm") == "no_trace"
    assert event.id in caplog.text


def test_embeddings_come_back_nearly_as_they_were() -> None:
    rows = trace(3, windows=4).embeddings
    back = from_blob(to_blob(rows), 4)
    assert np.all((rows * back).sum(axis=1) > 0.9999)
    with pytest.raises(ValueError, match="no windows"):
        from_blob(b"", 0)
