"""What keeps the data folder from being written, in words and as a code."""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from clap_server.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from clap_server.errors import StorageCode

_LOGGER = logging.getLogger(__name__)

Part = Literal["events", "clips"]

_EFFECT: dict[Part, str] = {
    "events": "Events still go out live, but they and settings cannot be stored",
    "clips": "Recordings of events cannot be stored",
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something cannot be stored.

    Attributes:
        code: stable name of it.
        problem: what it means and what to do, in words.
    """

    code: StorageCode
    problem: str


class Troubles:
    """What cannot be stored at present; logs it once when it begins and when it is over.

    Args:
        changed: is called whenever ``current`` changed.
    """

    def __init__(self, changed: Callable[[], None] | None = None) -> None:
        self._changed = changed
        self._found: dict[Part, Trouble] = {}

    @property
    def current(self) -> Trouble | None:
        """The worst one, or None while all is stored."""
        return self._found.get("events") or self._found.get("clips")

    def found(self, part: Part, error: StoreError) -> None:
        """Note that something could not be stored."""
        before = self._found.get(part)
        if before is None or before.code != error.code:
            trouble = self._found[part] = Trouble(error.code, f"{_EFFECT[part]}: {error}")
            _LOGGER.error("%s", trouble.problem)
            self._tell()

    def over(self, part: Part) -> None:
        """Note that it can be stored again."""
        if self._found.pop(part, None) is not None:
            _LOGGER.warning("%s can be stored again", part.capitalize())
            self._tell()

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed()


def explain(error: OSError, path: Path, code: StorageCode) -> StoreError:
    """Say in words what is wrong and what to do.

    Args:
        error: what the system said.
        path: what could not be written.
        code: of the trouble if the system's error has none of its own.
    """
    match error.errno:
        case errno.ENOSPC:
            return StoreError(f"The disk of {path} is full; free some space", "disk_full")
        case errno.EDQUOT:
            return StoreError(
                f"The disk quota for {path} is used up; free some space or raise the quota", "disk_full"
            )
        case errno.EROFS:
            return StoreError(
                f"{path} is on a read-only file system; mount it writable"
                " (a disk that fails is often made read-only: check it)",
                "read_only",
            )
        case errno.EACCES | errno.EPERM:
            return StoreError(
                f"Permission denied for {path}; give the user that runs clap-server the right to write there",
                "permission_denied",
            )
        case errno.EIO:
            return StoreError(f"The disk of {path} fails (input/output error); check or replace it", code)
        case _:
            return StoreError(f"{path} cannot be written ({error}); check the data folder and its disk", code)
