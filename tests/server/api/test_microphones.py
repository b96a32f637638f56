from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from clap_server.errors import StoreError
from tests.support.running_server import Client, running
from tests.support.waiting import until

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

SECRET = "rtsp://user:geheim@127.0.0.1:1/stream"


def settings(**changes: Any) -> dict[str, Any]:
    return {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": "alarm"}]} | changes


async def _put(client: Client, status: int = 200, microphone_id: str = "hall", **changes: Any) -> Any:
    return await client.json(
        "PUT", f"/api/microphones/{microphone_id}", status=status, json=settings(**changes)
    )


def _task(client: Client, microphone_id: str = "hall") -> asyncio.Task[None] | None:
    return client.server.context.supervisor._entries[microphone_id].task


async def test_microphone_is_added_changed_and_removed(client: Client) -> None:
    added = await _put(client, status=201, labels=[{"label": "Glass breaking", "threshold": 0.4}])
    [label] = added["labels"]
    assert (label["id"], label["threshold"], label["library"], label["active"]) == (
        "glass_breaking",
        0.4,
        True,
        False,
    )
    assert added["hop_s"] == 0.5
    assert (await client.json("GET", "/api/microphones/hall"))["labels"] == added["labels"]
    [listed] = (await client.json("GET", "/api/microphones"))["microphones"]
    assert listed["id"] == "hall"
    changed = await _put(client, name="Corridor")
    assert (changed["name"], changed["labels"][0]["id"]) == ("Corridor", "alarm")
    await client.json("DELETE", "/api/microphones/hall", status=204)
    assert await client.json("GET", "/api/microphones") == {"microphones": []}
    for method, more in (("GET", {}), ("DELETE", {}), ("PATCH", {"json": {}})):
        assert (await client.json(method, "/api/microphones/hall", status=404, **more))["type"] == (
            "/problems/no-such-microphone"
        )


async def test_server_chooses_an_id_from_the_name(client: Client) -> None:
    first = await client.json("POST", "/api/microphones", status=201, json=settings(name="Küche 2"))
    second = await client.json("POST", "/api/microphones", status=201, json=settings(name="Küche 2"))
    third = await client.json("POST", "/api/microphones", status=201, json=settings(name="玄関"))
    assert first["id"].startswith("k-che-2-")
    assert len({first["id"], second["id"], third["id"]}) == 3


async def test_same_settings_again_interrupt_nothing(client: Client) -> None:
    await _put(client, status=201, source={"type": "url", "url": SECRET})
    task = _task(client)
    assert task is not None
    async with client.subscribed() as socket:
        await _receive_until(socket, "replayed")
        await _put(client, source={"type": "url", "url": SECRET})
        await _put(client, source={"type": "url", "url": SECRET.replace("geheim", "***")})
        assert _task(client) is task
        await _put(client, name="Other", source={"type": "url", "url": SECRET})
        message = await _receive_until(socket, "microphones")
        assert message["microphones"][0]["name"] == "Other", "told once, of the real change"


async def _receive_until(socket: Any, kind: str) -> Any:
    while (message := await socket.receive_json(timeout=30))["type"] != kind:
        pass
    return message


async def test_patch_changes_only_what_is_sent(client: Client) -> None:
    await _put(client, status=201, source={"type": "url", "url": SECRET}, hop_s=1.0)
    changed = await client.json(
        "PATCH", "/api/microphones/hall", json={"enabled": False, "negatives": ["dishes"]}
    )
    assert changed["status"]["state"] == "disabled"
    assert (changed["hop_s"], changed["negatives"]) == (1.0, ["dishes"])
    stored = client.server.context.store.microphones.get("hall")
    assert stored is not None
    assert stored.settings.source.url == SECRET  # type: ignore[union-attr] # it is a URL


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"[]", 422), (b'{"hop_s": 9}', 422), (b'{"id": "x"}', 422), (b"", 400)]
)
async def test_bad_patch_changes_nothing(client: Client, body: bytes, status: int) -> None:
    before = await _put(client, status=201)
    await client.json("PATCH", "/api/microphones/hall", status=status, data=body)
    after = await client.json("GET", "/api/microphones/hall")
    assert {**after, "status": None} == {**before, "status": None}


