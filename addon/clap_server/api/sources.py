"""POST /api/sources/check: whether sound comes from a source, before it becomes a microphone."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from clap_server.api.context import context, json_response
from clap_server.api.problems import ProblemError, invalid, read_body
from clap_server.api.route import Route
from clap_server.api.schemas import SourceCheck, SourceHeard
from clap_server.audio.level import level_dbfs
from clap_server.audio.source import SourceError
from clap_server.audio.url import restore_url
from clap_server.errors import ConfigurationError
from clap_server.listening.config import PushSourceSettings, UrlSourceSettings
from clap_server.listening.sources import make_source

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aiohttp import web

    from clap_server.audio.block import AudioBlock
    from clap_server.audio.source import AudioSource

CHECK_S = 15.0


async def check_source(request: web.Request) -> web.Response:
    shared = context(request)
    wanted = (await read_body(request, SourceCheck)).source
    if isinstance(wanted, PushSourceSettings):
        raise invalid("source", "a client sends this sound; there is nothing to check", "not_checkable")
    if shared.source_checks.locked():
        raise ProblemError(
            503, "busy", "Other sources are being checked; try again", headers={"Retry-After": "5"}
        )
    async with shared.source_checks:
        try:
            if isinstance(wanted, UrlSourceSettings):
                # Refuses *** in the place of a secret: nothing is stored to put back.
                restore_url(wanted.url, None)
            source = make_source(wanted, shared.media_dir)
            block = await _first_block(source, shared.holder.model.sample_rate)
        except SourceError as error:
            raise invalid("source", error.reason, error.code) from error
        except ConfigurationError as error:
            raise invalid("source", str(error), "invalid_source") from error
    answer = SourceHeard(level_dbfs=level_dbfs(block.samples))
    return json_response(answer.model_dump_json())


async def _first_block(source: AudioSource, sample_rate: int) -> AudioBlock:
    """Connect, take the first sound and disconnect.

    Raises:
        SourceError: it cannot be opened, or no sound came.
    """
    # The protocol promises an iterator; every source of ours is a generator, which can be closed.
    blocks = cast("AsyncGenerator[AudioBlock, None]", source.blocks(sample_rate))
    async with aclosing(blocks):
        try:
            async with asyncio.timeout(CHECK_S):
                return await anext(blocks)
        except TimeoutError:
            raise SourceError("stalled", f"no audio came within {CHECK_S:g} s") from None
        except StopAsyncIteration:
            raise SourceError("ended", "it ended before any sound came") from None


ROUTES = (
    Route(
        "POST",
        "/api/sources/check",
        check_source,
        "Try a source",
        "Microphones",
        description=(
            "Connects, waits for the first sound and disconnects; nothing is kept. Where none comes the"
            " problem says why; the last part of its type is a code as in a microphone's status, such as"
            f" `no-audio-track` or `unauthorized`. Takes up to {CHECK_S:.0f} seconds."
        ),
        body=SourceCheck,
        answer=SourceHeard,
        errors=(400, 413, 422),
    ),
)
