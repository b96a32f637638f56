from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import constants
from openapi_spec_validator import validate

from clap_server.api import openapi
from clap_server.api.app import ROUTES
from clap_server.clap.holder import ModelHolder
from clap_server.errors import ClapServerError, ModelError, StoreError
from clap_server.settings import ServerSettings
from scripts.api_docs import to_markdown
from tests.server.listening.spectral import SpectralModel
from tests.support.running_server import ReadyHolder, running
from tests.support.sound_events import sound_event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.running_server import Client

REPOSITORY = Path(__file__).parents[3]


async def test_health_needs_no_token(client: Client) -> None:
    assert await client.json("GET", "/health", headers={}) == {"status": "ok", "problems": []}


async def test_info_says_who_the_server_is(client: Client) -> None:
    info = await client.json("GET", "/api/info")
    assert info["server_id"] == client.server.context.store.server_id
    assert info["api_version"] == 1
    assert info["model"]["name"] == "spectral"
    assert info["model"]["problem"] is None


async def test_problem_with_the_model_is_told(tmp_path: Path) -> None:
    holder = ReadyHolder(tmp_path)
    async with running(tmp_path, holder=holder) as client:
        holder.change(SpectralModel(), "laion/nothing cannot be had")
        assert (await client.json("GET", "/api/info"))["model"]["problem"] == "laion/nothing cannot be had"


async def test_what_auto_waits_for_is_told_and_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked_for = ServerSettings(data=tmp_path).model
    assert asked_for == "auto"
    holder = ModelHolder(asked_for, device="cpu", cache_dir=tmp_path / "models")
    async with running(tmp_path / "data", holder=holder) as client:
        context = client.server.context
        async with asyncio.timeout(30):
            while "next try" not in (context.holder.choice or ""):
                await asyncio.sleep(0.01)
        model = (await client.json("GET", "/api/info"))["model"]
        assert (model["builtin"], model["requested"], model["problem"]) == (True, "auto", None)
        assert model["choice"].startswith(
            "The full model is not here yet: the hub cannot be reached; the built-in model listens; next try"
        )
        assert await client.json("GET", "/health", headers={}) == {"status": "ok", "problems": []}
        async with client.request("GET", "/metrics") as response:
            assert "clap_model_problem 0.0" in await response.text()


