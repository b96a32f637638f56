"""WS /api/microphones/{id}/audio: sound that a client sends."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp import WSCloseCode, WSMsgType, web

from clap_server.api.context import context
from clap_server.api.problems import ProblemError, not_found, parse
from clap_server.api.route import Route
from clap_server.api.schemas import AudioFormat
from clap_server.api.websocket import SUBSCRIBE_TIMEOUT_S, Socket, close, shake_hands
from clap_server.audio.push import PushFormat
from clap_server.errors import ClapServerError
from clap_server.listening.config import PushSourceSettings

if TYPE_CHECKING:
    from clap_server.api.context import Context
    from clap_server.audio.push import Pusher, PushSource

_LOGGER = logging.getLogger(__name__)
MAX_MESSAGE_BYTES = 4_000_000
_ADVICE = "send 20 to 100 ms of sound in each"


async def audio_socket(request: web.Request) -> web.WebSocketResponse:
    """Take sound from one client; a second one for the same microphone takes over."""
    shared = context(request)
    microphone_id = request.match_info["id"]
    _require_push(shared, microphone_id)
    socket = Socket(max_bytes=MAX_MESSAGE_BYTES, advice=_ADVICE)
    await shake_hands(socket, request)
    before = shared.pushers.get(microphone_id)
    shared.pushers[microphone_id] = socket
    if before is not None:
        await close(before, WSCloseCode.POLICY_VIOLATION, "Another client took over")
    try:
        await _receive(shared, microphone_id, socket)
    except ProblemError as problem:
        await close(socket, WSCloseCode.POLICY_VIOLATION, problem.detail)
    except ClapServerError as error:
        await close(socket, WSCloseCode.POLICY_VIOLATION, str(error))
    except ConnectionError:
        pass  # The client went; the microphone says so by itself.
    except Exception:
        _LOGGER.exception("Receiving sound failed")
        await close(socket, WSCloseCode.INTERNAL_ERROR, "Internal error; the server's log tells more")
    finally:
        if shared.pushers.get(microphone_id) is socket:
            del shared.pushers[microphone_id]
    return socket


def _require_push(shared: Context, microphone_id: str) -> None:
    microphone = shared.store.microphones.get(microphone_id)
    if microphone is None:
        raise not_found(
            "There is no microphone of this id; GET /api/microphones lists them", "no_such_microphone"
        )
    if not isinstance(microphone.settings.source, PushSourceSettings):
        raise ProblemError(
            409,
            "not_a_push_microphone",
            "This microphone gets its sound elsewhere; set its source's type to 'push'",
        )
    if shared.store.microphones.is_muted(microphone_id):
        raise ProblemError(
            409, "microphone_muted", "This microphone is muted and takes no sound; unmute it first"
        )
    if not microphone.settings.enabled:
        raise ProblemError(409, "microphone_disabled", "This microphone is switched off; enable it first")


async def _receive(shared: Context, microphone_id: str, socket: Socket) -> None:
    try:
        first = await socket.receive(timeout=SUBSCRIBE_TIMEOUT_S)
    except TimeoutError:
        await close(socket, WSCloseCode.POLICY_VIOLATION, "Send the format first, as JSON text")
        return
    if first.type is WSMsgType.BINARY:
        await close(socket, WSCloseCode.UNSUPPORTED_DATA, "Send the format first, as JSON text")
        return
    if first.type is not WSMsgType.TEXT:
        return
    declared = parse(AudioFormat, first.data)
    fmt = PushFormat(declared.format, declared.sample_rate, declared.channels)
    source, pusher = _begin(shared, microphone_id, fmt)
    try:
        async for message in socket:
            if message.type is WSMsgType.ERROR:
                # The socket has said so to the client already.
                pusher.close(socket.broken_because)
                return
            if message.type is not WSMsgType.BINARY:
                pusher.close("it sent text where sound is due")
                await close(
                    socket, WSCloseCode.UNSUPPORTED_DATA, "After the format, send PCM as binary messages"
                )
                return
            # The microphone may have been changed or removed meanwhile.
            _require_push(shared, microphone_id)
            if shared.supervisor.push_source(microphone_id) is not source:
                source, pusher = _begin(shared, microphone_id, fmt)
            pusher.feed(message.data)
    finally:
        pusher.close()


def _begin(shared: Context, microphone_id: str, fmt: PushFormat) -> tuple[PushSource, Pusher]:
    """Take the turn, from whoever has it."""
    source = shared.supervisor.push_source(microphone_id)
    source.disconnect()
    return source, source.connect(fmt)


ROUTES = (
    Route(
        "GET",
        "/api/microphones/{id}/audio",
        audio_socket,
        "Send sound",
        "Live",
        description=(
            "A WebSocket for a microphone whose source is `push`. The first message is JSON"
            " text, `AudioFormat`;"
            " then interleaved little-endian PCM as binary messages of whole samples, best 20 to 100 ms each."
            f" A message of more than {MAX_MESSAGE_BYTES // 1_000_000} MB closes the connection (1009), and"
            " the microphone's status says why. A second client takes over from the first."
        ),
        status=101,
        errors=(400, 403, 404, 409),
    ),
)
