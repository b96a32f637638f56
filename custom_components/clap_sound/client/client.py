"""Requests to the server."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import Mapping
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any, Literal

import aiohttp
from yarl import URL

from .exceptions import (
    ClapSoundAuthenticationError,
    ClapSoundConnectionError,
    InvalidRequestError,
    NotFoundError,
    ServerError,
    UnexpectedAnswerError,
)
from .models import (
    Classification,
    EventInfo,
    Explanation,
    FeedbackTaken,
    LabelInfo,
    ListedEvents,
    MicrophoneInfo,
    SelfTestResult,
    ServerInfo,
    events_from_json,
    labels_from_json,
    microphones_from_json,
    parse,
    watched_labels_from_json,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from .models import WatchedLabel

DEFAULT_PORT = 7860
REQUEST_TIMEOUT_S = 10.0
CHECK_TIMEOUT_S = 25.0
"""The server gives a source 15 s."""
SELF_TEST_TIMEOUT_S = 45.0
"""The server gives a self-test 30 s."""
CLASSIFY_TIMEOUT_S = 300.0
"""A recording of a quarter of an hour takes a large model minutes."""
HEARTBEAT_S = 4.0
"""A dead server is noticed after this and half of it again: 6 s."""
EVENT_PAGE = 200
MAX_EVENT_PAGES = 25
"""In a list by time; a question of years with many false alarms would read for minutes."""
MAX_MESSAGE_BYTES = 32 * 2**20
"""Messages are a megabyte or so; one microphone with many long labels may need more."""

# Closing waits no longer than this for a server that may be gone.
_WEBSOCKET_TIMEOUT = aiohttp.ClientWSTimeout(ws_close=2.0)


class ClapSoundClient:
    """A CLAP Sound server.

    Every method raises ClapSoundConnectionError when the server does not answer,
    ClapSoundAuthenticationError when it does not accept the token, InvalidRequestError when it
    refuses the request, ServerError when it failed, UnexpectedAnswerError when it is no such server.

    Args:
        session: stays the caller's; decides how TLS certificates are checked.
        host: name or address.
        port: TCP port.
        token: bearer token.
        tls: whether to use https and wss.
        timeout_s: for one request.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        host: str,
        port: int = DEFAULT_PORT,
        token: str = "",
        *,
        tls: bool = False,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        self._session = session
        self._timeout_s = timeout_s
        self._headers = {"Authorization": f"Bearer {token}"}
        self.bad_messages = 0
        self.url = URL.build(scheme="https" if tls else "http", host=host, port=port)

    async def info(self) -> ServerInfo:
        """Return who the server is.

        Raises:
            ApiVersionError: it speaks another version of the API.
        """
        return await self._json("GET", "info", ServerInfo.from_json)

    async def labels(self) -> tuple[LabelInfo, ...]:
        return await self._json("GET", "labels", labels_from_json)

    async def microphones(self) -> tuple[MicrophoneInfo, ...]:
        return await self._json("GET", "microphones", microphones_from_json)

    async def put_microphone(self, microphone_id: str, settings: Mapping[str, Any]) -> MicrophoneInfo:
        """Add or change a microphone; ``settings`` as PUT /api/microphones/{id} wants them."""
        return await self._json(
            "PUT", f"microphones/{microphone_id}", MicrophoneInfo.from_json, json=dict(settings)
        )

    async def mute_microphone(self, microphone_id: str, *, muted: bool) -> MicrophoneInfo:
        """Have a microphone stop listening at once, or listen again."""
        method = "PUT" if muted else "DELETE"
        return await self._json(method, f"microphones/{microphone_id}/mute", MicrophoneInfo.from_json)

    async def release_microphone(self, microphone_id: str, owner: str) -> None:
        """Have the server take back a microphone that was its own, or else remove it.

        It is no error if there is none, or if it belongs to another.
        """
        try:
            await self._request("POST", f"microphones/{microphone_id}/release", json={"owner": owner})
        except NotFoundError:
            return
        except InvalidRequestError as error:
            if error.code != "not_owner":
                raise

    async def check_microphone(
        self, microphone_id: str | None, settings: Mapping[str, Any]
    ) -> tuple[WatchedLabel, ...]:
        """Have the server check settings, without changing anything; return what their labels mean.

        Raises:
            InvalidRequestError: it would refuse them.
        """
        return await self._json(
            "POST",
            "microphones/check",
            watched_labels_from_json,
            json={"id": microphone_id, "settings": dict(settings)},
        )

    async def check_source(self, source: Mapping[str, Any]) -> None:
        """Have the server listen to a source for a moment.

        Raises:
            InvalidRequestError: no sound comes; ``code`` and ``detail`` say why.
        """
        await self._request("POST", "sources/check", timeout_s=CHECK_TIMEOUT_S, json={"source": dict(source)})

    async def events(
        self,
        limit: int,
        *,
        before: int | None = None,
        microphone: str | None = None,
        label: str | None = None,
    ) -> tuple[EventInfo, ...]:
        """Return the events whose newest changes are the latest, oldest first.

        Args:
            limit: at most so many.
            before: only those whose newest change has a lower sequence number.
            microphone: only of this microphone id.
            label: only of this label id.
        """
        wanted = {"limit": limit, "before": before, "microphone": microphone, "label": label}
        params = {name: str(value) for name, value in wanted.items() if value is not None}
        return await self._json("GET", "events", events_from_json, params=params)

    async def list_events(
        self,
        since: datetime,
        until: datetime,
        *,
        microphone: str | None = None,
        label: str | None = None,
    ) -> ListedEvents:
        """Return the events that sounded at some moment between two times.

        Args:
            since: with an offset.
            until: with an offset.
            microphone: only of this microphone id.
            label: only of this label id.
        """
        found: dict[str, EventInfo] = {}
        complete_since = since
        before: int | None = None
        for _ in range(MAX_EVENT_PAGES):
            page = await self.events(EVENT_PAGE, before=before, microphone=microphone, label=label)
            found = {event.id: event for event in page} | found
            # An event that a crash cut off is closed at the next start, so one that is older may come early.
            if len(page) < EVENT_PAGE or all(event.was_over_before(since) for event in page):
                break
            before = page[0].sequence
        else:
            complete_since = max(since, page[0].ended_at or page[0].detected_at)
        if before is not None:
            # What changed meanwhile went to the front, perhaps from a page that had yet to come.
            page = await self.events(EVENT_PAGE, microphone=microphone, label=label)
            found |= {event.id: event for event in page}
        events = (
            event
            for event in found.values()
            if event.started_at <= until and not event.was_over_before(complete_since)
        )
        newest_first = sorted(events, key=lambda event: event.started_at, reverse=True)
        return ListedEvents(tuple(newest_first), complete_since)

    async def explain(self, microphone_id: str, seconds: int) -> Explanation:
        """Return what a microphone heard in the last seconds, window by window.

        Raises:
            NotFoundError: the server does not have it.
        """
        return await self._json(
            "GET",
            f"microphones/{microphone_id}/explain",
            Explanation.from_json,
            params={"seconds": str(seconds)},
        )

    async def judge_event(self, event_id: str, verdict: Literal["correct", "false_alarm"]) -> FeedbackTaken:
        """Tell whether an event was right.

        Raises:
            NotFoundError: the server does not have it.
        """
        return await self._json(
            "POST", f"events/{event_id}/feedback", FeedbackTaken.from_json, json={"verdict": verdict}
        )

    async def classify(
        self, audio: bytes | IO[bytes], labels: Iterable[str], threshold: float | None = None
    ) -> Classification:
        """Have a recording scored.

        Args:
            audio: the whole file, in a format that FFmpeg reads; an open one stays the caller's to close.
            labels: ids, names or own words.
            threshold: from which on a label counts as detected; None for the server's own.

        Raises:
            InvalidRequestError: the recording or the labels are not usable; ``detail`` says why.
        """
        form = aiohttp.FormData()
        form.add_field("labels", ", ".join(labels))
        if threshold is not None:
            form.add_field("threshold", str(threshold))
        file = io.BytesIO(audio) if isinstance(audio, bytes) else audio
        form.add_field("audio", file, filename="recording", content_type="application/octet-stream")
        return await self._json(
            "POST", "classify", Classification.from_json, timeout_s=CLASSIFY_TIMEOUT_S, data=form
        )

    async def self_test(self, microphone_id: str) -> SelfTestResult:
        """Have the server test whether a microphone finds a sound that it mixes into a copy of the stream.

        Raises:
            InvalidRequestError: it cannot be tested now; ``detail`` says why.
        """
        return await self._json(
            "POST",
            f"microphones/{microphone_id}/self-test",
            SelfTestResult.from_json,
            timeout_s=SELF_TEST_TIMEOUT_S,
            json={},
        )

    async def clip(self, event_id: str, extension: Literal["mp3", "flac"]) -> bytes:
        """Return an event's recording.

        Raises:
            NotFoundError: there is none (yet).
        """
        return await self._request("GET", f"events/{event_id}/clip.{extension}")

    async def connect_websocket(self) -> aiohttp.ClientWebSocketResponse:
        """Open the WebSocket; the caller closes it."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._session.ws_connect(
                    self.url / "api" / "ws",
                    headers=self._headers,
                    heartbeat=HEARTBEAT_S,
                    timeout=_WEBSOCKET_TIMEOUT,
                    max_msg_size=MAX_MESSAGE_BYTES,
                )
        except aiohttp.WSServerHandshakeError as error:
            raise _refused(error.status) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ClapSoundConnectionError(_reason(error)) from error

    async def _json[T](self, method: str, path: str, parser: Callable[[Any], T], **arguments: Any) -> T:
        body = await self._request(method, path, **arguments)
        return parse(lambda raw: parser(_object(raw)), body)

    async def _request(
        self, method: str, path: str, *, timeout_s: float | None = None, **arguments: Any
    ) -> bytes:
        try:
            async with (
                asyncio.timeout(timeout_s or self._timeout_s),
                self._session.request(
                    method,
                    self.url.joinpath("api", *path.split("/")),
                    headers=self._headers,
                    allow_redirects=False,
                    **arguments,
                ) as response,
            ):
                body = await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ClapSoundConnectionError(_reason(error)) from error
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return body
        raise _refused(status, body)


def _reason(error: Exception) -> str:
    """Say in few words why there is no connection; aiohttp's own texts are for programmers."""
    match error:
        case TimeoutError():
            return "no answer in time"
        case aiohttp.ClientConnectorDNSError():
            return "no machine of this name is known"
        case aiohttp.ClientConnectorCertificateError():
            return "its certificate is not trusted"
        case aiohttp.ClientConnectorSSLError():
            return "it does not speak TLS"
        case aiohttp.ClientConnectorError() if error.os_error.errno:
            return os.strerror(error.os_error.errno).lower()
        case _:
            return str(error) or type(error).__name__


