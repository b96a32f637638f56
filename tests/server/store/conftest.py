from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clap_server.store.folder import DataFolder
from clap_server.store.retention import RetentionPolicy
from clap_server.store.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

POLICY = RetentionPolicy(clip_days=30, clip_bytes=5_000_000_000, event_days=365)


@pytest.fixture
async def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    """An open store in a fresh folder, which nothing sweeps but the tests."""
    store = Store(DataFolder(tmp_path / "data"), POLICY)
    started: list[str] = []
    monkeypatch.setattr(store.retention, "start", lambda: started.append("retention"))
    await store.open()
    assert started == ["retention"]
    yield store
    await store.close()
