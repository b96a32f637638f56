"""WS /api/ws: everything that happens, resumable (see ``schemas.py`` for the order of messages)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aiohttp import WSCloseCode, WSMsgType, web

from clap_server.api.context import SESSION, context
from clap_server.api.present import event_info, microphone_info, server_info
from clap_server.api.problems import ProblemError, parse
from clap_server.api.route import Route
from clap_server.api.schemas import EventMessage, MicrophonesMessage, ReplayedMessage, Subscribe
from clap_server.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clap_server.api.bus import Subscription
    from clap_server.api.context import Context
    from clap_server.api.schemas import MicrophoneInfo
    from clap_server.store.events import EventChange

_LOGGER = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
SUBSCRIBE_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 2.0
MAX_MESSAGE_BYTES = 64 * 1024
MAX_REASON_BYTES = 123
MAX_PART_BYTES = 1_000_000
_FAULTS: dict[int, str] = {
    WSCloseCode.MESSAGE_TOO_BIG: "a message was too large",
    WSCloseCode.PROTOCOL_ERROR: "the frames are not those of a WebSocket (RFC 6455)",
    WSCloseCode.INVALID_TEXT: "a text was not UTF-8",
}


class _CloseError(Exception):
    """Ends the conversation with a code and a reason."""

    def __init__(self, code: WSCloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Socket(web.WebSocketResponse):
    """A WebSocket that says why it closes also where a client breaks its rules.

    Args:
        max_bytes: of a message that is taken.
        advice: what to send instead of a longer one.

    Attributes:
        broken_because: the client's fault for which it was closed, in words; None if there was none.
    """

    def __init__(self, *, max_bytes: int, advice: str) -> None:
        # The first size that aiohttp refuses.
        super().__init__(heartbeat=HEARTBEAT_S, timeout=CLOSE_TIMEOUT_S, max_msg_size=max_bytes + 1)
        self._too_big = f"a message was larger than {max_bytes:,} bytes: {advice}"
        self.broken_because: str | None = None

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Close; what is closed without a reason for an error gets one."""
        if not message and code in _FAULTS:
            self.broken_because = self._too_big if code == WSCloseCode.MESSAGE_TOO_BIG else _FAULTS[code]
            message = self.broken_because.encode()
        return await super().close(code=code, message=message, drain=drain)


async def events_socket(request: web.Request) -> web.WebSocketResponse:
    socket = Socket(max_bytes=MAX_MESSAGE_BYTES, advice="a subscribe message is short")
    await shake_hands(socket, request)
    try:
        await _converse(context(request), socket)
    except _CloseError as end:
        await close(socket, end.code, end.reason)
    except ConnectionError:
        pass  # The client went; it resumes when it comes back.
    except StoreError as error:
        _LOGGER.error("A client cannot be told past events: %s", error)
        await close(socket, WSCloseCode.INTERNAL_ERROR, str(error))
    except Exception:
        _LOGGER.exception("Serving a WebSocket failed")
        await close(socket, WSCloseCode.INTERNAL_ERROR, "Internal error; the server's log tells more")
    return socket


