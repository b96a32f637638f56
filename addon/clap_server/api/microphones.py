"""Microphones: list, add, change, remove."""

from __future__ import annotations

import asyncio
import re
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aiohttp import WSCloseCode, web
from pydantic import ValidationError
from pydantic_core import from_json

from clap_server.api.context import context, json_response
from clap_server.api.present import microphone_info, microphones, redacted, watched_labels
from clap_server.api.problems import ProblemError, from_validation, invalid, not_found, parse, read_body
from clap_server.api.route import Route
from clap_server.api.schemas import (
    CheckedMicrophone,
    MicrophoneChangedMessage,
    MicrophoneCheck,
    MicrophoneInfo,
    MicrophoneList,
    MicrophoneRemovedMessage,
    Release,
)
from clap_server.api.websocket import close
from clap_server.audio.denoise import check_denoise
from clap_server.audio.source import SourceError
from clap_server.audio.url import check_url, restore_url
from clap_server.errors import AudioError, ConfigurationError, LabelError
from clap_server.listening.config import Microphone, MicrophoneSettings, UrlSourceSettings
from clap_server.store.microphones import OWNER_SERVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clap_server.api.context import Context
    from clap_server.audio.source import AudioSource
    from clap_server.detection.library import LabelLibrary
    from clap_server.listening.plan import Plan
    from clap_server.listening.supervisor import Prepared

MAX_MICROPHONES = 200


async def list_microphones(request: web.Request) -> web.Response:
    found = MicrophoneList(microphones=await microphones(context(request)))
    return json_response(await asyncio.to_thread(found.model_dump_json))


async def get_microphone(request: web.Request) -> web.Response:
    shared = context(request)
    return _answer(shared, existing(shared, request.match_info["id"]))


async def add_microphone(request: web.Request) -> web.Response:
    shared = context(request)
    settings = await read_body(request, MicrophoneSettings)
    microphone, _ = await _put(shared, _new_id(settings.name), lambda _old: settings)
    return _answer(shared, microphone, status=201, headers={"Location": f"microphones/{microphone.id}"})


async def put_microphone(request: web.Request) -> web.Response:
    """Add one or replace its settings; the same again changes nothing."""
    shared = context(request)
    settings = await read_body(request, MicrophoneSettings)
    microphone, added = await _put(shared, request.match_info["id"], lambda _old: settings)
    return _answer(shared, microphone, status=201 if added else 200)


async def patch_microphone(request: web.Request) -> web.Response:
    """Change some settings (JSON merge patch, RFC 7396, on the first level)."""
    shared = context(request)
    try:
        changes = from_json(await request.read())
    except ValueError:
        raise ProblemError(400, "invalid_json", "The body is not JSON; send a JSON object in UTF-8") from None
    if not isinstance(changes, dict):
        raise ProblemError(
            422, "invalid_request", "The body must be a JSON object with the settings to change"
        )

    def merge(old: Microphone | None) -> MicrophoneSettings:
        if old is None:
            raise _no_such_microphone()
        _require_readable(shared, old)
        return parse(MicrophoneSettings, old.settings.model_dump(mode="json") | changes)

    microphone, _ = await _put(shared, request.match_info["id"], merge)
    return _answer(shared, microphone)


async def check_microphone(request: web.Request) -> web.Response:
    """Say what settings mean or what is wrong with them; nothing is opened, stored or changed."""
    shared = context(request)
    wanted = await read_body(request, MicrophoneCheck)
    old = shared.store.microphones.get(wanted.id) if wanted.id is not None else None
    microphone = _checked(shared, wanted.id or _new_id(wanted.settings.name), wanted.settings, old)
    plan, _ = _meaning(shared, microphone)
    model, least_hop_s = shared.holder.model, shared.holder.least_hop_s

    def answer() -> str:
        return CheckedMicrophone(
            labels=watched_labels(plan.labels, microphone.settings, model, least_hop_s=least_hop_s),
            source=redacted(microphone.settings.source),
        ).model_dump_json()

    # In a thread: the first time the bank of everyday sound is looked through.
    return json_response(await asyncio.to_thread(answer))


async def delete_microphone(request: web.Request) -> web.Response:
    """Remove one; its events stay."""
    shared = context(request)
    microphone_id = request.match_info["id"]
    async with shared.supervisor.lock(microphone_id):
        await _remove(shared, existing(shared, microphone_id))
    return web.Response(status=204)


