"""What is counted of one server, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class Metrics:
    """Counters of one server, in a registry of its own.

    Attributes:
        registry: what is served.
        events: how many started, by microphone id and label id.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._clips = Counter("clap_clips", "Clips stored or failed", ("result",), registry=self.registry)
        self._uploads = Counter("clap_classifications", "Uploaded files classified", registry=self.registry)
        for result in ("stored", "failed"):
            self._clips.labels(result)
        self.events: dict[tuple[str, str], int] = {}

    def event_started(self, microphone_id: str, label_id: str) -> None:
        """Count an event."""
        key = microphone_id, label_id
        self.events[key] = self.events.get(key, 0) + 1

    def forget(self, microphone_id: str) -> None:
        """End the series of a microphone that was removed."""
        for key in [key for key in self.events if key[0] == microphone_id]:
            del self.events[key]

    def clip(self, *, stored: bool) -> None:
        """Count a clip that was stored, or could not be."""
        self._clips.labels("stored" if stored else "failed").inc()

    def file_classified(self) -> None:
        """Count an upload."""
        self._uploads.inc()
