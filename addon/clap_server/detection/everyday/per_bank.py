"""Remembers what is costly to find out on a bank of everyday sound, so that many microphones share it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

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
        found = self.known(bank, [key])
        if key not in found:
            found[key] = make()
            self.remember(bank, found)
        return found[key]

    def known(self, bank: EverydayBank, keys: Iterable[Hashable]) -> dict[Hashable, _Found]:
        """Of these keys, what is known."""
        with self._lock:
            known = self._known.setdefault(bank, OrderedDict())
            found = {key: known[key] for key in keys if key in known}
            for key in found:
                known.move_to_end(key)
            return found

    def remember(self, bank: EverydayBank, found: Mapping[Hashable, _Found]) -> None:
        """Add what was found out."""
        with self._lock:
            known = self._known.setdefault(bank, OrderedDict())
            known.update(found)
            while len(known) > self._most:
                known.popitem(last=False)
