"""Events: list, look at, listen to, judge."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from clap_server.api.context import context, json_response
from clap_server.api.file_response import File
from clap_server.api.present import event_info
from clap_server.api.problems import invalid, not_found, read_number
from clap_server.api.route import Parameter, Route
from clap_server.api.schemas import MAX_SEQUENCE, EventInfo, EventList
from clap_server.api.spectrogram import spectrogram
from clap_server.audio.decode import decode
from clap_server.errors import AudioError
from clap_server.listening.events import ClipWithheld

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp import web

    from clap_server.api.problems import ProblemError
    from clap_server.listening.events import SoundEvent
    from clap_server.store.events import StoredEvent

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
SPECTROGRAM_RATE = 32000
_PRIVATE = {"Cache-Control": "private, max-age=86400, immutable"}


async def list_events(request: web.Request) -> web.Response:
    events = context(request).store.events
    unknown = set(request.query) - {"after", "before", "microphone", "label", "limit"}
    if unknown:
        raise invalid(min(unknown), "is not known; use after, before, microphone, label or limit")
    limit = read_number(request, "limit", 1, MAX_LIMIT)
    # Before the list is read: what comes in between is then asked for again rather than missed.
    last_sequence = events.last_sequence
    found = await events.list(
        after=read_number(request, "after", 0, MAX_SEQUENCE),
        before=read_number(request, "before", 0, MAX_SEQUENCE),
        microphone=request.query.get("microphone"),
        label=request.query.get("label"),
        limit=DEFAULT_LIMIT if limit is None else limit,
    )
    epoch = events.epoch

    def answer() -> str:
        infos = [event_info(stored) for stored in found]
        return EventList(events=infos, last_sequence=last_sequence, epoch=epoch).model_dump_json()

    # In a thread: of a thousand it takes its time, and live sound must not wait.
    return json_response(await asyncio.to_thread(answer))


async def get_event(request: web.Request) -> web.Response:
    return json_response(event_info(await existing_event(request)).model_dump_json())


async def get_flac(request: web.Request) -> web.StreamResponse:
    event = (await existing_event(request)).event
    path = context(request).store.clips.path(event)
    size = await asyncio.to_thread(_size, path)
    if size == 0:
        raise _damaged()
    return _file(event, None if size is None else path, "audio/flac")


async def get_mp3(request: web.Request) -> web.StreamResponse:
    event = (await existing_event(request)).event
    try:
        path = await context(request).store.clips.mp3(event)
    except AudioError:
        raise _damaged() from None
    return _file(event, path, "audio/mpeg")


async def get_spectrogram(request: web.Request) -> web.StreamResponse:
    event = (await existing_event(request)).event
    try:
        path = await context(request).store.clips.derived(event, "png", _draw)
    except AudioError:
        raise _damaged() from None
    return _file(event, path, "image/png")


def _size(path: Path) -> int | None:
    """In bytes; None if there is no such file."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _damaged() -> ProblemError:
    return not_found(
        "The recording of this event cannot be played: its file on the server's disk is damaged, or the"
        " server may not read it",
        "damaged_clip",
    )


def _draw(flac: Path) -> bytes:
    return spectrogram(decode(flac, SPECTROGRAM_RATE), SPECTROGRAM_RATE)


def _file(event: SoundEvent, path: Path | None, content_type: str) -> web.StreamResponse:
    if path is None:
        if event.ended_at is None:
            raise not_found("The sound still goes on; its recording is there when it ends", "no_clip_yet")
        if event.clip_withheld is ClipWithheld.COMING:
            raise not_found("The recording is not whole yet; it is there in some seconds", "no_clip_yet")
        raise not_found(f"There is no recording of this event: {_why_none(event.clip_withheld)}", "no_clip")
    return File(path, headers={**_PRIVATE, "Content-Type": content_type})


def _why_none(reason: ClipWithheld | None) -> str:
    match reason:
        case ClipWithheld.EVENT_ONLY:
            return "its microphone keeps events only"
        case ClipWithheld.SPEECH:
            return "somebody speaks in it, and its microphone keeps no such recordings"
        case ClipWithheld.CHECK_FAILED:
            return "whether somebody speaks in it could not be told, so it was dropped"
        case ClipWithheld.MUTED:
            return "the microphone was muted while the sound went on"
        case ClipWithheld.LOST:
            return "its sound was lost before it could be recorded"
        case ClipWithheld.NOT_STORED:
            return "the disk did not take it; GET /api/info says what is wrong with it"
        case ClipWithheld.REMOVED:
            return "it was removed, as it was too old or there were too many"
        case _:
            return "it could not be stored, or was removed to make room"


async def existing_event(request: web.Request) -> StoredEvent:
    """The event that a request is about.

    Raises:
        ProblemError: there is none.
    """
    stored = await context(request).store.events.get(request.match_info["id"])
    if stored is None:
        raise not_found("There is no event of this id; it may have been too old to keep", "no_such_event")
    return stored


_SEQUENCE = {"type": "integer", "minimum": 0, "maximum": MAX_SEQUENCE}

ROUTES = (
    Route(
        "GET",
        "/api/events",
        list_events,
        "Events, oldest first",
        "Events",
        description=(
            "Ordered by the sequence number of their newest change. "
            "Without `after` the newest are listed; with it, the first ones after that number, so that"
            " `after` = the last one's `sequence` pages on."
        ),
        answer=EventList,
        query=(
            Parameter("after", _SEQUENCE, "only events whose newest change has a higher sequence number"),
            Parameter("before", _SEQUENCE, "only events whose newest change has a lower sequence number"),
            Parameter("microphone", {"type": "string"}, "only of this microphone id"),
            Parameter("label", {"type": "string"}, "only of this label id"),
            Parameter(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
                "at most so many",
            ),
        ),
        errors=(422,),
        trusted=True,
    ),
    Route(
        "GET",
        "/api/events/{id}",
        get_event,
        "One event",
        "Events",
        answer=EventInfo,
        errors=(404,),
        trusted=True,
    ),
    Route(
        "GET",
        "/api/events/{id}/clip.flac",
        get_flac,
        "Recording without loss",
        "Events",
        description="With its microphone's pre-roll and post-roll. Parts can be asked for (`Range`).",
        answer="audio/flac",
        file=True,
        errors=(404,),
    ),
    Route(
        "GET",
        "/api/events/{id}/clip.mp3",
        get_mp3,
        "Recording for any browser",
        "Events",
        description="Parts of it can be asked for (`Range`).",
        answer="audio/mpeg",
        file=True,
        errors=(404,),
    ),
    Route(
        "GET",
        "/api/events/{id}/spectrogram.png",
        get_spectrogram,
        "Picture of the recording",
        "Events",
        answer="image/png",
        file=True,
        errors=(404,),
    ),
)
