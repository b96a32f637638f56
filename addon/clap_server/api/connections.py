"""Connections, and what comes over them that is no HTTP."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from clap_server.api.problems import ProblemError

if TYPE_CHECKING:
    from aiohttp.web_request import BaseRequest

_LOGGER = logging.getLogger(__name__)
TELL_EVERY_S = 60.0


class Runner(web.AppRunner):
    """Serves an application.

    A request that cannot be read is repeated neither to the client nor in the log: it may hold a token.
    """

    def __init__(self, app: web.Application, *, shutdown_timeout: float, **options: Any) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout, **options)
        self._options = options

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, **self._options)


class _Server(web.Server):
    def __init__(self, handler: Any, *, request_factory: Any, **options: Any) -> None:
        super().__init__(handler, request_factory=request_factory, **options)
        self._options = options
        self._told_at = float("-inf")
        self._untold = 0

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=asyncio.get_running_loop(), **self._options)

    def tell_of_unreadable(self, address: str | None) -> None:
        """Log that a request could not be read, at most once a minute."""
        self._untold += 1
        if time.monotonic() - self._told_at >= TELL_EVERY_S:
            _LOGGER.warning(
                "A request from %s is not HTTP (%d since this was last told)", address, self._untold
            )
            self._told_at, self._untold = time.monotonic(), 0


class _Connection(web.RequestHandler):
    def __init__(self, server: _Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._tell = server.tell_of_unreadable

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        self._tell(request.remote)
        answer = ProblemError(
            status, "bad_request", "The request is not HTTP as the server reads it; check address and headers"
        ).response()
        answer.force_close()
        return answer