async def test_a_microphone_that_comes_goes_or_is_changed_counts_for_the_choice(tmp_path: Path) -> None:
    class Counting(ReadyHolder):
        def __init__(self, folder: Path) -> None:
            super().__init__(folder)
            self.heard_of: list[list[float]] = []

        def microphones_are(self, hops_s: Sequence[float]) -> None:
            self.heard_of.append(list(hops_s))

    body = {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": "alarm"}]}
    holder = Counting(tmp_path)
    async with running(tmp_path, holder=holder) as client:
        for name, more in (("hall", {}), ("attic", {"hop_s": 1.0}), ("cellar", {"enabled": False})):
            await client.json("PUT", f"/api/microphones/{name}", status=201, json=body | more)
        await client.json("PUT", "/api/microphones/hall", json=body | {"hop_s": 0.25})
    assert [heard for heard in holder.heard_of if heard] == [[0.5], [0.5, 1.0], [0.5, 1.0], [0.25, 1.0]]
    again = Counting(tmp_path)
    async with running(tmp_path, holder=again):
        assert [sorted(heard) for heard in again.heard_of] == [[0.25, 1.0], [0.25, 1.0]]


async def test_labels_lists_the_library(client: Client) -> None:
    library = await client.json("GET", "/api/labels")
    glass = next(label for label in library["labels"] if label["id"] == "glass_breaking")
    assert glass["kind"] == "impulsive"
    assert glass["names"]["en"]
    assert library["version"] == (await client.json("GET", "/api/info"))["label_library_version"]


async def test_devices_lists_what_the_machine_has(client: Client) -> None:
    assert isinstance((await client.json("GET", "/api/devices"))["devices"], list)


async def test_a_server_that_cannot_look_for_devices_says_what_to_do(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clap_server.audio.device.miniaudio", None)
    problem = await client.json("GET", "/api/devices", status=501)
    assert problem["type"] == "/problems/no_device"
    assert "install a C compiler" in problem["detail"]


async def test_metrics_tell_what_happens(client: Client) -> None:
    body = {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": "alarm"}]}
    await client.json("PUT", "/api/microphones/hall", status=201, json=body)
    sink = client.server.context.supervisor._sink
    await sink.event_started(sound_event(microphone_id="hall"))
    async with client.request("GET", "/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = await response.text()
    assert 'clap_events_total{label="glass_breaking",microphone="hall"} 1.0' in text
    assert 'clap_windows_total{microphone="hall",result="scored"} 0.0' in text
    assert 'clap_model_info{device="cpu",dtype="float32",name="spectral"' in text
    assert "clap_last_batch_seconds" in text


async def test_series_of_a_removed_microphone_leave_the_metrics(client: Client) -> None:
    body = {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": "alarm"}]}
    sink = client.server.context.supervisor._sink
    for name in ("hall", "attic"):
        await client.json("PUT", f"/api/microphones/{name}", status=201, json=body)
        await sink.event_started(sound_event(microphone_id=name))
    await client.json("DELETE", "/api/microphones/hall", status=204)
    async with client.request("GET", "/metrics") as response:
        text = await response.text()
    assert 'microphone="attic"' in text
    assert "hall" not in text


async def test_metrics_of_two_servers_are_apart(client: Client, tmp_path: Path) -> None:
    async with running(tmp_path / "other") as other:
        await other.server.context.supervisor._sink.event_started(sound_event())
        async with client.request("GET", "/metrics") as response:
            assert "clap_events_total{" not in await response.text()


async def test_unknown_address_is_a_problem(client: Client) -> None:
    assert (await client.json("GET", "/api/nothing", status=404))["type"] == "/problems/not_found"
    assert (await client.json("GET", "/nothing", status=404, headers={}))["type"] == "/problems/not_found"


async def test_wrong_method_is_a_problem_that_says_what_is_taken(client: Client) -> None:
    async with client.request("DELETE", "/api/info") as response:
        assert response.status == 405
        assert response.headers["Allow"]
        assert (await response.json(content_type=None))["type"] == "/problems/method_not_allowed"


async def test_http_request_to_a_websocket_is_a_problem(client: Client) -> None:
    assert (await client.json("GET", "/api/ws", status=400))["type"] == "/problems/bad_request"


async def test_large_body_is_a_problem(client: Client) -> None:
    problem = await client.json("POST", "/api/microphones", status=413, data=io.BytesIO(b"x" * 1_100_000))
    assert "1 MB" in problem["detail"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StoreError("The disk is full"), 503, "storage"),
        (ModelError("The model failed"), 503, "model"),
        (ClapServerError("Not so"), 422, "invalid_request"),
        (RuntimeError("secret inside"), 500, "internal"),
    ],
)
async def test_failure_inside_is_a_problem_without_internals(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
) -> None:
    def fail(_id: str) -> None:
        raise error

    monkeypatch.setattr(client.server.context.store.microphones, "get", fail)
    problem = await client.json("GET", "/api/microphones/any", status=status)
    assert problem["type"] == f"/problems/{code}"
    assert "secret" not in json.dumps(problem)


async def test_answers_carry_security_headers(client: Client) -> None:
    async with client.request("GET", "/") as response:
        policy = response.headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "SAMEORIGIN"
        assert "aiohttp" not in response.headers["Server"]
        assert "Access-Control-Allow-Origin" not in response.headers
    async with client.request("GET", "/api/info") as response:
        assert response.headers["Cache-Control"] == "no-store"


async def test_description_is_valid_openapi(client: Client) -> None:
    description = await client.json("GET", "/api/openapi.json")
    assert description["openapi"].startswith("3.1")
    validate(description)


async def test_every_route_is_described_and_every_description_routed(client: Client) -> None:
    description = await client.json("GET", "/api/openapi.json")
    described = {
        (method.upper(), path) for path, operations in description["paths"].items() for method in operations
    }
    runner = client.server._runner
    assert runner is not None
    assert runner.app is not None
    routed = {
        (route.method, route.resource.canonical)
        for route in runner.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    pages = {
        (method, path) for method, path in routed if not path.startswith(("/api", "/health", "/metrics"))
    }
    assert routed - pages == described
    assert ("GET", "/") in pages
    assert ("GET", "/docs") in pages


def test_every_route_but_these_needs_a_token() -> None:
    public = {(route.method, route.path) for route in ROUTES if route.public}
    assert public == {("GET", "/health"), ("POST", "/api/session"), ("DELETE", "/api/session")}


def test_api_document_is_current() -> None:
    written = (REPOSITORY / "docs" / "api.md").read_text()
    assert written == to_markdown(openapi.document(ROUTES)), "run scripts/api_docs.py"


def test_api_document_names_every_route() -> None:
    text = (REPOSITORY / "docs" / "api.md").read_text()
    for route in ROUTES:
        assert re.search(rf"`(WS|{route.method}) {re.escape(route.path)}`", text), route


async def test_docs_page_is_served_without_a_network(client: Client) -> None:
    async with client.request("GET", "/docs", headers={}) as response:
        html = await response.text()
        assert "unsafe-inline" in response.headers["Content-Security-Policy"]
    for asset in re.findall(r'(?:src|href)="([^"]+)"', html):
        assert "//" not in asset
        async with client.request("GET", f"/{asset}", headers={}) as response:
            assert response.status == 200, asset


async def test_access_log_leaves_out_the_query(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "clap_server.access"):
        await client.json("GET", "/api/info?token=sesame", status=200)
    assert "/api/info" in caplog.text
    assert "sesame" not in caplog.text
