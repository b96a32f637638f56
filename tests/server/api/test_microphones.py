from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from clap_server.errors import ModelError, StoreError
from tests.server.listening.spectral import SpectralModel
from tests.support.running_server import Client, ReadyHolder, running
from tests.support.sound_events import sound_event
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

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
    options: list[tuple[str, dict[str, Any]]] = [("GET", {}), ("DELETE", {}), ("PATCH", {"json": {}})]
    for method, more in options:
        assert (await client.json(method, "/api/microphones/hall", status=404, **more))["type"] == (
            "/problems/no_such_microphone"
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
        message = await _receive_until(socket, "microphone_changed")
        assert message["microphone"]["name"] == "Other", "told once, of the real change"


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
        ({"labels": [{"label": "alarm", "threshold": 7}]}, "labels.0.threshold", "less than 1"),
        ({"labels": [{"label": "alarm", "threshold": "high"}]}, "labels.0.threshold", "number"),
        ({"labels": [{"label": "alarm"}, {"label": "Alarm"}]}, "labels.1.label", "once"),
        ({"labels": [{"label": "!!!"}]}, "labels.0.label", "describe"),
        ({"labels": [{"label": "normal"}]}, "labels", "'normal' stands for none of the others"),
        ({"labels": "alarm"}, "labels", "list"),
        ({"labels": [{"label": " \u3000"}]}, "labels.0.label", "blank"),
        ({"labels": [{"label": "a\x00larm"}]}, "labels.0.label", "U+0000"),
        ({"name": "  \t"}, "name", "blank"),
        ({"name": "Hall\x00"}, "name", "U+0000"),
        ({"name": "Hall\u202emra"}, "name", "U+202E"),
        ({"name": "Hall\n2026-01-01 INFO"}, "name", "U+000A"),
        ({"negatives": ["a\u2028b"]}, "negatives.0", "U+2028"),
        ({"labels": [{"label": "alarm"}], "negatives": ["dishes", "Alarm"]}, "negatives.1", "means the same"),
        ({"negatives": ["!!!"]}, "negatives.0", "describe"),
        ({"source": {"type": "url", "url": "rtsp://admin:123#456@host/x"}}, "source.url", "# as %23"),
        ({"source": {"type": "url", "url": "http://169.254.169.254/x"}}, "source.url", "link-local"),
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
        checked = await _check(client, 422, id=microphone_id, **changes)
        assert checked["errors"][0]["field"].removeprefix("settings.") == field
        assert words in checked["errors"][0]["message"]
        assert problem["errors"][0]["field"] == field
        assert words in problem["errors"][0]["message"]
    assert [each["id"] for each in (await client.json("GET", "/api/microphones"))["microphones"]] == ["other"]
    assert _task(client, "other") is task


async def test_only_what_is_wrong_is_told(client: Client) -> None:
    problem = await _put(client, status=422, labels=[{"label": "alarm", "threshold": 2}])
    assert problem["errors"] == [{"field": "labels.0.threshold", "message": "must be less than 1.0"}]
    assert problem["detail"] == "labels.0.threshold: must be less than 1.0"


@pytest.mark.parametrize(
    "name",
    [
        "玄関",
        "👨\u200d👩\u200d👧 Küche",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "חדר",
        "a\u0301",
        "🇩🇪 2 % & <b>",
    ],
)
async def test_name_in_any_script_is_accepted(client: Client, name: str) -> None:
    assert (await _put(client, status=201, name=name))["name"] == name


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
    await _check(client, 422, id=microphone_id)


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
    task = _task(client)
    store = client.server.context.store.microphones

    async def full(*_arguments: Any) -> None:
        raise StoreError("The disk is full")

    monkeypatch.setattr(store, "put", full)
    monkeypatch.setattr(store, "delete", full)
    await _put(client, status=503, name="Other", labels=[{"label": "rain"}])
    await client.json("DELETE", "/api/microphones/hall", status=503)
    hall = await client.json("GET", "/api/microphones/hall")
    assert (hall["name"], [label["id"] for label in hall["labels"]]) == ("Hall", ["alarm"])
    assert _task(client) is task, "it never stopped listening"
    await _put(client, status=503, microphone_id="new")
    await client.json("GET", "/api/microphones/new", status=404)


async def test_settings_that_the_model_refuses_leave_the_old_ones(tmp_path: Path) -> None:
    model = Patient()
    async with running(tmp_path, holder=ReadyHolder(tmp_path, model)) as client:
        await _put(client, status=201)
        await until(lambda: _listens(client))
        model.mute = True
        await _put(client, status=503, labels=[{"label": "rain"}])
        hall = await client.json("GET", "/api/microphones/hall")
        stored = client.server.context.store.microphones.get("hall")
        assert [label["id"] for label in hall["labels"]] == ["alarm"]
        assert stored is not None
        assert [choice.label for choice in stored.settings.labels] == ["alarm"]


class Patient(SpectralModel):
    """Embeds texts when it is told to, or never."""

    def __init__(self) -> None:
        super().__init__()
        self.mute = False
        self.go_on = threading.Event()
        self.go_on.set()
        self.asked = threading.Event()

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked.set()
        self.go_on.wait(60)
        if self.mute:
            raise ModelError("the model cannot speak")
        return super().embed_text(texts)


def _listens(client: Client) -> bool:
    listener = client.server.context.supervisor._entries["hall"].listener
    return listener is not None and listener._scoring._present is not None


async def test_nobody_waits_while_the_model_works_on_texts(tmp_path: Path) -> None:
    model = Patient()
    async with running(tmp_path, holder=ReadyHolder(tmp_path, model)) as client:
        await _put(client, status=201)
        await _put(client, status=201, microphone_id="other")
        await until(lambda: _listens(client))
        model.asked.clear()
        model.go_on.clear()
        try:
            slow = asyncio.create_task(_put(client, labels=[{"label": "rain"}], hop_s=1.0))
            await asyncio.to_thread(model.asked.wait, 30)
            await _put(client, microphone_id="other", name="Another")
            await client.json("PATCH", "/api/microphones/hall", json={"name": "Corridor"})
            await client.json("DELETE", "/api/microphones/other", status=204)
            assert not slow.done()
        finally:
            model.go_on.set()
        assert (await slow)["name"] == "Hall", "the last to be stored is in force, as a whole"
        assert (await client.json("GET", "/api/microphones/hall"))["hop_s"] == 1.0


async def test_patches_at_once_all_take_effect(client: Client) -> None:
    await _put(client, status=201)
    changes: list[dict[str, Any]] = [
        {"name": "Corridor"},
        {"hop_s": 1.0},
        {"negatives": ["dishes"]},
        {"labels": [{"label": "rain"}]},
    ]
    await asyncio.gather(*(client.json("PATCH", "/api/microphones/hall", json=change) for change in changes))
    hall = await client.json("GET", "/api/microphones/hall")
    assert (hall["name"], hall["hop_s"], hall["negatives"]) == ("Corridor", 1.0, ["dishes"])
    assert [label["name"].lower() for label in hall["labels"]] == ["rain"]


async def test_many_added_at_once_are_limited_too(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clap_server.api.microphones.MAX_MICROPHONES", 2)

    async def put(number: int) -> int:
        async with client.request("PUT", f"/api/microphones/m{number}", json=settings()) as response:
            return int(response.status)

    statuses = await asyncio.gather(*map(put, range(6)))
    assert sorted(statuses) == [201, 201, 409, 409, 409, 409]


async def _check(client: Client, status: int = 200, **changes: Any) -> Any:
    microphone_id = changes.pop("id", None)
    body = {"id": microphone_id, "settings": settings(**changes)}
    return await client.json("POST", "/api/microphones/check", status=status, json=body)


async def test_check_says_what_settings_mean_and_changes_nothing(client: Client) -> None:
    connections = 0

    async def connected(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    camera = await asyncio.start_server(connected, "127.0.0.1", 0)
    url = f"rtsp://user:geheim@127.0.0.1:{camera.sockets[0].getsockname()[1]}/stream"
    async with camera, client.subscribed() as socket:
        await _receive_until(socket, "replayed")
        answer = await _check(
            client,
            labels=[{"label": "Glass breaking", "threshold": 0.4}, {"label": "my own sound"}],
            source={"type": "url", "url": url},
        )
        assert [(label["id"], label["threshold"]) for label in answer["labels"]] == [
            ("glass_breaking", 0.4),
            ("my_own_sound", 0.5),
        ]
        assert answer["source"] == {"type": "url", "url": url.replace("geheim", "***")}
        assert await client.json("GET", "/api/microphones") == {"microphones": []}
        await _put(client, status=201)
        assert (await socket.receive_json(timeout=30))["type"] == "microphone"
        assert (await socket.receive_json(timeout=30))["microphone"]["id"] == "hall"
    assert connections == 0


async def test_check_knows_the_secret_of_the_microphone_that_is_there(client: Client) -> None:
    await _put(client, status=201, source={"type": "url", "url": SECRET})
    redacted = {"type": "url", "url": SECRET.replace("geheim", "***")}
    assert (await _check(client, id="hall", source=redacted))["source"] == redacted
    await _check(client, 422, source=redacted)
    await _check(client, 422, id="other", source=redacted)


async def test_check_counts_the_microphones(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clap_server.api.microphones.MAX_MICROPHONES", 1)
    await _put(client, status=201)
    await _check(client, 409)
    await _check(client, 409, id="second")
    await _check(client, id="hall")


OWNER = "home_assistant:01JABC"


async def _release(client: Client, status: int, owner: str = OWNER) -> Any:
    return await client.json("POST", "/api/microphones/hall/release", status=status, json={"owner": owner})


async def test_adopted_microphone_is_given_back_and_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        assert (await _put(client, status=201))["adopted"] is False
        assert (await _put(client, owner=OWNER, name="Corridor"))["adopted"] is True
    async with running(tmp_path) as client:
        assert (await client.json("GET", "/api/microphones/hall"))["adopted"] is True
        task = _task(client)
        async with client.subscribed() as socket:
            await _receive_until(socket, "replayed")
            await _release(client, 204)
            told = (await _receive_until(socket, "microphone_changed"))["microphone"]
        assert (told["owner"], told["adopted"], told["name"]) == ("server", False, "Corridor")
        assert _task(client) is task
        await _release(client, 409)
        assert (await client.json("GET", "/api/microphones/hall"))["owner"] == "server"


async def test_microphone_of_its_owner_alone_goes_when_it_is_released(client: Client) -> None:
    assert (await _put(client, status=201, owner=OWNER))["adopted"] is False
    async with client.subscribed() as socket:
        await _receive_until(socket, "replayed")
        await _release(client, 204)
        assert (await _receive_until(socket, "microphone_removed"))["microphone_id"] == "hall"
    await _release(client, 404)


async def test_only_the_owner_releases(client: Client) -> None:
    before = await _put(client, status=201, owner=OWNER)
    for other in ("home_assistant:other", "server", ""):
        assert (await _release(client, 409, other))["type"] == "/problems/not_owner"
    after = await client.json("GET", "/api/microphones/hall")
    assert {**after, "status": None} == {**before, "status": None}


async def test_event_of_a_microphone_that_is_removed_ends_under_its_name(client: Client) -> None:
    await _put(client, status=201)
    sink: Any = client.server.context.supervisor._sink
    event = sound_event(microphone_id="hall")
    await sink.event_started(event)
    async with client.subscribed() as socket:
        await _receive_until(socket, "replayed")
        await client.json("DELETE", "/api/microphones/hall", status=204)
        await sink.event_ended(replace(event, ended_at=event.detected_at), None)
        assert (await _receive_until(socket, "event"))["event"]["microphone_name"] == "Hall"


async def test_normal_is_told_by_what_is_watched_beside_it(client: Client) -> None:
    normal = {"label": "normal", "threshold": 0.9}
    (alone,) = (await _put(client, status=201, labels=[normal]))["labels"]
    assert alone["meaning"] == (
        "what the library's security sounds leave, as no sound is watched beside it:"
        " 1 less the highest of their scores"
    )
    _, beside = (await _put(client, labels=[{"label": "alarm"}, normal]))["labels"]
    assert beside["meaning"] == "what all other labels leave: 1 less the highest of their scores"
    for label in (alone, beside):
        assert (label["false_alarms_per_day"], label["found_unknown"], label["lowered"]) == (None, None, None)
