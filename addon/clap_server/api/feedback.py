"""Whether events were right, and what the microphones learn from that."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from clap_server.api.context import context, json_response
from clap_server.api.events import existing_event
from clap_server.api.microphones import existing
from clap_server.api.present import event_info, score
from clap_server.api.problems import not_found, read_body
from clap_server.api.route import Route
from clap_server.api.schemas import Feedback, FeedbackTaken, Lesson, LessonsOfLabel, MicrophoneLessons
from clap_server.detection.examples import made_for
from clap_server.detection.library import NORMAL
from clap_server.listening.traces import MOST_WINDOWS
from clap_server.store.lessons import MOST_LESSONS, MOST_TRACES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clap_server.api.context import Context
    from clap_server.detection.scoring import LabelScorer
    from clap_server.listening.events import SoundEvent
    from clap_server.store import lessons as stored
    from clap_server.store.events import Verdict

_NO_TRACE = (
    "it is noted, but nothing can be learnt from it: how the model heard this event is not kept, because"
    " its pattern decided, it is too long ago, or an earlier version of the server heard it"
)
_NOT_YET = "not yet: the microphone is not listening now, or still learning"
_OF_NORMAL = (
    "it is noted, but nothing can be learnt from it: normal has no sound of its own, its score is what the"
    " other labels leave; say of their events whether they were right"
)
# Shorter than a client waits for an answer.
SETTLE_S = 5.0
_NO_MICROPHONE = "it is noted, but its microphone is not there any more"


async def post_feedback(request: web.Request) -> web.Response:
    """Keep the verdict, and have the microphone heed it."""
    shared = context(request)
    stored = await existing_event(request)
    verdict = (await read_body(request, Feedback)).verdict
    async with _judging(shared, stored.event.id):
        await shared.store.events.set_feedback(stored.event.id, verdict)
        info = event_info(await existing_event(request))
        found = await _learn(shared, stored.event, verdict)
    words, value = (found, None) if isinstance(found, str) else await _heeded_now(shared, found)
    answer = FeedbackTaken(
        **info.model_dump(), learnt=not isinstance(found, str), learnt_words=words, score_now=value
    )
    return json_response(answer.model_dump_json())


def _judging(shared: Context, event_id: str) -> asyncio.Lock:
    """So that what is kept of an event, and what is learnt from it, are of the same verdict."""
    return shared.judging.setdefault(event_id, asyncio.Lock())


async def _learn(shared: Context, event: SoundEvent, verdict: Verdict) -> stored.Lesson | str:
    """What is learnt; if nothing is, why, in words."""
    if shared.store.microphones.get(event.microphone_id) is None:
        return _NO_MICROPHONE
    if event.label_id == NORMAL.id:
        return _OF_NORMAL
    if await shared.store.lessons.learn(event, verdict) == "no_trace":
        return _NO_TRACE
    shared.supervisor.relearn(event.microphone_id)
    lesson = shared.store.lessons.get(event.id)
    if lesson is None:
        return _NO_MICROPHONE  # It was removed meanwhile.
    if verdict == "false_alarm" and _heeded(shared, lesson):
        # Until now it was taken for what it was called, so it was no everyday sound of this room.
        await shared.supervisor.count_false(
            event.microphone_id,
            event.id,
            lesson.heard_at,
            lesson.embeddings,
            hop_s=lesson.hop_s,
            denoise=lesson.denoise,
        )
    else:
        await shared.supervisor.uncount_false(event.microphone_id, event.id)
    return lesson


async def _heeded_now(shared: Context, lesson: stored.Lesson) -> tuple[str, float | None]:
    """What a lesson means, in words, and what its sound scores when the microphone heeds it."""
    words = _words(shared, lesson)
    if await shared.supervisor.settle(lesson.microphone_id, SETTLE_S):
        [value] = await asyncio.to_thread(_scores, [lesson], shared.supervisor.scorer(lesson.microphone_id))
        return words, value
    return (f"{words}; {_NOT_YET}" if _heeded(shared, lesson) else words), None


async def list_lessons(request: web.Request) -> web.Response:
    """Say what a microphone has learnt."""
    shared = context(request)
    microphone_id = existing(shared, request.match_info["id"]).id
    lessons = shared.store.lessons.of_microphone(microphone_id)
    settled = await shared.supervisor.settle(microphone_id, SETTLE_S)
    scorer = shared.supervisor.scorer(microphone_id) if settled else None
    scores = await asyncio.to_thread(_scores, lessons, scorer)
    answer = MicrophoneLessons(
        microphone_id=microphone_id,
        lessons=[_lesson(shared, lesson, value) for lesson, value in zip(lessons, scores, strict=True)],
        labels=_by_label(shared, microphone_id, lessons, scores),
    )
    return json_response(answer.model_dump_json())


async def delete_lesson(request: web.Request) -> web.Response:
    """Take a verdict back."""
    shared = context(request)
    microphone_id = existing(shared, request.match_info["id"]).id
    event_id = request.match_info["event_id"]
    async with _judging(shared, event_id):
        lesson = shared.store.lessons.get(event_id)
        if lesson is None or lesson.microphone_id != microphone_id:
            raise not_found(
                "The microphone has learnt nothing from this event; GET lists what it has learnt",
                "no_such_lesson",
            )
        await shared.store.lessons.forget(event_id)
        await shared.supervisor.uncount_false(microphone_id, event_id)
    shared.supervisor.relearn(microphone_id)
    await shared.supervisor.settle(microphone_id, SETTLE_S)
    return web.Response(status=204)


def _scores(lessons: Sequence[stored.Lesson], scorer: LabelScorer | None) -> list[float | None]:
    """The highest that each would have now; None where that cannot be said."""
    return [
        None
        if scorer is None or lesson.made_for != scorer.made_for or lesson.label_id not in scorer.label_ids
        else score(scorer.scores(lesson.embeddings)[:, scorer.label_ids.index(lesson.label_id)].max())
        for lesson in lessons
    ]


def _lesson(shared: Context, lesson: stored.Lesson, value: float | None) -> Lesson:
    return Lesson(
        event_id=lesson.event_id,
        label_id=lesson.label_id,
        label_name=lesson.label_name,
        verdict=lesson.verdict,
        heard_at=lesson.heard_at,
        windows=len(lesson.embeddings),
        heeded=_heeded(shared, lesson),
        words=_words(shared, lesson),
        score=value,
    )


def _heeded(shared: Context, lesson: stored.Lesson) -> bool:
    return lesson.label_id != NORMAL.id and lesson.made_for == made_for(shared.holder.model)


def _words(shared: Context, lesson: stored.Lesson) -> str:
    if lesson.label_id == NORMAL.id:
        return _OF_NORMAL  # An earlier version kept it all the same.
    if not _heeded(shared, lesson):
        return "another model heard it than the one that runs now, so it counts only when that one runs again"
    if lesson.verdict == "correct":
        return "it counts when it is said how much is found, and guards what sounds like it from false alarms"
    return f"what sounds the same is less likely to be taken for {lesson.label_name} at this microphone"


def _by_label(
    shared: Context, microphone_id: str, lessons: Sequence[stored.Lesson], scores: Sequence[float | None]
) -> list[LessonsOfLabel]:
    thresholds = {
        watched.label.id: watched.threshold for watched in shared.supervisor.snapshot(microphone_id).labels
    }
    found = []
    for label_id, name in {lesson.label_id: lesson.label_name for lesson in lessons}.items():
        own = [
            (lesson.verdict, value)
            for lesson, value in zip(lessons, scores, strict=True)
            if lesson.label_id == label_id
        ]
        correct = [value for verdict, value in own if verdict == "correct"]
        known = [value for value in correct if value is not None]
        found.append(
            LessonsOfLabel(
                label_id=label_id,
                label_name=name,
                false_alarms=len(own) - len(correct),
                correct=len(correct),
                correct_known=len(known),
                correct_found=sum(value >= thresholds.get(label_id, 1.0) for value in known),
            )
        )
    return found


ROUTES = (
    Route(
        "POST",
        "/api/events/{id}/feedback",
        post_feedback,
        "Say whether it was right",
        "Events",
        description=(
            "After `false_alarm` the same sound is less likely to be taken for that label at that microphone;"
            " other sounds, other labels and other microphones are not touched. `correct` counts when it is"
            " said how much is found, and takes a `false_alarm` back; what is nearer to it than to any false"
            " alarm loses nothing by those. What is kept is how the model heard the"
            f" event, up to {MOST_WINDOWS} embeddings, never sound: of the newest {MOST_TRACES} events, and"
            f" of the newest {MOST_LESSONS} of each verdict, label and microphone for as long as the"
            " microphone is there. `learnt` says whether there was something to learn from. The answer comes"
            f" when the microphone heeds it, after {SETTLE_S:g} s at most; if it does not yet, `learnt_words`"
            " says so."
        ),
        body=Feedback,
        answer=FeedbackTaken,
        errors=(400, 404, 422),
    ),
    Route(
        "GET",
        "/api/microphones/{id}/feedback",
        list_lessons,
        "What it has learnt from feedback",
        "Microphones",
        answer=MicrophoneLessons,
        errors=(404,),
    ),
    Route(
        "DELETE",
        "/api/microphones/{id}/feedback/{event_id}",
        delete_lesson,
        "Take feedback back",
        "Microphones",
        description="The microphone unlearns it; the event, if it is still kept, has no verdict any more.",
        status=204,
        errors=(404,),
    ),
)
