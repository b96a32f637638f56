"""Giving memory back to the operating system."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Give back what is free.

    glibc keeps what lies below anything in use, so that after a hundred microphones that came and went it has
    hundreds of megabytes which nobody uses. Other C libraries have no such call.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
