"""Remembers what was found for a label on a bank, so that many microphones with the same labels share it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import numpy as np
    from numpy.typing import NDArray

    from clap_server.clap.everyday import EverydayBank
    from clap_server.detection.everyday.tail import Tail

# About a kilobyte each.
_MOST_TAILS = 2000


class KnownTails:
    """The tails of one bank; those that were asked for longest ago go first. Safe to use from any thread."""

    def __init__(self) -> None:
        self._tails: OrderedDict[Hashable, Tail | None] = OrderedDict()
        self._tags: NDArray[np.float32] | None = None
        self._lock = threading.Lock()

    def tag_embeddings(self, compute: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """``(tags, dimension)`` of the bank's tags, computed once."""
        if self._tags is None:
            self._tags = compute()
        return self._tags

    def get(self, keys: list[Hashable]) -> dict[Hashable, Tail | None]:
        """Those that are known; None where the bank says too little of the label."""
        with self._lock:
            found = {key: self._tails[key] for key in keys if key in self._tails}
            for key in found:
                self._tails.move_to_end(key)
            return found

    def put(self, tails: dict[Hashable, Tail | None]) -> None:
        """Remember more."""
        with self._lock:
            self._tails.update(tails)
            while len(self._tails) > _MOST_TAILS:
                self._tails.popitem(last=False)


_KNOWN: WeakKeyDictionary[EverydayBank, KnownTails] = WeakKeyDictionary()
_KNOWN_LOCK = threading.Lock()


def known_tails(bank: EverydayBank) -> KnownTails:
    """What is remembered of a bank for as long as anybody holds it."""
    with _KNOWN_LOCK:
        return _KNOWN.setdefault(bank, KnownTails())
