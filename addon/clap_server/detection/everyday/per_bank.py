"""Remembers what is costly to find out on a bank of everyday sound, so that many microphones share it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from clap_server.clap.everyday import EverydayBank

_Found = TypeVar("_Found")


class PerBank(Generic[_Found]):
    """What was found out on banks, for as long as anybody holds them. Safe to use from any thread.

    Args:
        most: remembered of one bank; what was asked for longest ago goes first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: WeakKeyDictionary[EverydayBank, OrderedDict[Hashable, _Found]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def get(self, bank: EverydayBank, key: Hashable, make: Callable[[], _Found]) -> _Found:
        """What is known under a key, or what ``make`` finds out; two threads may do so at once."""
        with self._lock:
            known = self._known.setdefault(bank, OrderedDict())
            if key in known:
                known.move_to_end(key)
                return known[key]
        found = make()
        with self._lock:
            known[key] = found
            while len(known) > self._most:
                known.popitem(last=False)
        return found
