"""Reads multipart forms part by part, without letting a sender use up memory or time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from aiohttp import BodyPartReader, MultipartReader
from aiohttp.http_exceptions import BadHttpMessage

from clap_server.api.problems import ProblemError, invalid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aiohttp import StreamReader, web

MAX_FIELD_BYTES = 1_000_000
# Of what stands around the fields, the headers of their parts among it.
MAX_LINES_BYTES = 16_384


@contextmanager
def receiving(request: web.Request, fields: str) -> Iterator[None]:
    """Put what is wrong with a form, while it is read, into words.

    Args:
        request: with the form.
        fields: that it should have, for those who send something else.

    Raises:
        ProblemError: it is no form, or a damaged one.
    """
    if request.content_type != "multipart/form-data":
        raise ProblemError(415, "not_multipart", f"Send multipart/form-data with {fields}")
    try:
        yield
    except (ValueError, AssertionError, RuntimeError, BadHttpMessage) as error:
        raise ProblemError(
            400,
            "invalid_multipart",
            "The form is damaged or incomplete; send it again as multipart/form-data",
        ) from error


async def parts_of(request: web.Request) -> AsyncIterator[BodyPartReader]:
    """The parts of a form as they arrive; each must be read before the next is asked for.

    Raises:
        ProblemError: one of them is a form itself.
    """
    async for part in MultipartReader(request.headers, cast("StreamReader", _BoundedLines(request.content))):
        if not isinstance(part, BodyPartReader):
            raise invalid("body", "must not hold a form within the form")
        yield part


async def read_text(part: BodyPartReader) -> str:
    """Read a field of text.

    Raises:
        ProblemError: it is too long, or no text.
    """
    data = bytearray()
    while chunk := await part.read_chunk(1 << 16):
        data += chunk
        if len(data) > MAX_FIELD_BYTES:
            raise ProblemError(413, "field_too_large", f"The field '{part.name}' is far too long; shorten it")
    try:
        return data.decode().strip()
    except UnicodeDecodeError:
        raise invalid(part.name or "", "must be text in UTF-8") from None


class _BoundedLines:
    """A body of whose lines few are read, as a form may begin with lines that mean nothing.

    Lines that are there already are read without a pause, for which live sound would wait.
    """

    def __init__(self, body: StreamReader) -> None:
        self._body = body
        self._left = MAX_LINES_BYTES

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    async def readline(self, **options: Any) -> bytes:
        line = await self._body.readline(**options)
        self._left -= len(line)
        if self._left < 0:
            raise ValueError("too much around the fields")
        return line
