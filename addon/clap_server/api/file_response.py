"""Files as answers."""

from __future__ import annotations

import re
from operator import attrgetter
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.web_request import BaseRequest

# No file is so long that a position in it needs more digits; Python refuses to read thousands of them.
_RANGE = re.compile(r"bytes=(?P<first>\d{0,18})-(?P<last>\d{0,18})", re.ASCII)


_RANGE_OF_NOTHING = re.compile("bytes=-0+")
_DATES = {
    hdrs.IF_MODIFIED_SINCE: attrgetter("if_modified_since"),
    hdrs.IF_UNMODIFIED_SINCE: attrgetter("if_unmodified_since"),
    hdrs.IF_RANGE: attrgetter("if_range"),
}
_BEYOND_ANY_END = f"bytes={'9' * 18}-"


class File(web.FileResponse):
    """A file, or the part of it that is asked for.

    What is no range of bytes, and what is no date, is ignored, as RFC 9110, sections 14.2 and 13.1, wants it;
    aiohttp answers 416 to the one and fails over some of the other.
    """

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        kept = request.headers.copy()
        wanted = kept.get(hdrs.RANGE)
        if wanted is not None and not _is_range(wanted):
            del kept[hdrs.RANGE]
        elif wanted is not None and _RANGE_OF_NOTHING.fullmatch(wanted):
            # There is no such part; aiohttp answers the whole.
            kept[hdrs.RANGE] = _BEYOND_ANY_END
        for name, read in _DATES.items():
            try:
                read(request)
            except (OverflowError, ValueError):
                del kept[name]
        if kept != request.headers:
            request = request.clone(headers=kept)
        return await super().prepare(request)


def _is_range(text: str) -> bool:
    match = _RANGE.fullmatch(text)
    if match is None or not (match["first"] or match["last"]):
        return False
    return not (match["first"] and match["last"]) or int(match["first"]) <= int(match["last"])