async def release_microphone(request: web.Request) -> web.Response:
    """Let its owner go: it becomes the server's own again if it was that, else it is removed."""
    shared = context(request)
    microphone_id = request.match_info["id"]
    owner = (await read_body(request, Release)).owner
    async with shared.supervisor.lock(microphone_id):
        microphone = existing(shared, microphone_id)
        if microphone.settings.owner != owner:
            raise ProblemError(
                409, "not_owner", "The microphone belongs to another owner, who alone can release it"
            )
        if not shared.store.microphones.is_adopted(microphone_id):
            await _remove(shared, microphone)
            return web.Response(status=204)
        _require_readable(shared, microphone)
        settings = microphone.settings.model_copy(update={"owner": OWNER_SERVER})
        own = Microphone(id=microphone_id, settings=settings)
        # What listens does not care for the owner.
        await shared.store.microphones.put(own)
    shared.bus.publish(MicrophoneChangedMessage(microphone=microphone_info(shared, own)))
    return web.Response(status=204)


async def mute_microphone(request: web.Request) -> web.Response:
    """Stop listening at once, until it is unmuted.

    Muted is no setting, but a state of the server beside the settings. Who owns a microphone declares its
    settings again at each connect; a mute must outlast that, whoever declared what before, and anyone who may
    use the server may mute. ``enabled: false`` is the owner's wish for a microphone that is not in use.
    """
    shared = context(request)
    microphone_id = request.match_info["id"]
    existing(shared, microphone_id)
    # At once, whoever changes the microphone at the moment.
    shared.supervisor.silence(microphone_id)
    async with shared.supervisor.lock(microphone_id):
        microphone = existing(shared, microphone_id)
        await shared.supervisor.mute(microphone_id)
        before = shared.store.microphones.is_muted(microphone_id)
        try:
            await shared.store.microphones.set_muted(microphone_id, muted=True)
        finally:
            # Muted it is, even if the next start will not know of it.
            if not before:
                shared.bus.publish(MicrophoneChangedMessage(microphone=microphone_info(shared, microphone)))
        pusher = shared.pushers.get(microphone_id)
        if pusher is not None:
            await close(pusher, WSCloseCode.POLICY_VIOLATION, "This microphone is muted now")
        return _answer(shared, microphone)


async def unmute_microphone(request: web.Request) -> web.Response:
    """Listen again, as the settings say."""
    shared = context(request)
    microphone_id = request.match_info["id"]
    async with shared.supervisor.lock(microphone_id):
        microphone = existing(shared, microphone_id)
        if shared.store.microphones.is_muted(microphone_id):
            await shared.store.microphones.set_muted(microphone_id, muted=False)
            shared.supervisor.unmute(microphone_id)
            shared.bus.publish(MicrophoneChangedMessage(microphone=microphone_info(shared, microphone)))
        return _answer(shared, microphone)


async def _put(
    shared: Context, microphone_id: str, change: Callable[[Microphone | None], MicrophoneSettings]
) -> tuple[Microphone, bool]:
    """Validate, then store, then apply: what fails has changed nothing.

    Args:
        shared: the server's parts.
        microphone_id: of the microphone to add or change.
        change: makes the settings from what is there now.

    Returns:
        The microphone, and whether it was added.
    """
    store = shared.store.microphones
    while True:
        old = store.get(microphone_id)
        microphone = _checked(shared, microphone_id, change(old), old)
        if microphone == old:
            return old, False
        # Without a lock: the model may take its time over the texts.
        prepared = await _prepared(shared, microphone)
        async with shared.supervisor.lock(microphone_id):
            if store.get(microphone_id) != old:
                continue  # It was changed meanwhile: begin with what it is now.
            _require_taught(shared.library, prepared.plan)
            shared.microphones_coming[microphone_id] = microphone
            try:
                _require_room(shared, microphone_id)
                await store.put(microphone)
            finally:
                del shared.microphones_coming[microphone_id]
            await shared.supervisor.use(prepared)
            shared.bus.publish(MicrophoneChangedMessage(microphone=microphone_info(shared, microphone)))
            # Of hundreds of labels both this and the answer take their time: others may work in between.
            await asyncio.sleep(0)
            return microphone, old is None


