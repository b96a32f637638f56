"""Events and microphones for tests of the store and the API."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from clap_server.listening.config import Microphone, MicrophoneSettings
from clap_server.listening.events import SoundEvent
from clap_server.listening.sink import Recording

START = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def sound_event(**changes: Any) -> SoundEvent:
    """A glass that breaks in the kitchen, unless told otherwise."""
    facts: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "microphone_id": "kitchen",
        "label_id": "glass_breaking",
        "label_name": "Glass breaking",
        "started_at": START,
        "detected_at": START + timedelta(seconds=0.4),
        "ended_at": None,
        "threshold": 0.5,
        "score": 0.8,
        "peak_score": 0.9,
        "peak_level_dbfs": -12.5,
    }
    return SoundEvent(**(facts | changes))


def microphone(microphone_id: str = "kitchen", **changes: Any) -> Microphone:
    """A microphone to which sound is pushed, unless told otherwise."""
    settings: dict[str, Any] = {
        "name": "Kitchen",
        "source": {"type": "push"},
        "labels": [{"label": "glass_breaking"}],
    }
    return Microphone(id=microphone_id, settings=MicrophoneSettings.model_validate(settings | changes))


def tone(duration_s: float = 1.0, frequency_hz: float = 440.0, sample_rate: int = 16000) -> Recording:
    """A recording of a tone."""
    time_s = np.arange(round(duration_s * sample_rate)) / sample_rate
    samples = (0.5 * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.float32)
    return Recording(samples=samples, sample_rate=sample_rate, starts_at=START - timedelta(seconds=0.3))
