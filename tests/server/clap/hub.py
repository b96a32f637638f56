"""As much of the Hugging Face hub as a download of a model needs, over real HTTP."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from huggingface_hub import constants

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What it serves and how it fails.

    Attributes:
        models: folders by name.
        down: answer every request with 503.
        gated: names that need terms accepted.
        hold: while clear, weights stop halfway.
        cut_off: bytes of weights after which connections break off, one for each answer to come.
        whole: whether files come as a whole, whatever part is asked for.
        damaged: whether a byte of the weights is another.
        weights: where each answer with weights began, in bytes.
    """

    models: dict[str, Path] = field(default_factory=dict)
    down: bool = False
    gated: set[str] = field(default_factory=set)
    hold: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    requests: list[str] = field(default_factory=list)
    cut_off: list[int] = field(default_factory=list)
    whole: bool = False
    damaged: bool = False
    weights: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hold.set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        with suppress(ConnectionError):  # whoever stops a download hangs up
            self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        self.hub.requests.append(self.path)
        if self.hub.down:
            self._send(503, b"", {}, body=body)
            return
        parts = self.path.partition("?")[0].strip("/").removeprefix("api/models/").split("/")
        name, action, rest = "/".join(parts[:2]), parts[2] if len(parts) > 2 else "", "/".join(parts[4:])
        folder = self.hub.models.get(name)
        if folder is None:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, body=body)
        elif name in self.hub.gated and action == "resolve":
            self._send(403, b"", {"X-Error-Code": "GatedRepo"}, body=body)
        elif action == "tree":
            files = [_entry(path) for path in sorted(folder.iterdir())]
            self._send(200, json.dumps(files).encode(), {}, body=body)
        elif action == "resolve":
            self._send_file(folder / rest, body=body)
        else:
            self._send(200, json.dumps({"id": name, "sha": COMMIT}).encode(), {}, body=body)

    def _send_file(self, path: Path, *, body: bool) -> None:
        content = path.read_bytes()
        headers = {"ETag": f'"{_name(path)}"', "X-Repo-Commit": COMMIT}
        if not (body and _is_large(path)):
            self._send(200, content, headers, body=body)
            return
        if self.hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        # What is asked for is always "bytes=N-".
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.hub.weights.append(first)
        first = 0 if self.hub.whole else first
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        if self.hub.cut_off:
            self._cut_off(content[first:], headers, 206 if first else 200)
            return
        self._send(206 if first else 200, content[first:], headers, body=body)

    def _cut_off(self, content: bytes, headers: dict[str, str], status: int) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.hub.cut_off.pop(0)])
        self.close_connection = True

    def _send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            half = len(content) // 2
            self.wfile.write(content[:half])
            self.hub.hold.wait(30)
            self.wfile.write(content[half:])


def _is_large(path: Path) -> bool:
    """Whether the hub keeps it in Git LFS."""
    return path.suffix in {".safetensors", ".bin"}


def _name(path: Path) -> str:
    """A file's ETag: of large ones the SHA-256, of the others what Git calls them."""
    content = path.read_bytes()
    if _is_large(path):
        return hashlib.sha256(content).hexdigest()
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def _entry(path: Path) -> dict[str, object]:
    size = path.stat().st_size
    entry: dict[str, object] = {"type": "file", "path": path.name, "size": size, "oid": "0" * 40}
    if _is_large(path):
        entry["lfs"] = {"oid": _name(path), "size": size, "pointerSize": 134}
    else:
        entry["oid"] = _name(path)
    return entry


@contextmanager
def serve_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve a hub and point huggingface_hub to it."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    # Read from the environment at import time, which is over.
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    try:
        yield hub
    finally:
        hub.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()
