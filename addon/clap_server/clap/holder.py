"""Keeps a model at hand: the wanted one if it can be had, else the built-in one, and goes on trying."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
import time
from typing import TYPE_CHECKING

from clap_server.clap.loader import BUILTIN, load_model, resolve_device, resolve_name
from clap_server.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from clap_server.clap.model import ClapModel

    Prepare = Callable[[ClapModel, Callable[[str], None]], ClapModel]

_LOGGER = logging.getLogger(__name__)

# The wanted model gets so long before the built-in one steps in: enough to load from disk, not to download.
_PATIENCE_S = 15.0
_RETRY_FIRST_S = 30.0
_RETRY_LONGEST_S = 3600.0
_LOG_INTERVAL_S = 5.0
_INSTEAD = "The built-in model runs instead, and the server goes on trying."
_MEANWHILE = "the built-in model runs meanwhile."


class _StoppedError(Exception):
    """Ends a load in its thread when the server stops."""


class ModelHolder:
    """The model in use, and why it is not the wanted one.

    All methods belong to the event loop; loading runs in threads.

    Args:
        requested: ``auto``, ``builtin``, a folder or a hub name.
        device: see ``resolve_device``. If it cannot be had, the CPU steps in and ``problem`` says so.
        cache_dir: folder for downloads, text embeddings and banks of everyday sound.
        engine: see ``load_model``.
        prepare: called in the loading thread with each loaded model and a function that tells progress; what
            it returns is used. It adds what this folder knows nothing of, such as the bank of everyday sound.
        patience_s: how long ``start`` waits for the wanted model before the built-in one steps in.
        retry_first_s: seconds from a failure to the next attempt; doubles each time, up to an hour.
    """

    def __init__(
        self,
        requested: str,
        *,
        device: str,
        cache_dir: Path,
        engine: str = "torch",
        prepare: Prepare | None = None,
        patience_s: float = _PATIENCE_S,
        retry_first_s: float = _RETRY_FIRST_S,
    ) -> None:
        self.requested = requested
        self._device = device
        self._cache_dir = cache_dir
        self._engine = engine
        self._prepare = prepare
        self._patience_s = patience_s
        self._retry_first_s = retry_first_s
        self._model: ClapModel | None = None
        self._problem: str | None = None
        self._device_problem: str | None = None
        self._subscribers: dict[object, Callable[[], None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._logged_s = -_LOG_INTERVAL_S
        self._stopping = threading.Event()

    @property
    def model(self) -> ClapModel:
        """The model in use.

        Raises:
            RuntimeError: ``start`` has not finished.
        """
        if self._model is None:
            raise RuntimeError("ModelHolder.start() has not finished")
        return self._model

    @property
    def problem(self) -> str | None:
        """Why the wanted model or device is not in use, in words; None if it is."""
        return self._problem or self._device_problem

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have a function called on the event loop after the model or the problem changed.

        Returns:
            A function that ends the subscription.
        """
        key = object()
        self._subscribers[key] = callback

        def unsubscribe() -> None:
            self._subscribers.pop(key, None)

        return unsubscribe

    async def start(self) -> None:
        """Have a model: the wanted one if that takes seconds, else the built-in one for the time being.

        Raises:
            ModelError: not even the built-in model can be loaded.
        """
        self._loop = asyncio.get_running_loop()
        try:
            device = resolve_device(self._device)
        except ModelError as error:
            device = "cpu"
            self._device_problem = f"{error} Running on the CPU."
            _LOGGER.warning("%s", self._device_problem)
        wanted = resolve_name(self.requested.strip(), device)
        if wanted == BUILTIN:
            self._use(await asyncio.to_thread(self._load, BUILTIN, device, _LOGGER.info))
            return
        attempted = asyncio.Event()
        self._task = asyncio.create_task(self._go_on_trying(wanted, device, attempted))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(attempted.wait(), self._patience_s)
        if self._model is None:
            await self._step_in(wanted, device, attempted)

    async def _step_in(self, wanted: str, device: str, attempted: asyncio.Event) -> None:
        """Use the built-in model until the wanted one comes."""
        try:
            builtin = await asyncio.to_thread(self._load, BUILTIN, device, _LOGGER.info)
        except ModelError:
            await attempted.wait()
            if self._model is None:
                raise
            return
        if self._model is None:  # the wanted one may have come in the meantime
            self._use(builtin, self._problem or f"{wanted} is being loaded; {_MEANWHILE}")

    async def stop(self) -> None:
        """End all attempts."""
        self._stopping.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _go_on_trying(self, wanted: str, device: str, attempted: asyncio.Event) -> None:
        wait_s = self._retry_first_s
        while True:
            try:
                model = await asyncio.to_thread(self._load, wanted, device, self._progress)
            except ModelError as error:
                self._fail(f"{error} {_INSTEAD}")
            except Exception as error:
                _LOGGER.exception("Loading %s failed", wanted)
                self._fail(f"{wanted} cannot be loaded ({error!r}). {_INSTEAD}")
            else:
                self._use(model)
                attempted.set()
                return
            attempted.set()
            await asyncio.sleep(wait_s * random.uniform(0.8, 1.2))
            wait_s = min(2 * wait_s, _RETRY_LONGEST_S)

    def _load(self, name: str, device: str, progress: Callable[[str], None]) -> ClapModel:
        """Load and prepare a model; runs in a thread."""
        model = load_model(
            name, device=device, cache_dir=self._cache_dir, progress=progress, engine=self._engine
        )
        return self._prepare(model, progress) if self._prepare else model

    def _progress(self, line: str) -> None:
        """Take what the loading thread tells; ends the load when the server stops."""
        if self._stopping.is_set() or self._loop is None or self._loop.is_closed():
            raise _StoppedError
        self._loop.call_soon_threadsafe(self._tell, line)

    def _tell(self, line: str) -> None:
        now_s = time.monotonic()
        if now_s - self._logged_s >= _LOG_INTERVAL_S:
            self._logged_s = now_s
            _LOGGER.info("%s", line)
        # With no problem the wanted model is there, and the line was on its way when it came.
        if self._task is not None and self._model is not None and self._problem is not None:
            self._problem = f"{line}; {_MEANWHILE}"
            self._notify()

    def _use(self, model: ClapModel, problem: str | None = None) -> None:
        self._model = model
        _LOGGER.info("The model %s runs on %s in %s", model.name, model.device, model.dtype)
        if problem and problem != self._problem:
            _LOGGER.warning("%s", problem)
        self._problem = problem
        self._notify()

    def _fail(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            _LOGGER.warning("%s", problem)
            self._notify()

    def _notify(self) -> None:
        for callback in list(self._subscribers.values()):
            try:
                callback()
            except Exception:
                _LOGGER.exception("A subscriber of the model failed")
