"""What is wrong with a request is the client's to hear, and never a failure of the server."""

from __future__ import annotations

import asyncio
import gzip
import io
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.running_server import TOKEN, Client, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

FORM = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "multipart/form-data; boundary=x"}
JSON = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
MICROPHONE = {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": "alarm"}]}


def _part(header: bytes, content: bytes = b"0.5") -> bytes:
    return b"--x\r\n" + header + b"\r\n\r\n" + content + b"\r\n"


@pytest.mark.parametrize(
    "body",
    [
        _part(b'Content-Disposition: form-data; name="thres\x01hold"'),
        _part(b'Content-Disposition: form-data; name="threshold"\r\nX-\x00: 1'),
        _part(b"no header at all"),
        _part(b"X: " + b"a" * 5_000_000),
        _part(b"\r\n".join(b"X-%d: 1" % number for number in range(1000))),
        b"\xff" * 5_000_000,
    ],
    ids=["control", "nul", "none", "long", "many", "no line end"],
)
async def test_damaged_form_is_the_clients_fault(client: Client, body: bytes) -> None:
    data = io.BytesIO(body + b"--x--\r\n")
    problem = await client.json("POST", "/api/classify", status=400, headers=FORM, data=data)
    assert problem["type"] == "/problems/invalid_multipart"


async def test_endless_body_without_a_line_end_is_cut_off(client: Client) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 3_000_000_000:
            sent += 100_000
            yield b"x" * 100_000

    await client.json("POST", "/api/classify", status=400, headers=FORM, data=endless())
    assert sent < 20_000_000


@pytest.mark.parametrize("name", ["threshold", "labels", "normalize", "audio"])
async def test_repeated_field_is_refused_at_once(client: Client, name: str) -> None:
    content = {"labels": b"alarm", "normalize": b"none"}.get(name, b"0.5")
    part = _part(b'Content-Disposition: form-data; name="%s"; filename="f"' % name.encode(), content)
    problem = await client.json(
        "POST", "/api/classify", status=422, headers=FORM, data=part * 1000 + b"--x--\r\n"
    )
    assert problem["errors"] == [{"field": name, "message": "was sent twice; send each field once"}]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP", "magic", "identity, gzip"])
@pytest.mark.parametrize("path", ["/api/microphones", "/api/classify", "/api/session"])
async def test_packed_body_is_refused_whatever_it_would_unpack_to(
    client: Client, path: str, encoding: str
) -> None:
    headers = (FORM if path == "/api/classify" else JSON) | {"Content-Encoding": encoding}
    bomb = gzip.compress(b"a\r\n" * 5_000_000)
    problem = await client.json("POST", path, status=415, headers=headers, data=bomb)
    assert problem["type"] == "/problems/encoded_body"


async def test_body_that_says_that_it_is_not_packed_is_read(client: Client) -> None:
    headers = JSON | {"Content-Encoding": "identity"}
    await client.json("POST", "/api/microphones", status=201, headers=headers, json=MICROPHONE)


@pytest.mark.parametrize("line", [b"\r\n", b"a\r\n", b"a" * 1000 + b"\r\n"])
async def test_form_that_begins_with_endless_lines_is_refused(client: Client, line: bytes) -> None:
    form = _part(b'Content-Disposition: form-data; name="threshold"') + b"--x--\r\n"
    before = line * (20_000 // len(line))
    # Bare, the form lacks its recording and nothing else.
    await client.json("POST", "/api/classify", status=422, headers=FORM, data=line + form)
    problem = await client.json("POST", "/api/classify", status=400, headers=FORM, data=before + form)
    assert problem["type"] == "/problems/invalid_multipart"


async def test_body_in_damaged_chunks_is_refused(client: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.server.port)
    writer.write(
        f"POST /api/microphones HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n".encode()
    )
    assert b" 400 " in await asyncio.wait_for(reader.readline(), 30)
    writer.close()


@pytest.mark.parametrize(
    "change",
    [
        '{"hop_s": ' + "1" * 5000 + "}",
        '{"hop_s": 1e999}',
        '{"name": "\\ud800"}',
        '{"name": ' + "[" * 5000 + "]" * 5000 + "}",
        '{"labels": ' + '{"a":' * 150 + "1" + "}" * 150 + "}",
    ],
    ids=["huge number", "infinity", "half a character", "deep list", "deep object"],
)
async def test_odd_json_is_the_clients_fault(client: Client, change: str) -> None:
    await client.json("PUT", "/api/microphones/hall", status=201, json=MICROPHONE)
    for method, path in (("PATCH", "/api/microphones/hall"), ("PUT", "/api/microphones/hall")):
        async with client.request(method, path, headers=JSON, data=change) as response:
            assert response.status in {400, 422}, await response.text()


@pytest.mark.parametrize(
    "path", ["a" * 256 + ".wav", "a/" * 500, "a\x00b", "\ud7ff" * 300, "a" * 255 + "/" + "b" * 255]
)
async def test_media_path_that_no_file_can_have_is_refused_or_waited_for(tmp_path: Path, path: str) -> None:
    (tmp_path / "media").mkdir()
    async with running(tmp_path / "data", media=tmp_path / "media") as client:
        body = MICROPHONE | {"source": {"type": "file", "path": path}}
        async with client.request("PUT", "/api/microphones/hall", json=body) as response:
            assert response.status in {201, 422}, await response.text()
        async with client.request("POST", "/api/sources/check", json={"source": body["source"]}) as response:
            assert response.status == 422, await response.text()


@pytest.mark.parametrize("after", [2**63, 2**64, 10**30])
async def test_sequence_number_that_cannot_be_is_refused(client: Client, after: int) -> None:
    await client.json("GET", f"/api/events?after={after}", status=422)
    async with client.socket() as socket:
        await socket.receive_json(timeout=30)
        await socket.send_json({"after": after})
        end = await socket.receive(timeout=30)
    assert (end.data, "at most" in end.extra) == (1008, True)


@pytest.mark.parametrize(
    "path",
    ["/api/events/%FF", "/api/events/%ED%A0%80", "/api/events?microphone=%FF%00", "/api/microphones/%FF%00"],
)
async def test_address_that_is_no_text_finds_nothing(client: Client, path: str) -> None:
    async with client.request("GET", path) as response:
        assert response.status in {200, 404}, await response.text()


@pytest.mark.parametrize("name", ["Expect", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Upgrade"])
@pytest.mark.parametrize("path", ["/api/ws", "/api/info", "/app.css", "/api/microphones/hall/audio"])
async def test_header_of_bytes_that_are_no_text_fails_nothing(client: Client, path: str, name: str) -> None:
    await client.json("PUT", "/api/microphones/hall", status=201, json=MICROPHONE)
    headers = {
        b"Host": b"x",
        b"Authorization": f"Bearer {TOKEN}".encode(),
        b"Connection": b"Upgrade",
        b"Upgrade": b"websocket",
        b"Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Version": b"13",
        name.encode(): b"\xff",
    }
    lines = b"".join(b"%s: %s\r\n" % item for item in headers.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", client.server.port)
    writer.write(b"GET %s HTTP/1.1\r\n%s\r\n" % (path.encode(), lines))
    status = int((await asyncio.wait_for(reader.readline(), 30)).split()[1])
    assert status in {200, 400, 417, 426}
    writer.close()


async def test_client_that_asks_before_it_sends_is_told_to_go_on(client: Client) -> None:
    headers = JSON | {"Expect": "100-continue"}
    async with client.request("POST", "/api/microphones", headers=headers, json=MICROPHONE) as response:
        assert response.status == 201


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"source": {"type": "file", "path": "a.wav", "loop": 0}}, "source.loop"),
        ({"source": {"type": "file", "path": "a.wav", "loop": "yes"}}, "source.loop"),
        ({"enabled": 1}, "enabled"),
        ({"owner": ""}, "owner"),
        ({"owner": " "}, "owner"),
        ({"owner": "a\x00"}, "owner"),
        ({"owner": "a\nb"}, "owner"),
        ({"owner": "a\u202eb"}, "owner"),
        ({"name": "\u3164"}, "name"),
        ({"name": "\u2800 \u115f\uffa0"}, "name"),
        ({"name": "\u200d\ufe0f"}, "name"),
        ({"enabled": "off"}, "enabled"),
        ({"hop_s": "0.5"}, "hop_s"),
        ({"hop_s": True}, "hop_s"),
        ({"labels": [{"label": "alarm", "threshold": "0.5"}]}, "labels.0.threshold"),
    ],
)
async def test_value_that_is_none_is_refused(client: Client, change: dict[str, Any], field: str) -> None:
    problem = await client.json("PUT", "/api/microphones/hall", status=422, json=MICROPHONE | change)
    assert problem["errors"][0]["field"] == field


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /api/info HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer SESAME\x01\r\n\r\n",
        b"GET /api/info?token=SESAME\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[SESAME/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /api/info HTTP/1.1\r\nHost: x\r\nAuthorization Bearer SESAME\r\n\r\n",
        b"GET /api/info HTTP/1.1\r\nHost: x\r\nX: " + b"SESAME" * 5000 + b"\r\n\r\n",
        b"GET /api/info HTTP/SESAME\r\nHost: x\r\n\r\n",
        b"SESAME\r\n\r\n",
    ],
    ids=["header", "query", "host", "no colon", "long", "version", "line"],
)
async def test_request_that_is_no_http_is_repeated_nowhere(
    client: Client, caplog: pytest.LogCaptureFixture, request_: bytes
) -> None:
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.server.port)
        writer.write(request_)
        answer = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
        assert b"\r\nContent-Type: application/problem+json" in answer
        assert b"SESAME" not in answer
    assert "SESAME" not in caplog.text
    told = [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]
    assert [record.exc_info for record in told] == [None]


