"""GET /metrics: what is counted, and how everything is at the moment of the request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from clap_server import __version__
from clap_server.api.context import context
from clap_server.api.route import Route
from clap_server.audio.source import SourceState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from clap_server.api.context import Context

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def watch(shared: Context) -> None:
    """Report the microphones, the model and the WebSocket clients beside what is counted."""
    shared.metrics.registry.register(_Live(shared))


class _Live(Collector):
    """Reads the figures that others keep, at the moment of the request."""

    def __init__(self, shared: Context) -> None:
        self._context = shared

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._microphones()
        holder = self._context.holder
        info = InfoMetricFamily("clap_model", "The model in use")
        info.add_metric(
            (),
            {
                "name": holder.model.name,
                "device": holder.model.device,
                "dtype": holder.model.dtype,
                "version": __version__,
            },
        )
        yield info
        yield GaugeMetricFamily(
            "clap_model_problem",
            "1 if the wanted model is not the one that runs",
            value=holder.problem is not None,
        )
        yield from self._batches()
        yield GaugeMetricFamily(
            "clap_websocket_clients", "Subscribed clients", value=self._context.bus.clients
        )
        yield GaugeMetricFamily(
            "clap_storage_problem",
            "1 if events or clips cannot be stored",
            value=self._context.store.trouble is not None,
        )
        yield GaugeMetricFamily(
            "clap_events_unwritten",
            "Event changes that wait for the disk",
            value=self._context.store.events.unwritten,
        )

    def _batches(self) -> Iterator[Metric]:
        batcher = self._context.supervisor.batcher
        figures = batcher.metrics
        yield CounterMetricFamily("clap_batches", "Batches that the model computed", value=figures.batches)
        yield CounterMetricFamily("clap_batch_windows", "Windows in them", value=figures.windows)
        yield CounterMetricFamily(
            "clap_batch_failures", "Windows for which the model failed", value=figures.failed
        )
        yield CounterMetricFamily("clap_batch_seconds", "Seconds that the model worked", value=figures.busy_s)
        yield GaugeMetricFamily(
            "clap_last_batch_seconds", "Seconds that the newest batch took", value=figures.last_batch_s
        )
        yield GaugeMetricFamily(
            "clap_window_stride",
            "Of so many windows of a microphone one is looked at: 1, or 2 while there are too many",
            value=batcher.pace.every,
        )
        yield GaugeMetricFamily("clap_queue_windows", "Windows that wait now", value=batcher.queue_length)

    def _microphones(self) -> Iterator[Metric]:
        windows = CounterMetricFamily(
            "clap_windows",
            "Windows scored, skipped as quiet, dropped under load",
            labels=("microphone", "result"),
        )
        state = GaugeMetricFamily(
            "clap_microphone_state", "1 for the state it is in", labels=("microphone", "state")
        )
        events = CounterMetricFamily(
            "clap_events", "Sound events that started", labels=("microphone", "label")
        )
        microphones = self._context.store.microphones.all()
        for key, count in self._context.metrics.events.items():
            events.add_metric(key, count)
        for microphone in microphones:
            snapshot = self._context.supervisor.snapshot(microphone.id)
            windows.add_metric((microphone.id, "scored"), snapshot.windows_scored)
            windows.add_metric((microphone.id, "gated"), snapshot.windows_gated)
            windows.add_metric((microphone.id, "dropped"), snapshot.windows_dropped)
            for possible in SourceState:
                state.add_metric((microphone.id, possible.value), float(snapshot.status.state is possible))
        yield events
        yield windows
        yield state


async def metrics(request: web.Request) -> web.Response:
    text = generate_latest(context(request).metrics.registry)
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})


ROUTES = (
    Route("GET", "/metrics", metrics, "Figures for Prometheus", "Server", answer="text/plain", trusted=True),
)
