"""The page at ``/`` and the browsable API at ``/docs``: files that need no sign-in and no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import swagger_ui_bundle

from clap_server.api.file_response import File

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from aiohttp import web

WEB = Path(__file__).parent.parent / "web"
_SWAGGER_FILES = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}

# Scripts of the page come from the server itself; nothing is ever taken from elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)
# Swagger UI sets styles in the markup.
DOCS_POLICY = POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")


def files() -> Iterator[tuple[str, Path]]:
    """Addresses and the files that are served there."""
    for path in sorted(WEB.rglob("*")):
        if path.suffix in _TYPES:
            address = "/" + path.relative_to(WEB).as_posix()
            yield {"/index.html": "/", "/docs/index.html": "/docs"}.get(address, address), path
    for name in _SWAGGER_FILES:
        yield f"/docs/{name}", Path(swagger_ui_bundle.swagger_ui_path) / name


def add_pages(
    app: web.Application, expect: Callable[[web.Request], Awaitable[web.StreamResponse | None]]
) -> frozenset[str]:
    """Serve the files.

    Returns:
        Their addresses.
    """
    addresses = []
    for address, path in files():
        handler = _serving(path, DOCS_POLICY if address.startswith("/docs") else POLICY)
        app.router.add_get(address, handler, expect_handler=expect)
        addresses.append(address)
    return frozenset(addresses)


def _serving(path: Path, policy: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    headers = {
        "Content-Type": f"{_TYPES[path.suffix]}; charset=utf-8" if path.suffix != ".png" else "image/png",
        "Content-Security-Policy": policy,
        # Asked for each time, answered from the browser's cache when nothing changed.
        "Cache-Control": "no-cache",
    }

    async def serve(_request: web.Request) -> web.StreamResponse:
        return File(path, headers=headers)

    return serve
