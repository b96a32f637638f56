"""Keeps Python's search for garbage from holding up the event loop.

All threads stand still while it looks through all objects, which takes a third of a second with the hundreds
of thousands that the libraries make when they are imported. Those live as long as the process; put aside,
they are not looked at again.
"""

from __future__ import annotations

import gc


def put_aside() -> None:
    """Leave alone, from here on, what lives now."""
    gc.freeze()


def put_aside_anew() -> None:
    """Look through everything once more, what was put aside included; for when much of that may be over."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def take_back() -> None:
    """Look at everything again."""
    gc.unfreeze()
