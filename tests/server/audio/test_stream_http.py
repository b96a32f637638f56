"""Against real HTTP servers, good and bad."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.request import parse_http_list, parse_keqv_list

import numpy as np
import pytest
from aiohttp import BasicAuth, web
from aiohttp.test_utils import TestServer

from clap_server.audio import stream
from clap_server.audio.source import SourceError
from clap_server.audio.stream import StreamSource
from tests.server.audio.helpers import (
    PATIENCE_S,
    RATE,
    blocks_of,
    failure,
    listen,
    picture_only,
    sine,
    strongest_hz,
    to_file,
    wav_of_64_bits,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.server.audio.helpers import HurriedClock

SECRET = "hunter2"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def endless(data: bytes, content_type: str) -> Handler:
    async def serve(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        try:
            while True:
                await response.write(data)
                await asyncio.sleep(0.2)
        except ConnectionError:
            return response

    return serve


def whole(data: bytes, content_type: str = "application/octet-stream") -> Handler:
    async def serve(_request: web.Request) -> web.Response:
        return web.Response(body=data, content_type=content_type)

    return serve


@asynccontextmanager
async def serving(**handlers: Handler) -> AsyncIterator[str]:
    """Serve each handler at its name (``_`` for ``.``); gives the address with a password in it."""
    application = web.Application()
    for name, handler in handlers.items():
        application.router.add_get("/" + name.replace("_", "."), handler)
    server = TestServer(application, host="127.0.0.1")
    await server.start_server(shutdown_timeout=0.1)
    try:
        yield f"http://user:{SECRET}@127.0.0.1:{server.port}"
    finally:
        await server.close()


@pytest.mark.parametrize(
    ("fmt", "codec", "content_type"),
    [("mp3", "mp3", "audio/mpeg"), ("ogg", "libopus", "audio/ogg"), ("adts", "aac", "audio/aac")],
)
async def test_an_internet_radio_is_heard(fmt: str, codec: str, content_type: str) -> None:
    data = to_file(sine(1000, 1.0), fmt, codec)
    async with serving(live=endless(data, content_type)) as url:
        samples = await listen(StreamSource(f"{url}/live"), 2.0)
    assert strongest_hz(samples[RATE // 2 : RATE * 3 // 2]) == pytest.approx(1000, abs=20)


async def test_hls_is_heard() -> None:
    playlist = (
        b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nsegment.ts\n#EXTINF:2,\nsegment.ts\n#EXT-X-ENDLIST\n"
    )
    segment = to_file(sine(1000, 2.0), "mpegts", "aac")
    async with serving(
        live_m3u8=whole(playlist, "application/vnd.apple.mpegurl"), segment_ts=whole(segment, "video/mp2t")
    ) as url:
        samples = await listen(StreamSource(f"{url}/live.m3u8"), 1.5)
    assert strongest_hz(samples) == pytest.approx(1000, abs=5)


@pytest.mark.parametrize("link", ["segment?id=1", "seg/1?token=a", "segment.php", "1"])
async def test_hls_segments_may_have_any_name(link: str) -> None:
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{link}\n#EXT-X-ENDLIST\n".encode()
    segment = whole(to_file(sine(1000, 2.0), "mpegts", "aac"), "video/mp2t")
    name = link.partition("?")[0].replace(".", "_")
    handlers = {"live_m3u8": whole(playlist, "application/vnd.apple.mpegurl"), name: segment}
    async with serving(**handlers) as url:
        samples = await listen(StreamSource(f"{url}/live.m3u8"), 1.0)
    assert strongest_hz(samples) == pytest.approx(1000, abs=5)


@pytest.mark.parametrize("end", ["#EXT-X-ENDLIST\n", ""])
async def test_a_playlist_of_which_no_segment_can_be_used_is_said_so(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "OPEN_TIMEOUT_S", 2.0)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsegment.ts\n{end}".encode()
    async with serving(
        live_m3u8=whole(playlist, "application/vnd.apple.mpegurl"), segment_ts=whole(b"not sound" * 100)
    ) as url:
        error = await failure(StreamSource(f"{url}/live.m3u8"))
    assert "none of the segments in it holds sound" in error.reason


MEDIA = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n{}#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"
MASTER = "#EXTM3U\n{}#EXT-X-STREAM-INF:BANDWIDTH=64000\n{}\n"
FORBIDDEN = "http://169.254.169.254/latest/meta-data"


async def test_hls_with_several_playlists_is_heard() -> None:
    segment = whole(to_file(sine(1000, 2.0), "mpegts", "aac"), "video/mp2t")
    master = MASTER.format("", "media.m3u8?user=a@b").encode()
    media = MEDIA.format("", "segment.ts").encode()
    async with serving(live_m3u8=whole(master), media_m3u8=whole(media), segment_ts=segment) as url:
        samples = await listen(StreamSource(f"{url}/live.m3u8"), 1.0)
    assert strongest_hz(samples) == pytest.approx(1000, abs=5)


async def test_hls_behind_a_digest_of_the_password_is_heard() -> None:
    segment = to_file(sine(1000, 2.0), "mpegts", "aac")
    bodies = {"/live.m3u8": MEDIA.format("", "segment.ts").encode(), "/segment.ts": segment}
    challenge = 'Digest realm="camera", nonce="abc", qop="auth", algorithm=MD5'

    def md5(*parts: str) -> str:
        return hashlib.md5(":".join(parts).encode(), usedforsecurity=False).hexdigest()

    async def guarded(request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "")
        wanted = dict.fromkeys(("uri", "nc", "cnonce", "response"), "")
        wanted |= parse_keqv_list(parse_http_list(given.partition(" ")[2])) if "Digest" in given else {}
        user, ask = md5("user", "camera", SECRET), md5("GET", wanted["uri"])
        if wanted["response"] != md5(user, "abc", wanted["nc"], wanted["cnonce"], "auth", ask):
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return web.Response(body=bodies[request.path])

    async with serving(live_m3u8=guarded, segment_ts=guarded) as url:
        samples = await listen(StreamSource(f"{url}/live.m3u8"), 1.0)
    assert strongest_hz(samples) == pytest.approx(1000, abs=5)


@pytest.mark.parametrize(
    ("live", "media"),
    [
        (MEDIA.format("", FORBIDDEN), ""),
        (MEDIA.format("", "//2852039166/x"), ""),
        (MEDIA.format("", "http://metadata.example:8000/x"), ""),
        (MEDIA.format("", "file:///etc/passwd"), ""),
        (MEDIA.format("", "http://[::/x"), ""),
        (MEDIA.format(f'#EXT-X-KEY:METHOD=AES-128,URI="{FORBIDDEN}"\n', "segment.ts"), ""),
        (MEDIA.format(f"#EXT-X-MAP:URI={FORBIDDEN}\n", "segment.ts"), ""),
        (MASTER.format("", FORBIDDEN), ""),
        (MASTER.format("", "media.m3u8"), MEDIA.format("", FORBIDDEN)),
        (
            MASTER.format('#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",URI="media.m3u8"\n', "gone.m3u8"),
            MEDIA.format("", FORBIDDEN),
        ),
    ],
)
async def test_a_playlist_does_not_lead_to_where_nobody_may_go(
    live: str, media: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = socket.getaddrinfo

    def resolve(host: str, *arguments: Any, **options: Any) -> Any:
        return known("169.254.169.254" if host == "metadata.example" else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with serving(live_m3u8=whole(live.encode()), media_m3u8=whole(media.encode())) as url:
        error = await failure(StreamSource(f"{url}/live.m3u8"))
    assert error.code == "unsupported_url"
    assert "the server's playlist cannot be used" in error.reason
    assert SECRET not in error.reason


async def test_a_playlist_that_names_others_without_end_is_given_up() -> None:
    lists = "".join(f"#EXT-X-STREAM-INF:BANDWIDTH=1\n{number}.m3u8\n" for number in range(60))
    async with serving(live_m3u8=whole(f"#EXTM3U\n{lists}".encode())) as url:
        error = await failure(StreamSource(f"{url}/live.m3u8"))
    assert error.code == "not_usable"
    assert "more than 50 other playlists" in error.reason


async def test_only_hls_may_be_silent_for_the_length_of_a_segment() -> None:
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nsegment.ts\n#EXT-X-ENDLIST\n"
    segment = whole(to_file(sine(1000, 2.0), "mpegts", "aac"), "video/mp2t")
    tone = whole(to_file(sine(440, 1.0), "wav", "pcm_s16le"))
    async with serving(live_m3u8=whole(playlist), segment_ts=segment, tone_wav=tone) as url:
        hls, radio = StreamSource(f"{url}/live.m3u8"), StreamSource(f"{url}/tone.wav")
        await listen(hls, 0.5)
        await listen(radio, 0.5)
    # Ten seconds are a usual segment, and a playlist may be a segment late.
    assert hls.patience.silence_s >= 30.0
    assert radio.patience.silence_s == 20.0
    assert StreamSource("rtsp://camera/x").patience.silence_s == 10.0


async def test_a_stream_that_changes_its_format_is_connected_to_again() -> None:
    links = [to_file(sine(1000, 1.0), "ogg", "libopus", channels=count) for count in (1, 2)]
    async with serving(radio_ogg=whole(b"".join(links), "application/ogg")) as url:
        error = await failure(StreamSource(f"{url}/radio.ogg"))
    assert (error.code, error.reason) == (
        "ended",
        "the server changed sample rate or channels: connecting again",
    )


def raw(content_type: str, pcm: bytes) -> Handler:
    async def serve(request: web.Request) -> web.Response:
        header = request.headers.get("Authorization")
        if header is None or BasicAuth.decode(header).password != SECRET:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        return web.Response(body=pcm, headers={"Content-Type": content_type})

    return serve


@pytest.mark.parametrize(
    ("content_type", "sample", "rate", "channels"),
    [
        ("audio/L16;rate=16000", ">i2", 16_000, 1),
        ("audio/l16; rate=44100; channels=2", ">i2", 44_100, 2),
        ('audio/L16;channels=1;rate="8000"', ">i2", 8_000, 1),
        ("audio/L8;rate=8000", "u1", 8_000, 1),
    ],
)
async def test_raw_pcm_is_read_as_its_content_type_says(
    content_type: str, sample: str, rate: int, channels: int
) -> None:
    tone = sine(1000, 2.0, rate)
    wide = tone * 32767 if sample == ">i2" else tone * 127 + 128
    pcm = np.repeat(np.round(wide).astype(sample), channels).tobytes()
    async with serving(live=raw(content_type, pcm)) as url:
        samples = await listen(StreamSource(f"{url}/live"), 1.0)
    assert strongest_hz(samples) == pytest.approx(1000, abs=3)
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    "content_type", ["audio/L16", "audio/L16;rate=fast", "audio/L16;rate=16000;channels=0"]
)
async def test_raw_pcm_without_its_rate_is_said_so(content_type: str) -> None:
    async with serving(live=raw(content_type, bytes(32_000))) as url:
        error = await failure(StreamSource(f"{url}/live"))
    assert error.code == "not_usable"
    assert "audio/L16;rate=16000" in error.reason


async def test_raw_pcm_that_never_comes_is_said_so() -> None:
    async with serving(live=raw("audio/L16;rate=16000", b"")) as url:
        error = await failure(StreamSource(f"{url}/live"))
    assert error.code == "ended"


async def test_a_pause_of_a_server_that_sends_in_time_is_a_gap() -> None:
    pcm = (sine(1000, 2.0, 16_000) * 32767).astype(">i2").tobytes()

    async def pausing(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "audio/L16;rate=16000"})
        await response.prepare(request)
        with suppress(ConnectionError):
            for start in range(0, len(pcm), 3200):
                if start == 32_000:
                    await asyncio.sleep(1.5)
                await response.write(pcm[start : start + 3200])
                await asyncio.sleep(0.1)
        return response

    heard_s = 0.0
    gaps_s = []
    async with serving(live=pausing) as url, aclosing(blocks_of(StreamSource(f"{url}/live"))) as blocks:
        async for block in blocks:
            if block.after_gap:
                gaps_s.append(heard_s)
            heard_s += block.duration_s
            if heard_s > 1.4:
                break
    # There are others if this machine stood still.
    assert any(gap_s == pytest.approx(1.0, abs=0.15) for gap_s in gaps_s)


async def test_what_comes_after_a_pause_needs_nothing_more_to_be_heard() -> None:
    pcm = (sine(1000, 1.0, 16_000) * 32767).astype(">i2").tobytes()
    heard = asyncio.Event()

    async def falling_silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "audio/L16;rate=16000"})
        await response.prepare(request)
        with suppress(ConnectionError):
            await response.write(pcm)
            await asyncio.sleep(2.0)
            await response.write(pcm)
            await heard.wait()
        return response

    async with (
        serving(live=falling_silent) as url,
        asyncio.timeout(PATIENCE_S / 2),
        aclosing(blocks_of(StreamSource(f"{url}/live"))) as blocks,
    ):
        async for block in blocks:
            if block.after_gap:
                heard.set()
                break
    assert heard.is_set()


async def test_a_recording_is_not_rushed_through(hurried_clock: HurriedClock) -> None:
    async with serving(tone_flac=whole(to_file(sine(440, 60.0), "flac", "flac"))) as url:
        error = await failure(StreamSource(f"{url}/tone.flac"))
    assert error.code == "ended"
    # Some seconds may come at once, as servers send what they have.
    assert hurried_clock.elapsed_s == pytest.approx(60 - 12, abs=1)


async def test_the_end_is_said_so() -> None:
    async with serving(tone_wav=whole(to_file(sine(440, 0.5), "wav", "pcm_s16le"))) as url:
        error = await failure(StreamSource(f"{url}/tone.wav"))
    assert (error.code, error.reason) == ("ended", "the server ended the stream")


async def test_user_name_and_password_are_used() -> None:
    sound = to_file(sine(440, 1.0), "wav", "pcm_s16le")

    async def guarded(request: web.Request) -> web.Response:
        header = request.headers.get("Authorization")
        if header is None or BasicAuth.decode(header).password != SECRET:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        return web.Response(body=sound)

    async with serving(tone_wav=guarded) as url:
        assert (await listen(StreamSource(f"{url}/tone.wav"), 0.5)).size
        error = await failure(StreamSource(f"{url}/tone.wav".replace(SECRET, "wrong")))
    assert error.code == "unauthorized"


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "unauthorized"), (403, "forbidden"), (404, "not_found"), (500, "refused_by_server")],
)
async def test_an_answer_that_refuses_is_said_so(status: int, code: str) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=status)

    async with serving(live=refuse) as url:
        error = await failure(StreamSource(f"{url}/live?token={SECRET}"))
    assert error.code == code
    assert SECRET not in error.reason


@pytest.mark.parametrize("data", [b"<html><body>Not found</body></html>" * 50, b"", bytes(5000)])
async def test_a_page_is_no_sound(data: bytes) -> None:
    async with serving(index_html=whole(data, "text/html")) as url:
        error = await failure(StreamSource(f"{url}/index.html"))
    assert error.code in ("not_audio", "ended")
    assert SECRET not in error.reason


async def test_a_film_without_sound_is_said_so() -> None:
    async with serving(film_mp4=whole(picture_only())) as url:
        error = await failure(StreamSource(f"{url}/film.mp4"))
    assert error.code == "no_audio_track"


async def test_samples_that_cannot_be_used_are_said_so() -> None:
    async with serving(tone_wav=whole(wav_of_64_bits())) as url:
        error = await failure(StreamSource(f"{url}/tone.wav"))
    assert error.code == "not_usable"
    assert "use 16 or 32 bits" in error.reason


async def test_nobody_there_is_said_so(unused_tcp_port: int) -> None:
    for scheme, who in (("http", "server"), ("rtsp", "camera")):
        error = await failure(StreamSource(f"{scheme}://u:{SECRET}@127.0.0.1:{unused_tcp_port}/x"))
        assert error.code == "refused"
        assert who in error.reason
        assert SECRET not in error.reason


async def test_an_unknown_host_is_said_so() -> None:
    error = await failure(StreamSource(f"rtsp://u:{SECRET}@no-such-host.invalid/x"))
    assert error.code == "host_not_found"
    assert "no-such-host.invalid" in error.reason
    assert SECRET not in error.reason


@asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[int, asyncio.Event]]:
    """Accept connections and say nothing; gives the port, and an event that a client is there."""
    connected = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []

    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        connected.set()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], connected
    server.close()
    for writer in writers:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
async def test_a_server_that_says_nothing_is_given_up(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "OPEN_TIMEOUT_S", 0.5)
    async with silent_server() as (port, _):
        source = StreamSource(f"{scheme}://u:{SECRET}@127.0.0.1:{port}/x")
        error = await failure(source)
    assert error.code == "timeout"
    assert "within 0.5 s" in error.reason
    assert SECRET not in error.reason


async def test_closing_does_not_wait_for_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "OPEN_TIMEOUT_S", PATIENCE_S)
    async with silent_server() as (port, connected):
        source = StreamSource(f"rtsp://127.0.0.1:{port}/x")
        waiting = asyncio.ensure_future(listen(source, 1.0))
        await connected.wait()
        waiting.cancel()
        done, _ = await asyncio.wait([waiting], timeout=PATIENCE_S / 2)
        assert done


LOCAL = [
    "file:///etc/passwd",
    "file://{path}",
    "{path}",
    "file:{path}",
    "concat:{path}|{path}",
    "concatf:{path}",
    "data:video/mp2t;base64,R0BBMBABA",
    "pipe:0",
    "subfile,,start,0,end,0,,:{path}",
    "crypto:file://{path}",
]


@pytest.mark.parametrize("target", LOCAL)
async def test_a_playlist_of_the_network_cannot_read_files(target: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.ts"
    secret.write_bytes(to_file(sine(440, 2.0), "mpegts", "aac"))
    link = target.format(path=secret)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{link}\n#EXT-X-ENDLIST\n".encode()
    async with serving(live_m3u8=whole(playlist, "application/vnd.apple.mpegurl")) as url:
        error = await failure(StreamSource(f"{url}/live.m3u8"))
    assert SECRET not in error.reason
    assert str(secret) not in error.reason


@pytest.mark.parametrize("target", ["file://{path}", "{path}", "subfile,,start,0,end,0,,:{path}"])
async def test_a_redirect_cannot_lead_to_a_file(target: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(to_file(sine(440, 2.0), "wav", "pcm_s16le"))

    async def redirect(_request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": target.format(path=secret)})

    async with serving(live=redirect) as url:
        error = await failure(StreamSource(f"{url}/live"))
    assert SECRET not in error.reason


async def test_a_redirect_to_another_address_is_followed() -> None:
    sound = whole(to_file(sine(440, 1.0), "wav", "pcm_s16le"))

    async def redirect(_request: web.Request) -> web.Response:
        raise web.HTTPFound("/tone.wav")

    async with serving(live=redirect, tone_wav=sound) as url:
        assert (await listen(StreamSource(f"{url}/live"), 0.5)).size


@pytest.mark.parametrize("url", ["file:///etc/passwd", "pipe:0", "rtsp:///x"])
def test_other_addresses_are_refused_at_once(url: str) -> None:
    with pytest.raises(SourceError) as caught:
        StreamSource(url)
    assert caught.value.code == "unsupported_url"


def test_a_source_shows_itself_without_its_password() -> None:
    assert SECRET not in repr(StreamSource(f"http://u:{SECRET}@host/x"))