async def _remove(shared: Context, microphone: Microphone) -> None:
    await shared.store.microphones.delete(microphone.id)
    shared.store.lessons.forget_microphone(microphone.id)
    await shared.supervisor.remove(microphone.id)
    shared.metrics.forget(microphone.id)
    shared.bus.publish(MicrophoneRemovedMessage(microphone_id=microphone.id))


def _require_readable(shared: Context, microphone: Microphone) -> None:
    """Refuse to build on settings that only stand for a row of the database that makes no sense."""
    problem = shared.store.microphones.unreadable(microphone.id)
    if problem is not None:
        raise ProblemError(409, "unreadable_settings", f"Nothing can be changed here: {problem}")


def _require_room(shared: Context, microphone_id: str) -> None:
    others = {each.id for each in shared.store.microphones.all()} | set(shared.microphones_coming)
    if len(others - {microphone_id}) >= MAX_MICROPHONES:
        raise ProblemError(
            409, "too_many_microphones", f"The server takes {MAX_MICROPHONES} microphones; remove one"
        )


def _checked(
    shared: Context, microphone_id: str, settings: MicrophoneSettings, old: Microphone | None
) -> Microphone:
    """Put stored secrets back and refuse what cannot work, before anything is changed."""
    _require_room(shared, microphone_id)
    source = settings.source
    if isinstance(source, UrlSourceSettings):
        old_source = old.settings.source if old is not None else None
        old_url = old_source.url if isinstance(old_source, UrlSourceSettings) else None
        try:
            source = UrlSourceSettings(url=restore_url(source.url, old_url))
            check_url(source.url)
        except SourceError as error:
            raise invalid("source.url", error.reason, error.code) from error
        settings = settings.model_copy(update={"source": source})
    if settings.denoise:
        try:
            check_denoise()
        except ConfigurationError as error:
            raise invalid("denoise", str(error), "denoise_unavailable") from error
    _check_labels(shared.library, settings)
    try:
        return Microphone(id=microphone_id, settings=settings)
    except ValidationError as error:
        raise from_validation(error) from None


def _check_labels(library: LabelLibrary, settings: MicrophoneSettings) -> None:
    """Refuse labels and negatives that are not usable, or say the same.

    Raises:
        ProblemError: names the field.
    """
    seen: dict[str, str] = {}
    for index, choice in enumerate(settings.labels):
        try:
            label = library.resolve(choice.label)
        except LabelError as error:
            raise invalid(f"labels.{index}.label", str(error), "invalid_label") from error
        if label.id in seen:
            raise invalid(
                f"labels.{index}.label",
                f"'{choice.label}' means the same as '{seen[label.id]}'; name each sound once",
                "duplicate_label",
            )
        seen[label.id] = choice.label
    for index, text in enumerate(settings.negatives):
        try:
            meant = library.resolve(text).id
        except LabelError as error:
            raise invalid(f"negatives.{index}", str(error), "invalid_label") from error
        if meant in seen:
            # Its margins would be nothing but noise, of which some would score high.
            raise invalid(
                f"negatives.{index}",
                f"'{text}' means the same as the label '{seen[meant]}'; name what the sounds are not",
                "duplicate_label",
            )


def _require_taught(library: LabelLibrary, plan: Plan) -> None:
    """Refuse to go on with the bare words of a sound that was deleted while the plan was prepared."""
    for watched in plan.labels:
        name = watched.label.names["en"]
        if watched.label.taught is not None and library.resolve(name).taught is None:
            raise ProblemError(
                409,
                "sound_deleted",
                f"The taught sound {name} was deleted meanwhile: leave it out, or send the settings again to"
                " listen for its words alone",
            )


def _meaning(shared: Context, microphone: Microphone) -> tuple[Plan, AudioSource]:
    with _explained():
        return shared.supervisor.check(microphone.settings, microphone.id)


async def _prepared(shared: Context, microphone: Microphone) -> Prepared:
    with _explained():
        return await shared.supervisor.prepare(microphone)


@contextmanager
def _explained() -> Iterator[None]:
    """Name the field of what is found wrong with settings."""
    try:
        yield
    except LabelError as error:
        raise invalid("labels", str(error), "invalid_label") from error
    except (AudioError, ConfigurationError) as error:
        raise invalid("source", str(error), "invalid_source") from error


