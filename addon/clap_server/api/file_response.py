"""Files as answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.web_request import BaseRequest

# No file is so long that a position in it needs more digits; Python refuses to read thousands of them.
_RANGE = re.compile(r"bytes=(?P<first>\d{0,18})-(?P<last>\d{0,18})", re.ASCII)


class File(web.FileResponse):
    """A file, or the part of it that is asked for.

    What is no range of bytes is ignored, as RFC 9110, section 14.2, wants it; aiohttp answers 416.
    """

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        wanted = request.headers.get(hdrs.RANGE)
        if wanted is not None and not _is_range(wanted):
            kept = [(name, value) for name, value in request.headers.items() if name != hdrs.RANGE]
            request = request.clone(headers=kept)
        return await super().prepare(request)


def _is_range(text: str) -> bool:
    match = _RANGE.fullmatch(text)
    if match is None or not (match["first"] or match["last"]):
        return False
    return not (match["first"] and match["last"]) or int(match["first"]) <= int(match["last"])
