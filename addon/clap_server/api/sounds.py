"""Sounds that the user teaches: list, add, remove."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from clap_server.api.context import context, has_left, json_response
from clap_server.api.form import parts_of, read_text, receiving
from clap_server.api.problems import ProblemError, client_gone, invalid, not_found
from clap_server.api.route import Route
from clap_server.api.schemas import SeparationInfo, SoundInfo, SoundList
from clap_server.api.taught import Clip, NameTakenError, TooManySoundsError, UnwantedError
from clap_server.audio.decode import decode
from clap_server.audio.encode import encode
from clap_server.detection.everyday.words import promise_words
from clap_server.detection.labels import LabelKind
from clap_server.detection.library import MAX_TEXT_LENGTH
from clap_server.detection.teaching import (
    LEAST_CLIPS,
    LONGEST_S,
    MOST_CLIPS,
    SHORTEST_S,
    TeachingError,
    default_threshold,
    lowered_because,
)
from clap_server.detection.text import is_blank
from clap_server.errors import AudioError, LabelError
from clap_server.listening.config import RecordingSettings

if TYPE_CHECKING:
    from aiohttp import BodyPartReader

    from clap_server.api.context import Context
    from clap_server.store.sounds import TaughtSound

MAX_CLIP_BYTES = 10_000_000
KEPT_RATE = 48000
# Of an event's recording, so much before the sound is taken with it.
_EVENT_LEAD_S = 0.5
_FIELDS = "name, clips, events, kind and keep_clips"


@dataclass(slots=True)
class _Form:
    """What was sent; clips are FLAC already."""

    name: str = ""
    kind: LabelKind | None = None
    keep_clips: bool = True
    events: list[str] = field(default_factory=list)
    clips: list[Clip] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


async def list_sounds(request: web.Request) -> web.Response:
    """All that were taught."""
    shared = context(request)
    answer = SoundList(sounds=[_info(shared, sound) for sound in shared.store.sounds.all()])
    return json_response(answer.model_dump_json())


async def get_sound(request: web.Request) -> web.Response:
    """One of them."""
    shared = context(request)
    return json_response(_info(shared, _existing(shared, request)).model_dump_json())


async def add_sound(request: web.Request) -> web.Response:
    """Teach one."""
    shared = context(request)
    with receiving(request, f"the fields {_FIELDS}"):
        form = await _read(request)
    _check_name(shared, form.name)
    try:
        shared.taught.require_room()
        for event_id in form.events:
            form.clips.append(await _event_clip(shared, event_id))
        sound = await shared.taught.add(
            form.name,
            form.kind,
            form.clips,
            keep=form.keep_clips,
            unwanted=lambda: has_left(request),
        )
    except NameTakenError as error:
        raise ProblemError(409, "name_taken", str(error)) from error
    except UnwantedError:
        raise client_gone() from None
    except TooManySoundsError as error:
        raise ProblemError(409, "too_many_sounds", str(error)) from error
    except TeachingError as error:
        where = "clips" if error.clip is None else f"clips.{error.clip}"
        raise invalid(where, str(error), error.code) from error
    except AudioError as error:
        raise invalid("clips", str(error), "unreadable_audio") from error
    location = {"Location": f"sounds/{sound.id}"}
    return json_response(_info(shared, sound).model_dump_json(), 201, location)


async def delete_sound(request: web.Request) -> web.Response:
    """Forget one."""
    shared = context(request)
    sound = _existing(shared, request)
    await shared.taught.remove(sound.id, lambda: _refuse_if_watched(shared, sound))
    return web.Response(status=204)


def _refuse_if_watched(shared: Context, sound: TaughtSound) -> None:
    """By the settings: microphones that cannot listen now would listen for the bare words later."""
    microphones = [*shared.store.microphones.all(), *shared.microphones_coming.values()]
    watching = dict.fromkeys(
        microphone.settings.name
        for microphone in microphones
        if any(_means(shared, choice.label, sound) for choice in microphone.settings.labels)
    )
    if watching:
        listens = "listens" if len(watching) == 1 else "listen"
        raise ProblemError(
            409, "in_use", f"{', '.join(watching)} still {listens} for {sound.name}: take it off there first"
        )


def _means(shared: Context, text: str, sound: TaughtSound) -> bool:
    try:
        return shared.library.resolve(text).id == sound.id
    except LabelError:
        return False


async def _read(request: web.Request) -> _Form:
    form = _Form()
    async for part in parts_of(request):
        name = part.name or ""
        if name not in {"clips", "events"} and name in form.seen:
            raise invalid(name[:50], "was sent twice; send it once")
        form.seen.add(name)
        match name:
            case "clips":
                if len(form.clips) >= MOST_CLIPS:
                    raise invalid("clips", f"at most {MOST_CLIPS} clips are taken", "too_many_clips")
                form.clips.append(await _clip(part, len(form.clips)))
            case "events":
                form.events += [text.strip() for text in (await read_text(part)).split(",") if text.strip()]
                if len(form.events) > MOST_CLIPS:
                    raise invalid("events", f"at most {MOST_CLIPS} events are taken", "too_many_clips")
            case "name":
                form.name = await read_text(part)
            case "kind":
                form.kind = _kind(await read_text(part))
            case "keep_clips":
                form.keep_clips = _truth(await read_text(part))
            case other:
                raise invalid(other[:50], f"is not a field here; use {_FIELDS}")
    return form


async def _clip(part: BodyPartReader, number: int) -> Clip:
    data = bytearray()
    while chunk := await part.read_chunk(1 << 16):
        data += chunk
        if len(data) > MAX_CLIP_BYTES:
            raise ProblemError(
                413,
                "upload_too_large",
                f"A clip is larger than {MAX_CLIP_BYTES // 1_000_000} MB; cut it to {LONGEST_S:g} s or less",
            )
    name = f"clip {number + 1}" + (f" ({part.filename[:60]})" if part.filename else "")
    try:
        return Clip(name, await asyncio.to_thread(_flac, bytes(data)))
    except AudioError as error:
        raise invalid(f"clips.{number}", f"{name}: {error}", "unreadable_audio") from error


def _flac(data: bytes) -> bytes:
    samples = decode(io.BytesIO(data), KEPT_RATE, max_duration_s=LONGEST_S)
    return encode(samples, KEPT_RATE, "flac")


async def _event_clip(shared: Context, event_id: str) -> Clip:
    stored = await shared.store.events.get(event_id)
    if stored is None:
        raise invalid("events", f"there is no event {event_id[:50]!r} any more", "no_such_event")
    event = stored.event
    path = shared.store.clips.path(event)
    if event.ended_at is None or not await asyncio.to_thread(path.is_file):
        raise invalid("events", f"event {event_id} has no recording to learn from", "no_clip")
    event_s = (event.ended_at - event.started_at).total_seconds()
    before_s = None
    if event.clip_starts_at is not None:
        before_s = (event.started_at - event.clip_starts_at).total_seconds()
    microphone = shared.store.microphones.get(event.microphone_id)
    recorded = RecordingSettings() if microphone is None else microphone.settings.recording

    def cut() -> bytes:
        samples = decode(path, KEPT_RATE)
        # An earlier version of the server did not note where the recording began.
        most_s = max(len(samples) / KEPT_RATE - event_s, 0.0)
        sound_s = min(recorded.pre_roll_s, most_s) if before_s is None else before_s
        first = max(0, round((sound_s - _EVENT_LEAD_S) * KEPT_RATE))
        last = round((sound_s + event_s) * KEPT_RATE)
        return encode(samples[first : min(last, first + round(LONGEST_S * KEPT_RATE))], KEPT_RATE, "flac")

    try:
        flac = await asyncio.to_thread(cut)
    except AudioError as error:
        raise invalid(
            "events", f"the recording of event {event_id} is damaged: leave it out", "unreadable_audio"
        ) from error
    return Clip(f"event {event_id}", flac, event_s)


def _check_name(shared: Context, name: str) -> None:
    if is_blank(name):
        raise invalid("name", "is required: say what the sound is, such as 'my doorbell'")
    try:
        words = shared.library.for_teaching(name)
    except LabelError as error:
        raise invalid("name", str(error), "invalid_name") from error
    if shared.library.resolve(name).taught is not None or shared.store.sounds.get(words.id) is not None:
        raise ProblemError(
            409, "name_taken", f"A sound of the name {name!r} is taught already: choose another"
        )


def _kind(text: str) -> LabelKind | None:
    if not text:
        return None
    try:
        return LabelKind(text)
    except ValueError:
        raise invalid("kind", "must be 'impulsive' or 'sustained', or left out") from None


def _truth(text: str) -> bool:
    if text not in {"true", "false"}:
        raise invalid("keep_clips", "must be 'true' or 'false'")
    return text == "true"


def _existing(shared: Context, request: web.Request) -> TaughtSound:
    sound = shared.store.sounds.get(request.match_info["id"])
    if sound is None:
        raise not_found("There is no taught sound of this id; GET /api/sounds lists them", "no_such_sound")
    return sound


def _info(shared: Context, sound: TaughtSound) -> SoundInfo:
    separation = sound.separation
    threshold, because = default_threshold(separation), lowered_because(separation)
    promise = promise_words(threshold)
    return SoundInfo(
        id=sound.id,
        name=sound.name,
        kind=sound.kind,
        created_at=sound.created_at,
        threshold=threshold,
        meaning=promise if because is None else f"{promise}; {because}",
        clips=len(sound.clips),
        clips_kept=all(clip.has_sound for clip in sound.clips),
        problem=shared.taught.problem(sound),
        separation=SeparationInfo(
            clips=separation.clips,
            found_at_one_a_day=separation.found_at_one_a_day,
            found_at_one_an_hour=separation.found_at_one_an_hour,
            verdict=separation.verdict,
            words=separation.words,
        ),
    )


ROUTES = (
    Route("GET", "/api/sounds", list_sounds, "Sounds that were taught", "Labels", answer=SoundList),
    Route(
        "POST",
        "/api/sounds",
        add_sound,
        "Teach a sound",
        "Labels",
        description=(
            f"From {LEAST_CLIPS} to {MOST_CLIPS} clips of {SHORTEST_S:g} to {LONGEST_S:g} s, sent as files"
            " or taken from the recordings of events. The sound is then a label like any other, by name or"
            " id, for every microphone; its score is a rate like any other. `separation` says how well it is"
            " told from everyday sound: each clip is looked for with what the others teach."
            " Beside the embeddings the clips are kept in the server's database, until the sound is deleted,"
            " so that another model can learn them; with `keep_clips=false` they are not, and with another"
            " model the sound is not heard and `problem` says so."
            " A client that closes the connection while the sound is being learnt takes it back: nothing is"
            " kept."
        ),
        status=201,
        body={
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["name"],
                        "additionalProperties": False,
                        "properties": {
                            "name": {
                                "type": "string",
                                "minLength": 1,
                                "maxLength": MAX_TEXT_LENGTH,
                                "examples": ["my doorbell"],
                                "description": "one line without commas",
                            },
                            "clips": {
                                "type": "array",
                                "items": {"type": "string", "format": "binary"},
                                "maxItems": MOST_CLIPS,
                                "description": "each a file that FFmpeg reads",
                            },
                            "events": {
                                "type": "string",
                                "description": "ids of events with recordings, parted by commas; with"
                                f" the clips {LEAST_CLIPS} to {MOST_CLIPS}",
                            },
                            "kind": {
                                "type": "string",
                                "enum": [kind.value for kind in LabelKind],
                                "description": "by the length of the clips, and of the events without"
                                " what was recorded before and after them, if left out",
                            },
                            "keep_clips": {"type": "boolean", "default": True},
                        },
                    }
                }
            },
        },
        answer=SoundInfo,
        errors=(400, 409, 413, 415, 422),
    ),
    Route(
        "GET", "/api/sounds/{id}", get_sound, "One taught sound", "Labels", answer=SoundInfo, errors=(404,)
    ),
    Route(
        "DELETE",
        "/api/sounds/{id}",
        delete_sound,
        "Forget a taught sound",
        "Labels",
        description=(
            "With its clips, and what feedback taught of it: another sound of its name begins anew. Not"
            " while the settings of a microphone name it, also of one that is off or cannot listen now (409"
            " names them): it would go on with the bare words."
        ),
        status=204,
        errors=(404, 409),
    ),
)
