"""A whole server: made from settings, started, stopped."""

from __future__ import annotations

import asyncio
import errno
import logging
import shlex
from typing import TYPE_CHECKING

from aiohttp import WSCloseCode, web

from clap_server.api import figures, garbage
from clap_server.api.app import AccessLogger, build_app
from clap_server.api.authenticator import Authenticator
from clap_server.api.bus import EventBus
from clap_server.api.connections import Runner
from clap_server.api.context import CLASSIFY_SLOTS, INGRESS_PEERS, Context
from clap_server.api.metrics import Metrics
from clap_server.api.present import server_info
from clap_server.api.sink import EventSink
from clap_server.api.taught import TaughtSounds
from clap_server.api.websocket import close
from clap_server.clap.engines.kinds import check_name
from clap_server.clap.holder import ModelHolder
from clap_server.detection.everyday.preparing import preparer
from clap_server.detection.examples import made_for
from clap_server.detection.library import read_library
from clap_server.errors import ConfigurationError
from clap_server.listening.supervisor import Supervisor
from clap_server.settings import GIGABYTE
from clap_server.store.folder import DataFolder
from clap_server.store.retention import RetentionPolicy
from clap_server.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from clap_server.settings import ServerSettings

_LOGGER = logging.getLogger(__name__)

STOP_STEP_S = 5.0
GARBAGE_AFTER_S = 60.0
# Longer than the supervisor waits for a microphone, and that is longer than a clip may take: so the last
# events are told before the sockets and the database are closed.
STOP_MICROPHONES_S = 20.0


class PortInUseError(ConfigurationError):
    """Another program listens on the wanted port."""