def _object(body: bytes) -> Mapping[str, Any]:
    data = json.loads(body)
    if not isinstance(data, Mapping):
        raise TypeError("not a JSON object")
    return data


def _refused(
    status: int, body: bytes = b""
) -> ClapSoundAuthenticationError | InvalidRequestError | ServerError | UnexpectedAnswerError:
    """Make the error for an HTTP status and, where the server sent them, its problem details."""
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return ClapSoundAuthenticationError("The server does not accept the token")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerError(f"The server failed (HTTP {status}); its log says why")
    try:
        problem = _object(body)
        code = str(problem["type"]).rsplit("/", 1)[-1]
        detail = _detail(problem)
    except (KeyError, TypeError, ValueError) as error:
        unexpected = UnexpectedAnswerError(f"HTTP {status}, which a CLAP Sound server does not answer here")
        unexpected.__cause__ = error
        return unexpected
    kind = NotFoundError if status == HTTPStatus.NOT_FOUND else InvalidRequestError
    return kind(status, code, detail)


def _detail(problem: Mapping[str, Any]) -> str:
    """Join the detail and what is said of single fields."""
    detail = str(problem["detail"])
    fields = [f"{item['field']}: {item['message']}" for item in problem.get("errors") or ()]
    return " ".join([detail, *(text for text in fields if text not in detail)])
