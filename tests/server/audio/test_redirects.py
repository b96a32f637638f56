"""Real servers that send their listeners elsewhere."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import BasicAuth, web
from aiohttp.test_utils import TestServer

from clap_server.audio import redirects
from clap_server.audio.redirects import follow_redirects
from clap_server.audio.source import SourceError
from clap_server.audio.stream import StreamSource
from tests.server.audio.helpers import failure, listen, sine, to_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def sending_on(**steps: str) -> AsyncIterator[tuple[str, list[str]]]:
    """A server with a tone at /tone.wav and redirects; gives its address and what it is asked for."""
    sound = to_file(sine(440, 1.0), "wav", "pcm_s16le")
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        header = request.headers.get("Authorization")
        if header is None or BasicAuth.decode(header).password != "hunter2":
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        if request.path == "/tone.wav":
            return web.Response(body=sound)
        return web.Response(status=302, headers={"Location": steps[request.path[1:]]})

    application = web.Application()
    application.router.add_get("/{name}", answer)
    server = TestServer(application, host="127.0.0.1")
    await server.start_server(shutdown_timeout=0.1)
    try:
        yield f"http://user:hunter2@127.0.0.1:{server.port}", asked
    finally:
        await server.close()


async def test_sound_is_heard_where_the_server_sends_on_to() -> None:
    async with sending_on(live="/next", next="tone.wav") as (url, _):
        assert (await listen(StreamSource(f"{url}/live"), 0.5)).size


async def test_server_that_does_not_send_on_is_asked_once() -> None:
    async with sending_on() as (url, asked):
        assert (await listen(StreamSource(f"{url}/tone.wav"), 0.5)).size
    # FFmpeg asks without the password first.
    assert asked == ["/tone.wav", "/tone.wav"]


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://2852039166/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://[fd00:ec2::254]/",
        "//169.254.169.254/x",
        "file:///etc/passwd",
        "rtsp://127.0.0.1/x",
        "http://a:b/c@127.0.0.1/",
        "http://[::/",
        "",
    ],
)
async def test_it_is_not_followed_to_where_nobody_may_go(target: str) -> None:
    async with sending_on(live="/next", next=target) as (url, _):
        error = await failure(StreamSource(f"{url}/live"))
    assert error.code in {"unsupported_url", "refused_by_server"}
    assert "sends on" in error.reason
    assert "hunter2" not in error.reason


async def test_server_that_sends_in_circles_is_told_so() -> None:
    async with sending_on(a="/b", b="/a") as (url, _):
        error = await failure(StreamSource(f"{url}/a"))
    assert (error.code, "more than 5 times" in error.reason) == ("refused_by_server", True)


async def test_name_of_a_cloud_that_keeps_secrets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_arguments: Any, **_options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    error = await failure(StreamSource("rtsp://metadata.example/live"))
    assert error.code == "unsupported_url"


async def test_server_that_answers_nothing_stays_where_it_is() -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/live"
        assert await asyncio.to_thread(follow_redirects, url, 5.0) == url


async def test_scheme_in_capitals_plays() -> None:
    async with sending_on() as (url, _):
        assert (await listen(StreamSource(url.replace("http", "HTTP") + "/tone.wav"), 0.5)).size


def test_names_that_do_not_exist_are_told() -> None:
    with pytest.raises(SourceError, match="no host named"):
        redirects.look_up("nowhere.invalid", 80)
