"""Who may use the API: a bearer token for programs, a cookie for the page."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import urlsplit

from aiohttp import web
from pydantic import Field

from clap_server.api.authenticator import SESSION_S
from clap_server.api.context import SESSION, context, json_response
from clap_server.api.problems import ProblemError, read_body
from clap_server.api.route import Route
from clap_server.api.schemas import Received, Schema
from clap_server.api.trust import is_trusted
from clap_server.api.websocket import close_signed_out

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="clap-server"'}
_ORIGIN = re.compile("https?://", re.IGNORECASE)
_DEFAULT_PORTS = frozenset({80, 443})


def authorize(request: web.Request, *, trusted: bool = False) -> None:
    """Let a request pass or not.

    Args:
        request: to the server's own port.
        trusted: whether trusted networks may make it without credentials.

    Raises:
        ProblemError: it has no right credentials, or comes from another site's page.
    """
    authenticator = context(request).authenticator
    header = request.headers.get("Authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not authenticator.token_is_right(token.strip()):
            raise _wrong_token(request)
        return
    cookie = request.cookies.get(authenticator.cookie_name)
    if cookie is None or not authenticator.session_is_valid(cookie):
        if trusted and is_trusted(request, peer(request), context(request).trusted_networks):
            return
        raise ProblemError(401, "not_signed_in", _how_to_sign_in(request, trusted), headers=_CHALLENGE)
    upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
    if upgrade or request.method not in SAFE_METHODS:
        _require_same_origin(request)
    request[SESSION] = cookie


def _how_to_sign_in(request: web.Request, trusted: bool) -> str:
    """What a stranger can do; in one sentence, as somebody reads it whose script was turned away."""
    how = "Sign in on the server's page, or send the header 'Authorization: Bearer <token>'"
    if trusted:
        method = "" if request.method in {"GET", "HEAD"} else f"-X {request.method} "
        form = " -F audio=@sound.wav -F 'labels=glass breaking'" if request.method == "POST" else ""
        address = f"{request.scheme}://{request.host}{request.path}"
        how += (
            f" (curl {method}-H 'Authorization: Bearer TOKEN'{form} '{address}'), or let the network of"
            " the script do without by the setting --trusted-networks or CLAP_TRUSTED_NETWORKS"
        )
    return how


def _wrong_token(request: web.Request) -> ProblemError:
    context(request).authenticator.tell_of_wrong_token(peer(request))
    return ProblemError(
        401,
        "wrong_token",
        "The token is wrong; `clap-server token --data DIR`, with the server's data folder, prints the right "
        "one, and the log shows it at the first start",
        headers=_CHALLENGE,
    )


def _require_same_origin(request: web.Request) -> None:
    """Refuse what the page of another site asks for.

    A proxy may have taken TLS off, put a default port into the host or taken it out of it, so the ports of
    HTTP and HTTPS count as one.
    """
    origin = request.headers.get("Origin", "")
    place = _place(origin) if _ORIGIN.match(origin) else None
    if place is None or place != _place(f"//{request.host}"):
        raise ProblemError(
            403, "other_origin", "A page of another site may not do this; use the server's own page"
        )


def _place(address: str) -> tuple[str, int] | None:
    """Host and port of an address; the default ports are all 0."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or 0
    except ValueError:
        return None
    if not host:
        return None
    return host, 0 if port in _DEFAULT_PORTS else port


def peer(request: web.Request) -> str:
    """Address of the other end of the connection itself; headers are not believed."""
    transport = request.transport
    name = transport.get_extra_info("peername") if transport is not None else None
    return str(name[0]) if name else "unknown"


class SignIn(Received):
    """POST /api/session."""

    token: str = Field(max_length=512, description="the access token")


async def sign_in(request: web.Request) -> web.Response:
    authenticator = context(request).authenticator
    given = await read_body(request, SignIn)
    if not authenticator.token_is_right(given.token.strip()):
        raise _wrong_token(request)
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
    cookie = context(request).authenticator.cookie_name in request.cookies
    return json_response(SessionInfo(cookie=cookie).model_dump_json())


async def sign_out(request: web.Request) -> web.Response:
    """Take the cookie back, and let it sign in no more."""
    authenticator = context(request).authenticator
    cookie = request.cookies.get(authenticator.cookie_name)
    if cookie is not None and authenticator.session_is_valid(cookie):
        _require_same_origin(request)
        await asyncio.to_thread(authenticator.end_session, cookie)
        await close_signed_out(context(request), cookie)
    response = web.Response(status=204)
    response.del_cookie(authenticator.cookie_name, path="/", httponly=True, samesite="Strict")
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
        errors=(400, 401, 413, 422),
        public=True,
    ),
    Route("GET", "/api/session", session, "How one is signed in", "Session", answer=SessionInfo),
    Route("DELETE", "/api/session", sign_out, "Sign out", "Session", status=204, errors=(403,), public=True),
)
