"""A running server learns what everyday sound is in a room, and what it learns survives a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from clap_server.audio.push import PushFormat
from clap_server.detection.everyday.preparing import model_key
from tests.server.listening.spectral import GLASS_BANDS, RATE, SpectralModel, crash, scene
from tests.support.running_server import running
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.support.running_server import Client

DURATION_S = 80
# Low, as the model knows no everyday sound.
HALL: dict[str, Any] = {
    "name": "Hall",
    "source": {"type": "push"},
    "labels": [{"label": "glass breaking", "threshold": 0.3}],
}


def hum(duration_s: float) -> NDArray[np.float32]:
    """A household appliance."""
    time_s = np.arange(round(duration_s * RATE)) / RATE
    return (0.05 * np.sin(2 * np.pi * 700 * time_s)).astype(np.float32)


async def push(client: Client, samples: NDArray[np.float32]) -> None:
    supervisor = client.server.context.supervisor
    source = supervisor.push_source("hall")
    pusher = source.connect(PushFormat("f32le", RATE))
    for start in range(0, len(samples), RATE // 2):
        pusher.feed(samples[start : start + RATE // 2].tobytes())
        await until(lambda: not source._queue)


async def test_everyday_sound_is_kept_and_events_are_not(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as client:
        await client.json("PUT", "/api/microphones/hall", status=201, json=HALL)
        supervisor = client.server.context.supervisor
        await push(client, scene(DURATION_S, (20, hum(6)), (34, crash()), (48, hum(4))))

        def judged() -> bool:
            snapshot = supervisor.snapshot("hall")
            return snapshot.windows_scored + snapshot.windows_gated >= 2 * DURATION_S

        await until(judged)
        events = (await client.json("GET", "/api/events"))["events"]
        assert "glass_breaking" in {event["label_id"] for event in events}
        # Switched off, it is not forgotten.
        await client.json("PATCH", "/api/microphones/hall", json={"enabled": False})
    async with running(tmp_path / "data") as client:
        rooms = client.server.context.store.rooms
        model = SpectralModel()
        found = await rooms.pieces("hall", f"{model_key(model)} 0.5 s", model.dimension)
        embeddings = np.concatenate([piece.embeddings() for piece in found.pieces])
        glass = np.zeros(model.dimension)
        glass[GLASS_BANDS] = 1 / np.sqrt(GLASS_BANDS.stop - GLASS_BANDS.start)
        assert (embeddings @ glass).max() < 0.5
        assert len(embeddings) >= 8, "the appliance was heard"
        [day] = (await rooms.days("hall")).values()
        assert day.heard_s == pytest.approx(DURATION_S, abs=2)
        assert 4 <= day.sounding_s <= 40
