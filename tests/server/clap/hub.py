"""As much of the Hugging Face hub as a download of a model needs, over real HTTP."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
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
    """

    models: dict[str, Path] = field(default_factory=dict)
    down: bool = False
    gated: set[str] = field(default_factory=set)
    hold: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hold.set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
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
            files = [
                {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": self._hash(path)}
                for path in sorted(folder.iterdir())
            ]
            self._send(200, json.dumps(files).encode(), {}, body=body)
        elif action == "resolve":
            path = folder / rest
            headers = {"ETag": f'"{self._hash(path)}"', "X-Repo-Commit": COMMIT}
            self._send(200, path.read_bytes(), headers, body=body)
        else:
            self._send(200, json.dumps({"id": name, "sha": COMMIT}).encode(), {}, body=body)

    @staticmethod
    def _hash(path: Path) -> str:
        return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()

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
