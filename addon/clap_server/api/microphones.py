"""Microphones: list, add, change, remove."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from aiohttp import web
from pydantic import ValidationError
from pydantic_core import from_json

from clap_server.api.context import context, json_response
from clap_server.api.present import microphone_info, microphones_message
from clap_server.api.problems import ProblemError, from_validation, invalid, not_found, parse, read_body
from clap_server.api.route import Route
from clap_server.api.schemas import MicrophoneInfo, MicrophoneList
from clap_server.audio.source import SourceError
from clap_server.audio.url import check_url, restore_url
from clap_server.errors import AudioError, ConfigurationError, LabelError, StoreError
from clap_server.listening.config import Microphone, MicrophoneSettings, UrlSourceSettings

if TYPE_CHECKING:
    from clap_server.api.context import Context

MAX_MICROPHONES = 200


async def list_microphones(request: web.Request) -> web.Response:
    """List all."""
    found = microphones_message(context(request)).microphones
    return json_response(MicrophoneList(microphones=found).model_dump_json())


async def get_microphone(request: web.Request) -> web.Response:
    """Show one."""
    return _answer(context(request), _existing(request))


async def add_microphone(request: web.Request) -> web.Response:
    """Add one under an id that the server chooses."""
    shared = context(request)
    settings = await read_body(request, MicrophoneSettings)
    microphone_id = _new_id(settings.name)
    async with shared.microphones_lock:
        microphone = await _put(shared, microphone_id, settings)
    return _answer(shared, microphone, status=201, headers={"Location": f"microphones/{microphone.id}"})


async def put_microphone(request: web.Request) -> web.Response:
    """Add one or replace its settings; the same again changes nothing."""
    shared = context(request)
    settings = await read_body(request, MicrophoneSettings)
    microphone_id = request.match_info["id"]
    async with shared.microphones_lock:
        new = shared.store.microphones.get(microphone_id) is None
        microphone = await _put(shared, microphone_id, settings)
    return _answer(shared, microphone, status=201 if new else 200)


async def patch_microphone(request: web.Request) -> web.Response:
    """Change some settings (JSON merge patch, RFC 7396, on the first level)."""
    shared = context(request)
    try:
        changes = from_json(await request.read())
    except ValueError:
        raise ProblemError(400, "invalid-json", "The body is not JSON; send a JSON object in UTF-8") from None
    if not isinstance(changes, dict):
        raise ProblemError(
            422, "invalid-request", "The body must be a JSON object with the settings to change"
        )
    async with shared.microphones_lock:
        old = _existing(request)
        merged = old.settings.model_dump(mode="json") | changes
        settings = parse(MicrophoneSettings, merged)
        microphone = await _put(shared, old.id, settings)
    return _answer(shared, microphone)


async def delete_microphone(request: web.Request) -> web.Response:
    """Remove one; its events stay."""
    shared = context(request)
    async with shared.microphones_lock:
        microphone = _existing(request)
        # First, so that the events that end now still know its name.
        await shared.supervisor.remove(microphone.id)
        try:
            await shared.store.microphones.delete(microphone.id)
        except StoreError:
            await shared.supervisor.apply(microphone)
            raise
    shared.bus.publish(microphones_message(shared))
    return web.Response(status=204)


async def _put(shared: Context, microphone_id: str, settings: MicrophoneSettings) -> Microphone:
    """Store and apply settings; a failure leaves everything as it was."""
    store = shared.store.microphones
    old = store.get(microphone_id)
    if old is None and len(store.all()) >= MAX_MICROPHONES:
        raise ProblemError(
            409, "too-many-microphones", f"The server takes {MAX_MICROPHONES} microphones; remove one"
        )
    settings = _checked(shared, settings, old)
    try:
        microphone = Microphone(id=microphone_id, settings=settings)
    except ValidationError as error:
        raise from_validation(error) from None
    if microphone == old:
        return old
    await store.put(microphone)
    try:
        await shared.supervisor.apply(microphone)
    except BaseException as error:
        if old is None:
            await store.delete(microphone_id)
        else:
            await store.put(old)
        if isinstance(error, LabelError):
            raise invalid("labels", str(error), "invalid-label") from error
        if isinstance(error, AudioError | ConfigurationError):
            raise invalid("source", str(error), "invalid-source") from error
        raise
    shared.bus.publish(microphones_message(shared))
    return microphone


def _checked(shared: Context, settings: MicrophoneSettings, old: Microphone | None) -> MicrophoneSettings:
    """Put stored secrets back and refuse what cannot work, before anything is changed."""
    source = settings.source
    if isinstance(source, UrlSourceSettings):
        old_source = old.settings.source if old is not None else None
        old_url = old_source.url if isinstance(old_source, UrlSourceSettings) else None
        try:
            source = UrlSourceSettings(url=restore_url(source.url, old_url))
            check_url(source.url)
        except SourceError as error:
            raise invalid("source.url", error.reason, error.code.replace("_", "-")) from error
        settings = settings.model_copy(update={"source": source})
    seen: dict[str, str] = {}
    for index, choice in enumerate(settings.labels):
        try:
            label = shared.library.resolve(choice.label)
        except LabelError as error:
            raise invalid(f"labels.{index}.label", str(error), "invalid-label") from error
        if label.id in seen:
            raise invalid(
                f"labels.{index}.label",
                f"'{choice.label}' means the same as '{seen[label.id]}'; name each sound once",
                "duplicate-label",
            )
        seen[label.id] = choice.label
    return settings


def _existing(request: web.Request) -> Microphone:
    microphone_id = request.match_info["id"]
    microphone = context(request).store.microphones.get(microphone_id)
    if microphone is None:
        raise not_found(
            "There is no microphone of this id; GET /api/microphones lists them", "no-such-microphone"
        )
    return microphone


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
        "GET", "/api/microphones", list_microphones, "All microphones", "Microphones", answer=MicrophoneList
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
        "GET",
        "/api/microphones/{id}",
        get_microphone,
        "One microphone",
        "Microphones",
        answer=MicrophoneInfo,
        errors=(404,),
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
        body={
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "description": "any of the settings of a microphone",
                        "additionalProperties": True,
                    }
                }
            },
        },
        answer=MicrophoneInfo,
        errors=(400, 404, 413, 422),
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
)
