"""The aiohttp application: routes, errors in words, who may do what."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import BadHttpMessage

from clap_server.api import (
    auth,
    calibration,
    classify,
    events,
    explain,
    feedback,
    figures,
    info,
    microphones,
    openapi,
    push,
    self_test,
    sounds,
    sources,
    websocket,
)
from clap_server.api.auth import authorize, peer
from clap_server.api.context import CONTEXT, context
from clap_server.api.pages import add_pages
from clap_server.api.problems import ProblemError
from clap_server.errors import ClapServerError, ModelError, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from clap_server.api.context import Context
    from clap_server.api.route import Route

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LOGGER = logging.getLogger(__name__)

ROUTES: tuple[Route, ...] = (
    *info.ROUTES,
    *classify.ROUTES,
    *microphones.ROUTES,
    *explain.ROUTES,
    *calibration.ROUTES,
    *self_test.ROUTES,
    *sources.ROUTES,
    *sounds.ROUTES,
    *push.ROUTES,
    *events.ROUTES,
    *feedback.ROUTES,
    *websocket.ROUTES,
    *figures.ROUTES,
    *auth.ROUTES,
    *openapi.ROUTES,
)
SWITCHING_PROTOCOLS = 101
MAX_BODY_BYTES = 1_000_000
_PUBLIC_PAGES = web.AppKey("public_pages", frozenset)
_PUBLIC = frozenset((route.method, route.path) for route in ROUTES if route.public)
_TRUSTED = frozenset((route.method, route.path) for route in ROUTES if route.trusted)
_HTTP_ERRORS = {
    400: ("bad_request", "The request is not understood; /docs describes the API"),
    404: ("not_found", "There is nothing at this address; /docs lists what there is"),
    405: ("method_not_allowed", "This address does not take that method; /docs lists what it takes"),
    413: ("body_too_large", f"The body is larger than {MAX_BODY_BYTES // 1_000_000} MB; send less"),
    416: ("range_not_satisfiable", "The file does not have that part; ask for another range"),
}


def build_app(shared: Context) -> web.Application:
    """Make the application that serves ``shared``."""
    app = web.Application(middlewares=[_explain, _admit], client_max_size=MAX_BODY_BYTES)
    app[CONTEXT] = shared
    app[openapi.DESCRIBED] = ROUTES
    for route in ROUTES:
        expect = classify.refuse_large if route.handler is classify.classify else _expect
        app.router.add_route(route.method, route.path, route.handler, expect_handler=expect)
        if route.method == "GET" and route.status != SWITCHING_PROTOCOLS:
            app.router.add_route("HEAD", route.path, route.handler, expect_handler=_expect)
    app[_PUBLIC_PAGES] = add_pages(app, _expect)
    app.on_response_prepare.append(_add_headers)
    return app


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """Answer the header ``Expect``, whatever bytes it holds."""
    if request.headers["Expect"].lower() != "100-continue":
        return ProblemError(417, "unknown_expectation", "Leave the header 'Expect' out").response()
    if request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return None


@web.middleware
async def _explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a problem document."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _from_http(error)
    except ClapServerError as error:
        return _from_inside(request, error)
    except (BadHttpMessage, web.RequestPayloadError):
        return ProblemError(
            400, "bad_body", "The body is damaged or not encoded as its headers say; send it again"
        ).response()
    except ConnectionError:
        raise  # The client went; there is nobody to answer.
    except Exception:
        _LOGGER.exception("%s %s failed", request.method, request.path)
        return ProblemError(
            500, "internal", "Something went wrong in the server; its log tells more, please report it"
        ).response()


def _from_inside(request: web.Request, error: ClapServerError) -> web.Response:
    if isinstance(error, ProblemError):
        return error.response()
    if not isinstance(error, StoreError | ModelError):
        return ProblemError(422, "invalid_request", str(error)).response()
    _LOGGER.error("%s %s: %s", request.method, request.path, error)
    code = "storage" if isinstance(error, StoreError) else "model"
    return ProblemError(503, code, str(error)).response()


def _from_http(error: web.HTTPException) -> web.StreamResponse:
    if error.status < 400:
        raise error
    code, detail = _HTTP_ERRORS.get(error.status, ("http_error", f"{error.reason}; /docs describes the API"))
    kept = {name: error.headers[name] for name in ("Allow", "Content-Range") if name in error.headers}
    return ProblemError(error.status, code, detail, headers=kept).response()


@web.middleware
async def _admit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer only those who may ask, and only when the server is ready."""
    shared = context(request)
    trusted = _through_ingress(request, shared)
    resource = request.match_info.route.resource
    path = resource.canonical if resource is not None else None
    method = "GET" if request.method == "HEAD" else request.method
    public = path in request.app[_PUBLIC_PAGES] or (method, path) in _PUBLIC
    encoding = request.headers.get("Content-Encoding", "identity")
    if request.body_exists and encoding.lower() != "identity":
        raise ProblemError(
            415,
            "encoded_body",
            "Send the body as it is, without Content-Encoding",
            headers={"Accept-Encoding": "identity"},
        )
    # An unknown address outside the API is simply not there; inside, strangers are told nothing.
    unknown_page = path is None and not request.path.startswith("/api")
    if not (public or trusted or unknown_page):
        authorize(request, trusted=(method, path) in _TRUSTED)
    if not (shared.ready or public or unknown_page):
        raise ProblemError(
            503, "starting", "The server is starting; try again in a moment", headers={"Retry-After": "1"}
        )
    return await handler(request)


def _through_ingress(request: web.Request, shared: Context) -> bool:
    """Whether the request came to the ingress port, where Home Assistant has checked the user.

    Raises:
        ProblemError: it did, but not from the Supervisor.
    """
    transport = request.transport
    local = transport.get_extra_info("sockname") if transport is not None else None
    if shared.ingress_port is None or local is None or local[1] != shared.ingress_port:
        return False
    if peer(request) not in shared.ingress_peers:
        raise ProblemError(
            403, "not_ingress", "This port is for Home Assistant's ingress alone; use the server's own port"
        )
    return True


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    headers = response.headers
    headers["Server"] = "clap-server"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["X-Frame-Options"] = "SAMEORIGIN"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'self'")
    if request.path.startswith(("/api", "/metrics", "/health")):
        headers.setdefault("Cache-Control", "no-store")


class AccessLogger(AbstractAccessLogger):
    """One line a request at level debug; without the query, in which someone might put a secret."""

    @property
    def enabled(self) -> bool:
        """Whether anyone wants to read it."""
        return self.logger.isEnabledFor(logging.DEBUG)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Write the line."""
        self.logger.debug(
            "%s %s %s: %d in %.3f s", request.remote, request.method, request.path, response.status, time
        )