class Server:
    """Everything that `clap-server serve` runs.

    Args:
        settings: what was asked for.
        ingress_peers: addresses that may use the ingress port; other than the Supervisor's only in tests.
        holder: has the model; made from the settings if left out.

    Attributes:
        port: where it listens; known after ``start``.
        ingress_port: where the ingress listens; None if it does not.
        token: the access token; known after ``start``.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        ingress_peers: frozenset[str] = INGRESS_PEERS,
        holder: ModelHolder | None = None,
    ) -> None:
        self._settings = settings
        self._holder = holder
        self._ingress_peers = ingress_peers
        self._context: Context | None = None
        self._runner: web.AppRunner | None = None
        self._unsubscribe: Callable[[], None] = _nothing
        self._garbage_timer: asyncio.TimerHandle | None = None
        self.port = settings.port
        self.ingress_port = settings.ingress_port
        self.token = ""

    @property
    def context(self) -> Context:
        """The parts, while it runs."""
        if self._context is None:
            raise ConfigurationError("The server is not started")
        return self._context

    async def start(self) -> None:
        """Start everything; /health is answered at once, the rest when the model is there.

        Raises:
            PortInUseError: the port is taken.
            ClapServerError: the data folder or the model cannot be used.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        settings = self._settings
        check_name(settings.engine)
        folder = DataFolder(settings.data)
        policy = RetentionPolicy(
            clip_days=settings.clip_retention_days,
            clip_bytes=round(settings.clip_max_gb * GIGABYTE),
            event_days=settings.event_retention_days,
            max_clips=settings.clip_max_count,
        )
        # Told at once: the start may yet fail, and it would not be told again.
        self.token, token_is_new = folder.token(settings.token)
        if token_is_new:
            _LOGGER.info(
                "Access token, shown only this once (`clap-server token --data %s` prints it again): %s",
                shlex.quote(str(settings.data)),
                self.token,
            )
        store = Store(folder, policy, self._info_changed)
        bus = EventBus()
        metrics = Metrics()
        library = read_library()
        holder = self._holder or ModelHolder(
            settings.model,
            device=settings.device,
            engine=settings.engine,
            cache_dir=folder.models,
            prepare=preparer(folder.models),
        )
        sink = EventSink(store, bus, metrics, self._learnt)
        supervisor = Supervisor(
            holder,
            library,
            sink,
            media_dir=settings.media,
            on_overload=self._overload_changed,
            on_microphones=self._microphones_changed,
            rooms=store.rooms,
            wrong=store.lessons.wrong,
            right=store.lessons.right,
        )
        slots = asyncio.Semaphore(CLASSIFY_SLOTS)
        shared = Context(
            store=store,
            holder=holder,
            library=library,
            supervisor=supervisor,
            taught=TaughtSounds(store.sounds, store.lessons, library, holder, supervisor, slots),
            classify_slots=slots,
            bus=bus,
            authenticator=Authenticator(
                self.token, folder.server_id(), folder.signed_out, remember=folder.remember_signed_out
            ),
            metrics=metrics,
            trusted_networks=settings.trusted_networks,
            media_dir=settings.media,
            ingress_peers=self._ingress_peers,
        )
        self._context = shared
        # First of all the port: a second start on the same folder then hears of that, not of the database.
        await self._listen(shared)
        await store.open()
        bus.last_sequence = store.events.last_sequence
        figures.watch(shared)
        _LOGGER.info("Data in %s", settings.data)
        microphones = [microphone.settings for microphone in store.microphones.all()]
        holder.microphones_are([settings.hop_s for settings in microphones if settings.enabled])
        await holder.start()
        self._fit_store()
        # Before anybody else hears of another model, and uses what is kept with it.
        self._unsubscribe = holder.subscribe(self._model_changed)
        await shared.supervisor.start()
        shared.taught.start()
        for microphone in store.microphones.all():
            stored = store.microphones
            await shared.supervisor.restore(
                microphone, stored.unreadable(microphone.id), muted=stored.is_muted(microphone.id)
            )
        garbage.put_aside()
        shared.ready = True
        self._microphones_changed()
        _LOGGER.info("Ready, with %d microphones", len(store.microphones.all()))

    async def _listen(self, shared: Context) -> None:
        runner = Runner(
            build_app(shared),
            access_log_class=AccessLogger,
            access_log=logging.getLogger("clap_server.access"),
            # Bodies that are packed are refused: a few bytes could unpack to anything.
            auto_decompress=False,
            shutdown_timeout=STOP_STEP_S,
        )
        self._runner = runner
        await runner.setup()
        settings = self._settings
        self.port = await _bind(runner, settings.host, settings.port)
        _LOGGER.info("Listening on http://%s:%d", _readable(settings.host), self.port)
        if settings.ingress_port is not None:
            self.ingress_port = await _bind(runner, settings.host, settings.ingress_port)
            shared.ingress_port = self.ingress_port
            _LOGGER.info("Ingress on port %d", self.ingress_port)

    def _model_changed(self) -> None:
        self._fit_store()
        self.context.supervisor.follow_model()
        self._info_changed()
        # It brought libraries of its own, and by then nobody uses the one before any more.
        if self._garbage_timer is not None:
            self._garbage_timer.cancel()
        self._garbage_timer = asyncio.get_running_loop().call_later(GARBAGE_AFTER_S, garbage.put_aside_anew)

    def _microphones_changed(self) -> None:
        shared = self.context
        # While the server starts they come one by one, and the model knows of all of them already.
        if shared.ready:
            shared.holder.microphones_are(shared.supervisor.hops_s)

    def _overload_changed(self) -> None:
        shared = self.context
        shared.holder.overload_is(present=shared.supervisor.overload is not None)
        self._info_changed()

    def _fit_store(self) -> None:
        model = self.context.holder.model
        self.context.store.fit_to(made_for(model), model.dimension)

    def _info_changed(self) -> None:
        shared = self.context
        # Before that nobody is subscribed.
        if shared.ready:
            shared.bus.publish(server_info(shared))

    def _learnt(self, microphone_id: str) -> None:
        self.context.supervisor.relearn(microphone_id)

    async def stop(self) -> None:
        """End everything in order: events end and are told, then sockets close, then the database."""
        self._unsubscribe()
        if self._garbage_timer is not None:
            self._garbage_timer.cancel()
        garbage.take_back()
        shared, runner = self._context, self._runner
        if shared is not None:
            shared.ready = False
            await _step("taught sounds", shared.taught.stop())
            await _step("microphones", shared.supervisor.stop(), STOP_MICROPHONES_S)
            shared.bus.close()
            for socket in tuple(shared.pushers.values()):
                await close(socket, WSCloseCode.GOING_AWAY, "The server is stopping")
        if runner is not None:
            await _step("connections", runner.cleanup(), STOP_STEP_S * 2)
            self._runner = None
        if shared is not None:
            await _step("model", shared.holder.stop())
            await _step("store", shared.store.close())
            self._context = None
            _LOGGER.info("Stopped")


def _nothing() -> None:
    """Stand in for a function until there is one."""


async def _step(what: str, work: Awaitable[None], timeout_s: float = STOP_STEP_S) -> None:
    """Do one step of stopping; one that fails does not keep the others from happening."""
    try:
        await asyncio.wait_for(work, timeout_s)
    except TimeoutError:
        _LOGGER.error("Stopping: the %s did not end in %.0f s", what, timeout_s)
    except Exception:
        _LOGGER.exception("Stopping: the %s failed", what)


async def _bind(runner: web.AppRunner, host: str, port: int) -> int:
    before = set(runner.addresses)
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(
                f"Port {port} is in use by another program; stop that or choose another with --port"
            ) from error
        raise ConfigurationError(
            f"Cannot listen on {host} port {port} ({error.strerror}); check --host"
        ) from error
    [*new] = [address for address in runner.addresses if address not in before]
    return int(new[0][1])


def _readable(host: str) -> str:
    return f"[{host}]" if ":" in host else host