async def test_secret_is_never_read_back(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    answer = await _put(client, status=201, source={"type": "url", "url": SECRET})
    assert answer["source"]["url"] == SECRET.replace("geheim", "***")
    async with client.subscribed() as socket:
        message = await _receive_until(socket, "microphones")
        assert "geheim" not in json.dumps(message)
    assert "geheim" not in await (await client.request("GET", "/api/microphones")).text()
    assert "geheim" not in caplog.text


async def test_secret_is_not_sent_to_another_host(client: Client) -> None:
    await _put(client, status=201, source={"type": "url", "url": SECRET})
    stolen = {"type": "url", "url": "rtsp://user:***@evil.example:1/stream"}
    problem = await _put(client, status=422, source=stolen)
    assert problem["errors"][0]["field"] == "source.url"
    assert "again" in problem["detail"]


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"labels": []}, "labels", "at least 1"),
        ({"labels": [{"label": f"sound {n}"} for n in range(10_000)]}, "labels", "at most 200"),
        ({"labels": [{"label": "alarm", "threshold": 7}]}, "labels.0.threshold", "at most 1"),
        ({"labels": [{"label": "alarm", "threshold": "high"}]}, "labels.0.threshold", "number"),
        ({"labels": [{"label": "alarm"}, {"label": "Alarm"}]}, "labels.1.label", "once"),
        ({"labels": [{"label": "!!!"}]}, "labels.0.label", "describe"),
        ({"labels": "alarm"}, "labels", "list"),
        ({"hop_s": 0.01}, "hop_s", "at least 0.1"),
        ({"hop_s": None}, "hop_s", "number"),
        ({"name": ""}, "name", "at least 1"),
        ({"name": None}, "name", "text"),
        ({"colour": "red"}, "colour", "not known"),
        ({"source": {"type": "telepathy"}}, "source", "one of"),
        ({"source": {"url": "rtsp://x"}}, "source", "type"),
        ({"source": {"type": "url"}}, "source.url", "required"),
        ({"source": {"type": "url", "url": "ftp://host/file"}}, "source.url", "rtsp://"),
        ({"source": {"type": "url", "url": "rtsp://user:***@host/x"}}, "source.url", "again"),
        ({"source": {"type": "url", "url": "x" * 3000}}, "source.url", "2048"),
        ({"source": {"type": "file", "path": "a.wav"}}, "source", "--media"),
    ],
)
async def test_bad_settings_are_explained_and_change_nothing(
    client: Client, changes: dict[str, Any], field: str, words: str
) -> None:
    await _put(client, status=201, microphone_id="other")
    task = _task(client, "other")
    for microphone_id in ("hall", "other"):
        problem = await _put(client, status=422, microphone_id=microphone_id, **changes)
        assert problem["errors"][0]["field"] == field
        assert words in problem["errors"][0]["message"]
    assert [each["id"] for each in (await client.json("GET", "/api/microphones"))["microphones"]] == ["other"]
    assert _task(client, "other") is task


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b'"text"', b"[" * 100_000, b'{"hop_s": NaN, "name": "x"}', b"null"]
)
async def test_body_that_is_no_settings_is_a_problem(client: Client, body: bytes) -> None:
    async with client.request("PUT", "/api/microphones/hall", data=body) as response:
        assert response.status in {400, 422}
        assert response.content_type == "application/problem+json"


async def test_many_errors_are_counted_not_listed(client: Client) -> None:
    labels = [{"label": "", "threshold": 9} for _ in range(100)]
    problem = await _put(client, status=422, labels=labels)
    assert len(problem["errors"]) == 20
    assert "more" in problem["detail"]


@pytest.mark.parametrize("microphone_id", ["a" * 65, "a b", "%2e%2e", "ü"])
async def test_bad_id_is_refused(client: Client, microphone_id: str) -> None:
    async with client.request("PUT", f"/api/microphones/{microphone_id}", json=settings()) as response:
        assert response.status in {404, 422}


async def test_path_outside_the_media_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    async with running(tmp_path / "data", media=tmp_path / "media") as client:
        problem = await _put(client, status=422, source={"type": "file", "path": "../data/token"})
        assert problem["errors"][0]["field"] == "source"
        missing = await _put(client, status=201, source={"type": "file", "path": "later.wav"})
        assert missing["source"] == {"type": "file", "path": "later.wav", "loop": True}


async def test_file_that_is_not_audio_is_told_as_a_reason(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "letter.wav").write_text("dear reader")
    async with running(tmp_path / "data", media=tmp_path / "media") as client:
        await _put(client, status=201, source={"type": "file", "path": "letter.wav"})
        supervisor = client.server.context.supervisor
        await until(lambda: supervisor.snapshot("hall").status.state == "failed")
        assert (await client.json("GET", "/api/microphones/hall"))["status"]["reason"]


async def test_microphones_are_there_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        await _put(
            client, status=201, source={"type": "url", "url": SECRET}, labels=[{"label": "my own sound"}]
        )
        before = await client.json("GET", "/api/microphones/hall")
    async with running(tmp_path) as client:
        after = await client.json("GET", "/api/microphones/hall")
    assert after["labels"] == before["labels"]
    assert after["source"] == before["source"]


async def test_microphone_that_can_no_longer_be_used_says_why_after_a_restart(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    async with running(tmp_path / "data", media=tmp_path / "media") as client:
        await _put(client, status=201, source={"type": "file", "path": "a.wav"})
    async with running(tmp_path / "data") as client:
        status = (await client.json("GET", "/api/microphones/hall"))["status"]
        assert status["state"] == "failed"
        assert "--media" in status["reason"]


async def test_number_of_microphones_is_limited(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clap_server.api.microphones.MAX_MICROPHONES", 1)
    await _put(client, status=201)
    await _put(client, status=409, microphone_id="second")
    await _put(client, name="Still possible")


async def test_settings_that_cannot_be_stored_are_not_applied(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _put(client, status=201)
    store = client.server.context.store.microphones

    async def full(*_arguments: Any) -> None:
        raise StoreError("The disk is full")

    monkeypatch.setattr(store, "put", full)
    monkeypatch.setattr(store, "delete", full)
    await _put(client, status=503, name="Other")
    await client.json("DELETE", "/api/microphones/hall", status=503)
    assert (await client.json("GET", "/api/microphones/hall"))["name"] == "Hall"
    assert _task(client) is not None, "it listens again"


async def test_settings_that_the_model_refuses_leave_the_old_ones(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _put(client, status=201)

    async def broken(_microphone: Any) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(client.server.context.supervisor, "apply", broken)
    await _put(client, status=500, name="Other")
    assert (await client.json("GET", "/api/microphones/hall"))["name"] == "Hall"
    await _put(client, status=500, microphone_id="new")
    await client.json("GET", "/api/microphones/new", status=404)
