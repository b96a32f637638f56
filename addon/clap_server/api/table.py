"""All routes of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clap_server.api import (
    auth,
    classify,
    events,
    info,
    metrics,
    microphones,
    openapi,
    push,
    sources,
    websocket,
)

if TYPE_CHECKING:
    from clap_server.api.route import Route

ROUTES: tuple[Route, ...] = (
    *info.ROUTES,
    *classify.ROUTES,
    *microphones.ROUTES,
    *sources.ROUTES,
    *push.ROUTES,
    *events.ROUTES,
    *websocket.ROUTES,
    *metrics.ROUTES,
    *auth.ROUTES,
    *openapi.ROUTES,
)
