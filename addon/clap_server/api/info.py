"""Who the server is, whether it lives, what it can listen for and to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from clap_server.api.context import context, json_response
from clap_server.api.present import label_info, problem_codes, server_info
from clap_server.api.problems import ProblemError
from clap_server.api.route import Route
from clap_server.api.schemas import DeviceInfo, DeviceList, Health, LabelLibrary, ServerInfo
from clap_server.audio.device import list_devices
from clap_server.audio.source import SourceError

if TYPE_CHECKING:
    from aiohttp import web


async def health(request: web.Request) -> web.Response:
    """Say that the server lives."""
    shared = context(request)
    status: Literal["ok", "starting"] = "ok" if shared.ready else "starting"
    return json_response(Health(status=status, problems=problem_codes(shared)).model_dump_json())


async def info(request: web.Request) -> web.Response:
    """Say who the server is."""
    return json_response(server_info(context(request)).model_dump_json())


async def labels(request: web.Request) -> web.Response:
    """List the label library, and what was taught."""
    shared = context(request)
    library, model = shared.library, shared.holder.model

    def answer() -> str:
        return LabelLibrary(
            version=library.version,
            labels=[label_info(label, model) for label in (*library.labels, *library.taught)],
        ).model_dump_json()

    # In a thread: the first time the bank of everyday sound is looked through.
    return json_response(await asyncio.to_thread(answer))


async def devices(_request: web.Request) -> web.Response:
    """List capture devices."""
    try:
        found = await asyncio.to_thread(list_devices)
    except SourceError as error:
        raise ProblemError(501, "no_device", error.reason) from error
    answer = DeviceList(devices=[DeviceInfo(id=device.id, name=device.name) for device in found])
    return json_response(answer.model_dump_json())


ROUTES = (
    Route("GET", "/health", health, "Whether the server lives", "Server", answer=Health, public=True),
    Route("GET", "/api/info", info, "Who the server is", "Server", answer=ServerInfo, trusted=True),
    Route(
        "GET",
        "/api/labels",
        labels,
        "The label library and the taught sounds",
        "Labels",
        answer=LabelLibrary,
        trusted=True,
    ),
    Route(
        "GET",
        "/api/devices",
        devices,
        "Capture devices of the server's machine",
        "Microphones",
        answer=DeviceList,
    ),
)
