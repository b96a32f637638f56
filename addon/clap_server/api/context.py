"""What the handlers of one application share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakValueDictionary

from aiohttp import web

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network
    from pathlib import Path

    from clap_server.api.authenticator import Authenticator
    from clap_server.api.bus import EventBus
    from clap_server.api.metrics import Metrics
    from clap_server.api.taught import TaughtSounds
    from clap_server.clap.holder import ModelHolder
    from clap_server.detection.library import LabelLibrary
    from clap_server.listening.config import Microphone
    from clap_server.listening.supervisor import Supervisor
    from clap_server.store.store import Store

INGRESS_PEERS = frozenset({"172.30.32.2"})
"""From where Home Assistant's Supervisor forwards ingress (developers.home-assistant.io, "Presentation")."""

CLASSIFY_SLOTS = 2


@dataclass
class Context:
    """Parts of a running server.

    Attributes:
        store: microphones, events, clips.
        holder: the model.
        library: the labels.
        supervisor: the microphones at work.
        taught: the sounds that the user taught.
        bus: tells WebSocket clients.
        authenticator: who may do what.
        metrics: counters for Prometheus.
        ready: False while the server starts; then only /health and the page are answered.
        ingress_port: local port that trusts ``ingress_peers``; None if there is none.
        ingress_peers: addresses that may use the ingress port.
        microphones_coming: those that are being stored, by their ids; they count as there already.
        pushers: the client that sends each pushed microphone's sound.
        page_sockets: WebSockets of pages that signed in, with the cookie of their session.
        classify_slots: limits how many uploads are decoded and scored, or learnt from, at once.
        trusted_networks: whose scripts need no token for some routes.
        media_dir: where recordings may be played from; None if nowhere.
        self_tests: limits how many microphones are tested at once.
        source_checks: limits how many sources are tried at once.
        judging: locks, by the id of an event, for keeping a verdict or taking it back, with all that follows.
    """

    store: Store
    holder: ModelHolder
    library: LabelLibrary
    supervisor: Supervisor
    taught: TaughtSounds
    bus: EventBus
    authenticator: Authenticator
    metrics: Metrics
    ready: bool = False
    ingress_port: int | None = None
    ingress_peers: frozenset[str] = INGRESS_PEERS
    microphones_coming: dict[str, Microphone] = field(default_factory=dict)
    pushers: dict[str, web.WebSocketResponse] = field(default_factory=dict)
    page_sockets: WeakKeyDictionary[web.WebSocketResponse, str] = field(default_factory=WeakKeyDictionary)
    classify_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CLASSIFY_SLOTS))
    trusted_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    media_dir: Path | None = None
    source_checks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))
    self_tests: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))
    # A lock is there as long as somebody has or wants it.
    judging: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)


CONTEXT = web.AppKey("context", Context)
SESSION = web.RequestKey("session", str)
"""The cookie by which a request was let in, if it was by one."""


def context(request: web.Request) -> Context:
    """The context of the application that got the request."""
    return request.app[CONTEXT]


def has_left(request: web.Request) -> bool:
    """Whether the client closed the connection, so that there is nobody to answer."""
    return request.transport is None or request.transport.is_closing()


def json_response(text: str, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """An answer of JSON text that is already made."""
    return web.Response(text=text, status=status, headers=headers, content_type="application/json")
