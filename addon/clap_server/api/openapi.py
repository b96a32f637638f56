"""OpenAPI 3.1 and docs/api.md, made from the route table and the schemas."""

from __future__ import annotations

import argparse
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from clap_server import __version__
from clap_server.api import schemas
from clap_server.api.context import json_response
from clap_server.api.markdown import to_markdown
from clap_server.api.problems import CONTENT_TYPE
from clap_server.api.route import Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web
    from pydantic import BaseModel

_REF = "#/components/schemas/{model}"
_BINARY = {"audio/flac", "audio/mpeg", "image/png"}

# They go over WebSockets, so no path refers to them.
_MESSAGES: tuple[type[BaseModel], ...] = (
    schemas.Subscribe,
    schemas.MicrophonesMessage,
    schemas.MicrophoneChangedMessage,
    schemas.MicrophoneRemovedMessage,
    schemas.MicrophoneMessage,
    schemas.EventMessage,
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
            "schemas": definitions["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(route: Route) -> dict[str, Any]:
    words = f"{route.handler.__name__}"
    operation: dict[str, Any] = {
        "operationId": words,
        "summary": route.summary,
        "tags": [route.tag],
        "responses": _responses(route),
    }
    if route.description:
        operation["description"] = route.description
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
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _reference(route.body)}},
        }
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
    statuses = sorted({*route.errors, *(() if route.public else (401, 429)), 503})
    return {
        **{
            str(status): {**good, "description": HTTPStatus(status).phrase}
            for status in (route.status, *route.also)
        },
        **{
            str(status): {"description": HTTPStatus(status).phrase, "content": problem} for status in statuses
        },
    }


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


async def openapi(_request: web.Request) -> web.Response:
    """Serve the document."""
    return json_response(_all_as_text())


def _all_as_text() -> str:
    from clap_server.api.table import ROUTES as ALL  # noqa: PLC0415 - the table holds this module's route too

    return json.dumps(document(ALL), indent=2)


ROUTES = (
    Route(
        "GET",
        "/api/openapi.json",
        openapi,
        "This description",
        "Server",
        description="OpenAPI 3.1; `/docs` shows it.",
        answer="application/json",
    ),
)


def main() -> None:
    """Print the description: ``python -m clap_server.api.openapi [--markdown]``."""
    parser = argparse.ArgumentParser(description="Print the API's description.")
    parser.add_argument("--markdown", action="store_true", help="as docs/api.md instead of OpenAPI")
    text = _all_as_text()
    print(to_markdown(json.loads(text)) if parser.parse_args().markdown else text)  # noqa: T201 - its purpose


if __name__ == "__main__":
    main()
