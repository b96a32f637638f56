from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.running_server import Client, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a running server without microphones."""
    async with running(tmp_path / "data") as client:
        yield client
