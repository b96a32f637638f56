"""OpenAPI 3.1, made from the routes and the schemas."""

from __future__ import annotations

import asyncio
import json
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web
from pydantic.json_schema import models_json_schema

from clap_server import __version__
from clap_server.api import schemas
from clap_server.api.context import json_response
from clap_server.api.problems import CONTENT_TYPE
from clap_server.api.route import Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

DESCRIBED = web.AppKey("described", tuple)
"""The routes that the application answers and describes."""

_REF = "#/components/schemas/{model}"
_PARTIAL = "Some"
_BINARY = {"audio/flac", "audio/mpeg", "image/png"}

# Answers without a body to the conditions that a request for a file may hold (RFC 9110, section 13).
_OF_FILES = {
    304: "Not Modified: the client has it already (If-None-Match, If-Modified-Since)",
    412: "Precondition Failed: it is another one (If-Match, If-Unmodified-Since)",
    416: "Range Not Satisfiable: it does not have that part (Range)",
}

# They go over WebSockets, so no path refers to them.
_MESSAGES: tuple[type[BaseModel], ...] = (
    schemas.Subscribe,
    schemas.MicrophonesMessage,
    schemas.MicrophoneChangedMessage,
    schemas.MicrophoneRemovedMessage,
    schemas.MicrophoneMessage,
    schemas.EventMessage,
    schemas.EventConfirmedMessage,
    schemas.EventClipMessage,
    schemas.ReplayedMessage,
    schemas.ScoresMessage,
    schemas.LevelMessage,
    schemas.AudioFormat,
)


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI document of these routes."""
    received = [route.body for route in routes if isinstance(route.body, type)]
    sent = [route.answer for route in routes if isinstance(route.answer, type)]
    models: list[type[BaseModel]] = [schemas.Problem, *_MESSAGES, *received, *sent]
    _, definitions = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)], ref_template=_REF
    )
    described = definitions["$defs"]
    for route in routes:
        if route.partial and isinstance(route.body, type):
            described[_PARTIAL + route.body.__name__] = _partial(described[route.body.__name__])
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "CLAP Sound server",
            "version": __version__,
            "summary": "Microphones in, sound events out",
            "description": (
                "Send the token as `Authorization: Bearer <token>`. Errors are problem details (RFC 9457): "
                "`type` is stable, `detail` says what to do. Times are UTC, levels dBFS, scores 0 to 1."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": ".."}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {
            "schemas": described,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _partial(schema: dict[str, Any]) -> dict[str, Any]:
    """The same without anything that is required, or that a default stands for."""
    properties = {
        name: {key: value for key, value in field.items() if key != "default"}
        for name, field in schema["properties"].items()
    }
    rest = {key: value for key, value in schema.items() if key not in {"required", "title"}}
    return rest | {"properties": properties, "description": "Any of these; what is left out stays."}


def _operation(route: Route) -> dict[str, Any]:
    words = f"{route.handler.__name__}"
    operation: dict[str, Any] = {
        "operationId": words,
        "summary": route.summary,
        "tags": [route.tag],
        "responses": _responses(route),
    }
    description = [route.description] if route.description else []
    if route.trusted:
        description.append("Networks that the server was told to trust need no token.")
    if description:
        operation["description"] = "\n\n".join(description)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in route.path_parameters
    ] + [
        {"name": item.name, "in": "query", "schema": item.schema, "description": item.description}
        for item in route.query
    ]
    if parameters:
        operation["parameters"] = parameters
    if isinstance(route.body, dict):
        operation["requestBody"] = route.body
    elif route.body is not None:
        schema = (
            {"$ref": _REF.format(model=_PARTIAL + route.body.__name__)}
            if route.partial
            else _reference(route.body)
        )
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if route.public:
        operation["security"] = []
    return operation


def _responses(route: Route) -> dict[str, Any]:
    good: dict[str, Any] = {"description": HTTPStatus(route.status).phrase}
    if isinstance(route.answer, str):
        schema = {} if route.answer in _BINARY else {"type": "string"}
        good["content"] = {route.answer: {"schema": schema}}
    elif route.answer is not None:
        good["content"] = {"application/json": {"schema": _reference(route.answer)}}
    problem = {CONTENT_TYPE: {"schema": _reference(schemas.Problem)}}
    always = [503, *([] if route.public else [401]), *([] if route.body is None else [415])]
    statuses = sorted({*route.errors, *always})
    return {
        **{
            str(status): {**good, "description": HTTPStatus(status).phrase}
            for status in (route.status, *route.also, *((206,) if route.file else ()))
        },
        **{
            str(status): {"description": HTTPStatus(status).phrase, "content": problem} for status in statuses
        },
        **({str(status): {"description": what} for status, what in _OF_FILES.items()} if route.file else {}),
    }


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


async def openapi(request: web.Request) -> web.Response:
    # Made in a thread, once: it takes a second on a small machine, and live sound must not wait.
    return json_response(await asyncio.to_thread(_text, request.app[DESCRIBED]))


@cache
def _text(routes: tuple[Route, ...]) -> str:
    return json.dumps(document(routes), indent=2)


ROUTES = (
    Route(
        "GET",
        "/api/openapi.json",
        openapi,
        "This description",
        "Server",
        description="OpenAPI 3.1; `/docs` shows it.",
        answer=schemas.OpenApi,
    ),
)