async def _converse(shared: Context, socket: web.WebSocketResponse) -> None:
    await socket.send_str(server_info(shared).model_dump_json())
    wanted = await _subscribe_message(socket)
    subscription = shared.bus.subscribe(wanted.topics)
    # Before anything is awaited: what has a higher number reaches this subscription.
    published = shared.bus.last_sequence
    sender = asyncio.create_task(_send_all(shared, socket, subscription, wanted, published))
    reader = asyncio.create_task(_read_all(socket))
    try:
        done, _ = await asyncio.wait({sender, reader}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        shared.bus.unsubscribe(subscription)
        for task in (sender, reader):
            task.cancel()
        await asyncio.gather(sender, reader, return_exceptions=True)


async def _subscribe_message(socket: web.WebSocketResponse) -> Subscribe:
    try:
        message = await socket.receive(timeout=SUBSCRIBE_TIMEOUT_S)
    except TimeoutError:
        raise _CloseError(WSCloseCode.POLICY_VIOLATION, "Send a subscribe message first") from None
    if message.type is WSMsgType.TEXT:
        try:
            return parse(Subscribe, message.data)
        except ProblemError as problem:
            raise _CloseError(WSCloseCode.POLICY_VIOLATION, problem.detail) from None
    if message.type is WSMsgType.BINARY:
        raise _CloseError(WSCloseCode.UNSUPPORTED_DATA, "Send a subscribe message as JSON text")
    raise ConnectionResetError


async def _known(shared: Context, wanted: Subscribe) -> int | None:
    """The last number that the client has seen of the present numbering; 0 if it has seen another."""
    events = shared.store.events
    if wanted.after is None:
        return None
    other = wanted.epoch is not None and wanted.epoch != events.epoch
    if other or wanted.after > events.last_sequence:
        return 0
    if wanted.event_id is not None and not await events.may_be_of(wanted.after, wanted.event_id):
        # A backup was put back: numbers that this client saw were given again, to what it has not seen.
        return 0
    return wanted.after


async def _send_all(
    shared: Context,
    socket: web.WebSocketResponse,
    subscription: Subscription,
    wanted: Subscribe,
    published: int,
) -> None:
    after = await _known(shared, wanted)
    await _send_microphones(shared, socket)
    newest = published
    if after is not None:
        newest = await _replay(shared, socket, after)
    replayed = ReplayedMessage(last_sequence=newest, active=list(shared.store.events.active))
    await socket.send_str(replayed.model_dump_json())
    while (item := await subscription.next()) is not None:
        sequence, text = item
        if sequence is None or sequence > newest:
            await _send(socket, text)
    if subscription.overflowed:
        raise _CloseError(
            WSCloseCode.TRY_AGAIN_LATER, "Too slow; connect again and subscribe after the last sequence seen"
        )
    raise _CloseError(WSCloseCode.GOING_AWAY, "The server is stopping")


async def _send_microphones(shared: Context, socket: web.WebSocketResponse) -> None:
    """Send all microphones as they are now, in messages that any client takes."""
    part: list[MicrophoneInfo] = []
    size = 0
    for microphone in shared.store.microphones.all():
        info = microphone_info(shared, microphone)
        length = len(info.model_dump_json().encode())
        if part and size + length > MAX_PART_BYTES:
            await socket.send_str(MicrophonesMessage(microphones=part, more=True).model_dump_json())
            part, size = [], 0
        part.append(info)
        size += length
        # Many with long labels take their time, for which live sound must not wait. What changes meanwhile is
        # told to this subscription afterwards.
        await asyncio.sleep(0)
    await socket.send_str(MicrophonesMessage(microphones=part).model_dump_json())


async def _replay(shared: Context, socket: web.WebSocketResponse, after: int) -> int:
    """Send all changes after a number; returns the newest number that the client has then seen."""
    newest = after
    while changes := await shared.store.events.changes_after(newest):
        for text in await asyncio.to_thread(_texts, changes):
            await _send(socket, text)
        newest = changes[-1].sequence
    return newest


def _texts(changes: Sequence[EventChange]) -> list[str]:
    """The messages that tell of them."""
    return [
        EventMessage(
            sequence=entry.sequence, change=entry.change, event=event_info(entry.stored)
        ).model_dump_json()
        for entry in changes
    ]


async def _send(socket: web.WebSocketResponse, text: str) -> None:
    """Send one of many messages: as long as a client takes them, aiohttp alone never lets others work."""
    await socket.send_str(text)
    await asyncio.sleep(0)


async def _read_all(socket: web.WebSocketResponse) -> None:
    """Take the client's answers to pings and its close; more it has not to say."""
    async for message in socket:
        if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
            raise _CloseError(WSCloseCode.POLICY_VIOLATION, "One subscribe message is enough; connect again")


async def shake_hands(socket: web.WebSocketResponse, request: web.Request) -> None:
    """Accept a WebSocket.

    Raises:
        ProblemError: its headers are no text, over which aiohttp stumbles.
    """
    try:
        await socket.prepare(request)
    except ValueError:
        raise ProblemError(
            400, "bad_request", "The headers of the WebSocket's handshake are not understood"
        ) from None
    session = request.get(SESSION)
    if session is None:
        return
    shared = context(request)
    shared.page_sockets[socket] = session
    # It may have been signed out during the handshake.
    if not shared.authenticator.session_is_valid(session):
        await close_signed_out(shared, session)


async def close_signed_out(shared: Context, session: str) -> None:
    """End the WebSockets of a session that is over."""
    ended = [socket for socket, its_session in shared.page_sockets.items() if its_session == session]
    await asyncio.gather(
        *(close(socket, WSCloseCode.POLICY_VIOLATION, "Signed out; sign in again") for socket in ended)
    )


async def close(socket: web.WebSocketResponse, code: WSCloseCode, reason: str) -> None:
    """Say goodbye; cut the connection where the client does not listen."""
    message = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore").encode()
    try:
        await asyncio.wait_for(socket.close(code=code, message=message), CLOSE_TIMEOUT_S * 2)
    except (TimeoutError, ConnectionError):
        if (transport := socket.get_extra_info("transport")) is not None:
            transport.abort()


ROUTES = (
    Route(
        "GET",
        "/api/ws",
        events_socket,
        "Everything that happens, live",
        "Live",
        description=(
            "A WebSocket. The server greets with `ServerInfo`; the client sends one `Subscribe`; then come"
            " `MicrophonesMessage` (again while it says `more`), every `EventMessage` after `after`,"
            " `ReplayedMessage`, and what happens from then on: of the microphones only what changes."
            " Sequence numbers never repeat or go back, so a client that comes back with the last one that"
            " it saw misses nothing. A client that is too slow loses scores and levels first; before it"
            " would lose an event the connection is closed (1013) for it to resume. The server pings every"
            " 5 s."
        ),
        status=101,
        errors=(400, 403),
    ),
)