async def test_the_limits_of_a_microphone_are_those_that_are_described(client: Client) -> None:
    described = (await client.json("GET", "/api/openapi.json"))["components"]["schemas"]
    [threshold, _] = described["LabelChoice"]["properties"]["threshold"]["anyOf"]
    fields = described["MicrophoneSettings"]["properties"]
    most_labels, most_negatives = fields["labels"]["maxItems"], fields["negatives"]["maxItems"]
    assert (fields["labels"]["minItems"], most_labels, most_negatives) == (1, 200, 50)
    low, high = threshold["exclusiveMinimum"], threshold["exclusiveMaximum"]
    assert (low, high) == (0, 1)

    def labels(count: int) -> dict[str, Any]:
        return {"labels": [{"label": f"sound {number}"} for number in range(count)]}

    def negatives(count: int) -> dict[str, Any]:
        return {"negatives": [f"noise {number}" for number in range(count)]}

    def chosen(value: float) -> dict[str, Any]:
        return {"labels": [{"label": "alarm", "threshold": value}]}

    for good in (labels(most_labels), negatives(most_negatives), chosen(low + 0.01), chosen(high - 0.01)):
        settings = {"settings": {**MICROPHONE, **good}}
        await client.json("POST", "/api/microphones/check", json=settings)
    for bad, field in (
        (labels(0), "labels"),
        (labels(most_labels + 1), "labels"),
        (negatives(most_negatives + 1), "negatives"),
        (chosen(low), "labels.0.threshold"),
        (chosen(high), "labels.0.threshold"),
    ):
        problem = await client.json("PUT", "/api/microphones/hall", status=422, json={**MICROPHONE, **bad})
        assert problem["type"] == "/problems/invalid_request"
        assert [error["field"] for error in problem["errors"]] == [field]
