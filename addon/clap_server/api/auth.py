"""Who may use the API: a bearer token for programs, a cookie for the page."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web
from pydantic import Field

from clap_server.api.context import context, json_response
from clap_server.api.problems import ProblemError, read_body
from clap_server.api.route import Route
from clap_server.api.schemas import Received, Schema

if TYPE_CHECKING:
    from collections.abc import Callable

_LOGGER = logging.getLogger(__name__)

SESSION_S = 30 * 86400
FAILURES_ALLOWED = 10
FAILURE_WINDOW_S = 60.0
MAX_ADDRESSES = 1000
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="clap-server"'}


class Authenticator:
    """Checks tokens and cookies, and slows down guessing.

    The cookie is not the token but a keyed hash of its time of issue, so it ends when the token changes and
    needs no storage. A right token is always let in, also from an address that guessed too often.

    Args:
        token: the access token.
        server_id: makes the cookie's name, since a browser sends cookies to every port of a host.
        now: Unix time in seconds.
    """

    def __init__(self, token: str, server_id: str, now: Callable[[], float] = time.time) -> None:
        self._token = token.encode()
        self._now = now
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self.cookie_name = f"clap_session_{server_id[:8]}"

    def token_is_right(self, token: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._token)

    def new_session(self) -> str:
        """Value of a cookie that signs in for ``SESSION_S``."""
        issued = str(int(self._now()))
        return f"{issued}.{self._sign(issued)}"

    def session_is_valid(self, cookie: str) -> bool:
        """Whether a cookie's value was made here and is not too old."""
        issued, _, signature = cookie.partition(".")
        if not hmac.compare_digest(signature.encode("utf-8", "surrogateescape"), self._sign(issued).encode()):
            return False
        return int(issued) + SESSION_S > self._now()

    def _sign(self, issued: str) -> str:
        message = f"session:{issued}".encode("utf-8", "surrogateescape")
        return hmac.new(self._token, message, hashlib.sha256).hexdigest()

    def refuse(self, address: str) -> ProblemError:
        """Count a wrong token.

        Returns:
            What to answer: 401, or 429 when there were many.
        """
        now = self._now()
        failures = self._failures.setdefault(address, deque(maxlen=FAILURES_ALLOWED))
        self._failures.move_to_end(address)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)
        while failures and failures[0] <= now - FAILURE_WINDOW_S:
            failures.popleft()
        if len(failures) == FAILURES_ALLOWED:
            wait_s = max(1, round(failures[0] + FAILURE_WINDOW_S - now))
            return ProblemError(
                429,
                "too-many-attempts",
                f"Too many wrong tokens from your address; try again in {wait_s} s",
                headers={"Retry-After": str(wait_s)},
            )
        failures.append(now)
        if len(failures) == FAILURES_ALLOWED:
            _LOGGER.warning("Many wrong tokens from %s; it has to wait", address)
        return ProblemError(
            401,
            "wrong-token",
            "The token is wrong; `clap-server token` prints the right one, "
            "and the log shows it at the first start",
            headers=_CHALLENGE,
        )


def authorize(request: web.Request) -> None:
    """Let a request pass or not.

    Raises:
        ProblemError: it has no right credentials, or comes from another site's page.
    """
    authenticator = context(request).authenticator
    header = request.headers.get("Authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not authenticator.token_is_right(token.strip()):
            raise authenticator.refuse(peer(request))
        return
    cookie = request.cookies.get(authenticator.cookie_name)
    if cookie is None or not authenticator.session_is_valid(cookie):
        raise ProblemError(
            401,
            "not-signed-in",
            "Sign in on the server's page, or send the header 'Authorization: Bearer <token>'",
            headers=_CHALLENGE,
        )
    upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
    if (upgrade or request.method not in SAFE_METHODS) and not _same_origin(request):
        raise ProblemError(
            403, "other-origin", "A page of another site may not do this; use the server's own page"
        )


def _same_origin(request: web.Request) -> bool:
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc.lower() == request.host.lower()


def peer(request: web.Request) -> str:
    """Address of the other end of the connection itself; headers are not believed."""
    transport = request.transport
    name = transport.get_extra_info("peername") if transport is not None else None
    return str(name[0]) if name else "unknown"


class SignIn(Received):
    """POST /api/session."""

    token: str = Field(max_length=512, description="the access token")


async def sign_in(request: web.Request) -> web.Response:
    """Exchange the token for a cookie."""
    authenticator = context(request).authenticator
    given = await read_body(request, SignIn)
    if not authenticator.token_is_right(given.token.strip()):
        raise authenticator.refuse(peer(request))
    response = web.Response(status=204)
    response.set_cookie(
        authenticator.cookie_name,
        authenticator.new_session(),
        max_age=SESSION_S,
        path="/",
        httponly=True,
        samesite="Strict",
        secure=request.secure,
    )
    return response


class SessionInfo(Schema):
    """GET /api/session."""

    cookie: bool = Field(description="signed in with a cookie, so that signing out means something")


async def session(request: web.Request) -> web.Response:
    """Say how the client is signed in."""
    cookie = context(request).authenticator.cookie_name in request.cookies
    return json_response(SessionInfo(cookie=cookie).model_dump_json())


async def sign_out(request: web.Request) -> web.Response:
    """Take the cookie back."""
    response = web.Response(status=204)
    response.del_cookie(
        context(request).authenticator.cookie_name, path="/", httponly=True, samesite="Strict"
    )
    return response


ROUTES = (
    Route(
        "POST",
        "/api/session",
        sign_in,
        "Sign in",
        "Session",
        description=(
            "Exchanges the token for an HttpOnly cookie. For the page; programs send the token itself."
        ),
        status=204,
        body=SignIn,
        errors=(400, 401, 413, 422, 429),
        public=True,
    ),
    Route("GET", "/api/session", session, "How one is signed in", "Session", answer=SessionInfo),
    Route("DELETE", "/api/session", sign_out, "Sign out", "Session", status=204, public=True),
)
