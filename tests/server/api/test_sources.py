from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from clap_server.api import sources
from clap_server.audio.encode import encode
from tests.server.listening.spectral import RATE, tone
from tests.support.camera import Camera
from tests.support.running_server import Client, running
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


async def _check(client: Client, status: int = 200, **source: Any) -> Any:
    return await client.json("POST", "/api/sources/check", status=status, json={"source": source})


@pytest.fixture
def recording(tmp_path: Path) -> str:
    file = tmp_path / "tone.flac"
    file.write_bytes(encode(tone(5), RATE, "flac"))
    return str(file)


@asynccontextmanager
async def _silent_server() -> AsyncIterator[str]:
    """Address of a server that takes connections and says nothing; at the end it hangs up."""
    writers = []

    async def receive(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    async with await asyncio.start_server(receive, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        for writer in writers:
            writer.close()
            await writer.wait_closed()


async def test_camera_that_gives_sound_is_heard_and_left_again(client: Client, recording: str) -> None:
    with Camera("--file", recording) as camera:
        assert (await _check(client, type="url", url=camera.url))["level_dbfs"] < 0
    assert (await client.json("GET", "/api/microphones")) == {"microphones": []}


async def test_camera_without_an_audio_track_is_told(client: Client) -> None:
    with Camera("--codec", "none", "--video") as camera:
        problem = await _check(client, status=422, type="url", url=camera.url)
    assert problem["type"] == "/problems/no_audio_track"
    assert "switch audio on" in problem["detail"]


async def test_page_that_is_no_sound_is_told(client: Client) -> None:
    problem = await _check(client, status=422, type="url", url=f"{client.url}/")
    assert problem["type"] == "/problems/not_audio"


async def test_wrong_password_is_told_without_it(
    client: Client, recording: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Camera(
        "--file", recording, "--user", "viewer", "--password", "right", user_info="viewer:geheim@"
    ) as camera:
        problem = await _check(client, status=422, type="url", url=camera.url)
    assert problem["type"] == "/problems/unauthorized"
    assert "geheim" not in str(problem)
    assert "geheim" not in caplog.text


async def test_server_that_sends_nothing_is_given_up(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CHECK_S", 0.3)
    async with _silent_server() as url:
        problem = await _check(client, status=422, type="url", url=url)
    assert problem["type"] == "/problems/stalled"


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ({"type": "url", "url": "file:///etc/passwd"}, "unsupported_url"),
        ({"type": "url", "url": "rtsp://user:***@127.0.0.1/a"}, "secret_needed"),
        ({"type": "file", "path": "a.wav"}, "invalid_source"),
        ({"type": "push"}, "not_checkable"),
        ({"type": "telepathy"}, "invalid_request"),
    ],
)
async def test_source_that_cannot_be_tried_is_explained(
    client: Client, source: dict[str, Any], kind: str
) -> None:
    problem = await _check(client, status=422, **source)
    assert problem["type"] == f"/problems/{kind}"
    assert problem["errors"][0]["field"] == "source"


async def test_recording_is_tried_within_the_media_folder_alone(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    (media / "tone.flac").write_bytes(encode(tone(1), RATE, "flac"))
    (media / "letter.wav").write_text("dear reader")
    async with running(tmp_path / "data", media=media) as client:
        assert -40 < (await _check(client, type="file", path="tone.flac"))["level_dbfs"] <= 0
        for path, kind in (
            ("letter.wav", "not_audio"),
            ("missing.wav", "not_found"),
            ("../data/token", "outside_media_folder"),
        ):
            problem = await _check(client, status=422, type="file", path=path)
            assert problem["type"] == f"/problems/{kind}"


async def test_only_so_many_sources_are_tried_at_once(client: Client) -> None:
    busy = client.server.context.source_checks
    async with _silent_server() as url:
        trying = [asyncio.create_task(_check(client, status=422, type="url", url=url)) for _ in range(4)]
        await until(busy.locked)
        problem = await _check(client, status=503, type="url", url=url)
        assert problem["type"] == "/problems/busy"
    await asyncio.gather(*trying)
    assert not busy.locked()
