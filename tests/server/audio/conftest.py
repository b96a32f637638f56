from __future__ import annotations

import pytest

from clap_server.audio import threaded
from tests.server.audio.helpers import HurriedClock


@pytest.fixture
def hurried_clock(monkeypatch: pytest.MonkeyPatch) -> HurriedClock:
    """The clock of sources that run in threads."""
    clock = HurriedClock()
    monkeypatch.setattr(threaded, "time", clock)
    monkeypatch.setattr(threaded.Feed, "wait", clock.wait)
    return clock