def existing(shared: Context, microphone_id: str) -> Microphone:
    """The microphone of an id.

    Raises:
        ProblemError: there is none.
    """
    microphone = shared.store.microphones.get(microphone_id)
    if microphone is None:
        raise _no_such_microphone()
    return microphone


def _no_such_microphone() -> ProblemError:
    return not_found(
        "There is no microphone of this id; GET /api/microphones lists them", "no_such_microphone"
    )


def _answer(
    shared: Context, microphone: Microphone, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    return json_response(microphone_info(shared, microphone).model_dump_json(), status, headers)


def _new_id(name: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return f"{words}-{secrets.token_hex(3)}" if words else secrets.token_hex(6)


_DESCRIPTION = (
    "A secret in the source's address is write-only: it is read back as `***`, and an address sent back "
    "that way keeps the stored secret."
)

ROUTES = (
    Route(
        "GET",
        "/api/microphones",
        list_microphones,
        "All microphones",
        "Microphones",
        answer=MicrophoneList,
        trusted=True,
    ),
    Route(
        "POST",
        "/api/microphones",
        add_microphone,
        "Add a microphone",
        "Microphones",
        description=_DESCRIPTION,
        status=201,
        body=MicrophoneSettings,
        answer=MicrophoneInfo,
        errors=(400, 409, 413, 422),
    ),
    Route(
        "POST",
        "/api/microphones/check",
        check_microphone,
        "Check settings without using them",
        "Microphones",
        description=(
            "Pure: no stream is opened, nothing is stored, and no client hears of it. The problems are those"
            " of PUT. `id` is that of a microphone to change, whose stored secret may stand as `***`."
            " `POST /api/sources/check` tries the source as well."
        ),
        body=MicrophoneCheck,
        answer=CheckedMicrophone,
        errors=(400, 409, 413, 422),
    ),
    Route(
        "GET",
        "/api/microphones/{id}",
        get_microphone,
        "One microphone",
        "Microphones",
        answer=MicrophoneInfo,
        errors=(404,),
        trusted=True,
    ),
    Route(
        "PUT",
        "/api/microphones/{id}",
        put_microphone,
        "Add or replace a microphone",
        "Microphones",
        description=(
            "Idempotent: the same settings again change nothing and interrupt nothing."
            f" {_DESCRIPTION}"
            " Answers 201 when it was added."
        ),
        body=MicrophoneSettings,
        answer=MicrophoneInfo,
        also=(201,),
        errors=(400, 409, 413, 422),
    ),
    Route(
        "PATCH",
        "/api/microphones/{id}",
        patch_microphone,
        "Change some settings",
        "Microphones",
        description=(
            "Only the settings that are sent change; `labels` and `source` are replaced"
            f" whole. {_DESCRIPTION}"
        ),
        body=MicrophoneSettings,
        partial=True,
        answer=MicrophoneInfo,
        errors=(400, 404, 409, 413, 422),
    ),
    Route(
        "DELETE",
        "/api/microphones/{id}",
        delete_microphone,
        "Remove a microphone",
        "Microphones",
        description="Its events and clips stay.",
        status=204,
        errors=(404,),
    ),
    Route(
        "PUT",
        "/api/microphones/{id}/mute",
        mute_microphone,
        "Mute a microphone",
        "Microphones",
        description=(
            "A hard mute. The connection to its source is closed at once and the sound in memory is wiped;"
            " there are no levels, scores or events. Events that go on end, without a recording. Pushed"
            " sound is refused (409, `microphone_muted`). Its state is `muted`, also after a restart and"
            " whatever settings are declared meanwhile. Muting twice is fine."
        ),
        answer=MicrophoneInfo,
        errors=(404,),
    ),
    Route(
        "DELETE",
        "/api/microphones/{id}/mute",
        unmute_microphone,
        "Unmute a microphone",
        "Microphones",
        description="It listens again, if its settings say so. Unmuting one that is not muted is fine.",
        answer=MicrophoneInfo,
        errors=(404,),
    ),
    Route(
        "POST",
        "/api/microphones/{id}/release",
        release_microphone,
        "Let a microphone go",
        "Microphones",
        description=(
            "For an owner that wants it no more. An `adopted` one becomes the server's own again and goes on"
            " listening with the same settings; another one is removed. What belongs to another owner stays"
            " as it is (409)."
        ),
        status=204,
        body=Release,
        errors=(400, 404, 409, 413, 422),
    ),
)
