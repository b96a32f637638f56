"""The server keeps what /api/openapi.json promises, for whatever anyone sends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from clap_server.api import openapi
from clap_server.api.app import ROUTES
from tests.support.running_server import TOKEN, running
from tests.support.sound_events import sound_event, tone

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = 20
THERE = "there"  # id of a microphone and of an event
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
REQUESTS = [route for route in ROUTES if route.status != 101]


def _try(url: str, method: str, path: str, mode: GenerationMode) -> None:
    operation = schemathesis.openapi.from_dict(openapi.document(ROUTES))[path][method]

    # The same requests in each run, so that a failure is no matter of luck.
    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(operation.as_strategy(generation_mode=mode), hypothesis.strategies.booleans())
    def ask(case: Any, known: bool) -> None:
        if known and mode is GenerationMode.POSITIVE and "id" in case.path_parameters:
            case.path_parameters["id"] = THERE
        response = case.call(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"})
        case.validate_response(response, checks=CHECKS)

    ask()


@pytest.mark.parametrize("route", REQUESTS, ids=lambda route: f"{route.method} {route.path}")
async def test_server_keeps_its_contract(tmp_path: Path, route: Any) -> None:
    body = {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": "alarm"}]}
    async with running(tmp_path) as client:
        await client.json("PUT", f"/api/microphones/{THERE}", status=201, json=body)
        sink: Any = client.server.context.supervisor._sink
        event = sound_event(id=THERE)
        await sink.event_started(event)
        await sink.event_ended(replace(event, ended_at=event.detected_at), tone())
        modes = [GenerationMode.POSITIVE]
        if route.body is not None or route.query:
            modes.append(GenerationMode.NEGATIVE)
        for mode in modes:
            await asyncio.to_thread(_try, client.url, route.method, route.path, mode)
