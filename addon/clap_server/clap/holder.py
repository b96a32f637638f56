"""Keeps a model at hand: the wanted one if it can be had, else the built-in one, and goes on trying.

With ``auto`` the wanted one is what the machine carries (see ``Automatic``); that it is not the full model is
no problem then but a choice, and told as such.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
import time
from typing import TYPE_CHECKING

from clap_server.clap.automatic import MEANWHILE, Automatic, in_words
from clap_server.clap.downloading import weights_size
from clap_server.clap.loader import (
    AUTO,
    BUILTIN,
    FULL,
    find_checkpoint,
    load_checkpoint,
    load_model,
    resolve_device,
)
from clap_server.clap.measuring import measure
from clap_server.clap.memory import available_bytes, check_memory
from clap_server.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from clap_server.clap.deciding import Speed
    from clap_server.clap.loader import Checkpoint
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
# A model that failed while it was in use, and fails again within this time, is waited for longer each time.
_PROVEN_S = 3600.0


class _StoppedError(Exception):
    """Ends a load in its thread when the server stops."""


class ModelHolder:
    """The model in use, and why it is not the wanted one.

    All methods belong to the event loop; loading runs in threads.

    Args:
        requested: ``auto``, ``builtin``, a folder or a hub name.
        device: see ``resolve_device``. If it cannot be had, the CPU steps in and ``problem`` says so.
        cache_dir: folder for downloads, text embeddings and banks of everyday sound.
        engine: see ``load_model``; also for the full model that ``auto`` may choose.
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
        self._builtin: ClapModel | None = None
        self._automatic: Automatic | None = None
        self._hops_s: tuple[float, ...] = ()
        self._choice: str | None = None
        self._wanted = BUILTIN
        self._wanted_device = "cpu"
        self._retry_s = retry_first_s
        self._came_s = 0.0
        self._falling: asyncio.Task[None] | None = None
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

    @property
    def choice(self) -> str | None:
        """What ``auto`` chose and why, or what it waits for, in a sentence; None if a model was asked for."""
        return self._choice

    @property
    def least_hop_s(self) -> float:
        """Microphones are to be heard with at least so many seconds between windows, for the model's sake."""
        return 0.0 if self._automatic is None else self._automatic.least_hop_s

    def microphones_are(self, hops_s: Sequence[float]) -> None:
        """Hear how much there is to do, on which the choice depends.

        Args:
            hops_s: seconds between windows that are asked for, of each microphone that is switched on.
        """
        self._hops_s = tuple(hops_s)
        if self._automatic is not None:
            self._automatic.microphones_are(hops_s)

    def overload_is(self, *, present: bool) -> None:
        """Hear whether windows are lost because the machine is too slow."""
        if self._automatic is not None:
            self._automatic.overload_is(present=present)

    def failed(self, model: ClapModel, why: str) -> None:
        """Hear that a model computes nothing any more; another steps in, and it is tried again later.

        Args:
            model: that fails again and again.
            why: in words.
        """
        if model is not self._model or self._falling is not None or _is_last_resort(model):
            return
        self._falling = asyncio.create_task(self._fall_back(model, why))

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
        wanted = self.requested.strip()
        self._wanted, self._wanted_device = wanted, device
        if wanted in {AUTO, BUILTIN}:
            self._builtin = await asyncio.to_thread(self._load, BUILTIN, device, _LOGGER.info)
            if wanted == AUTO:
                self._choose_from_here_on(device)
            self._use(self._builtin)
            return
        attempted = asyncio.Event()
        self._task = asyncio.create_task(self._go_on_trying(wanted, device, attempted))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(attempted.wait(), self._patience_s)
        if self._model is None:
            await self._step_in(wanted, device, attempted)

    def _choose_from_here_on(self, device: str) -> None:
        self._choice = f"The full model, {FULL}, is being looked for; {MEANWHILE}."
        self._automatic = Automatic(
            _Full(device, self._cache_dir, self._engine, self._prepare),
            use=self._use_chosen,
            tell=self._tell_choice,
            progress=self._progress,
            retry_first_s=self._retry_first_s,
        )
        self._automatic.microphones_are(self._hops_s)
        self._task = asyncio.create_task(self._automatic.run(), name="choice of the model")
        self._task.add_done_callback(_notice_death)

    async def _step_in(self, wanted: str, device: str, attempted: asyncio.Event) -> None:
        """Use the built-in model until the wanted one comes."""
        try:
            builtin = await asyncio.to_thread(self._load, BUILTIN, device, _LOGGER.info)
        except ModelError:
            await attempted.wait()
            if self._model is None:
                raise
            return
        self._builtin = builtin
        if self._model is None:  # the wanted one may have come in the meantime
            self._use(builtin, self._problem or f"{wanted} is being loaded; {_MEANWHILE}")

    async def stop(self) -> None:
        """End all attempts."""
        self._stopping.set()
        tasks = [task for task in (self._task, self._falling) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._task = self._falling = None

    async def _fall_back(self, model: ClapModel, why: str) -> None:
        """Have the built-in model on the CPU listen instead of one that failed, and try that again later."""
        try:
            if self._builtin is None or not _is_last_resort(self._builtin):
                self._builtin = await asyncio.to_thread(self._load, BUILTIN, "cpu", _LOGGER.info)
        except ModelError as error:
            self._fail(
                f"The model {model.name} failed while it listened ({why}), and none can step in: {error}"
            )
            return
        finally:
            self._falling = None
        what = f"The model {model.name} failed on {model.device} while it listened ({why})"
        problem = f"{what}. The built-in model listens instead"
        if self._automatic is not None:
            self._automatic.failed(what)
        else:
            if time.monotonic() - self._came_s >= _PROVEN_S:
                self._retry_s = self._retry_first_s
            wait_s = self._next_wait_s()
            problem = f"{problem}; next try in {in_words(wait_s)}"
            if self._task is not None:
                self._task.cancel()
            self._task = asyncio.create_task(
                self._go_on_trying(self._wanted, self._wanted_device, asyncio.Event(), after_s=wait_s)
            )
        self._use(self._builtin, f"{problem}.")

    def _next_wait_s(self) -> float:
        wait_s = self._retry_s * random.uniform(0.8, 1.2)
        self._retry_s = min(2 * self._retry_s, _RETRY_LONGEST_S)
        return wait_s

    async def _go_on_trying(
        self, wanted: str, device: str, attempted: asyncio.Event, *, after_s: float = 0.0
    ) -> None:
        await asyncio.sleep(after_s)
        while True:
            try:
                model = await asyncio.to_thread(self._load, wanted, device, self._progress)
            except ModelError as error:
                self._fail(f"{error} {_INSTEAD}")
            except Exception as error:
                _LOGGER.exception("Loading %s failed", wanted)
                self._fail(f"{wanted} cannot be loaded ({error!r}). {_INSTEAD}")
            else:
                self._came_s = time.monotonic()
                self._use(model)
                attempted.set()
                return
            attempted.set()
            await asyncio.sleep(self._next_wait_s())

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
        if self._automatic is not None:
            self._choose_words(f"{line}; {MEANWHILE}.")
            return
        # With no problem the wanted model is there, and the line was on its way when it came.
        if self._task is not None and self._model is not None and self._problem is not None:
            self._problem = f"{line}; {_MEANWHILE}"
            self._notify()

    def _use_chosen(self, model: ClapModel | None) -> None:
        """Use the full model, or with None the built-in one."""
        chosen = model or self._builtin
        if chosen is not None and (chosen is not self._model or self._problem is not None):
            self._use(chosen)

    def _tell_choice(self, sentence: str) -> None:
        if self._choose_words(sentence):
            _LOGGER.info("%s", sentence)

    def _choose_words(self, sentence: str) -> bool:
        """Have another sentence told; say whether it is another."""
        if sentence == self._choice:
            return False
        self._choice = sentence
        self._notify()
        return True

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


class _Full:
    """The full model, from the hub or from where it was kept."""

    name = FULL

    def __init__(self, device: str, cache_dir: Path, engine: str, prepare: Prepare | None) -> None:
        self._device = device
        self._cache_dir = cache_dir
        self._engine = engine
        self._prepare = prepare

    def fetch(self, tell: Callable[[str], None]) -> Checkpoint:
        """Have its files. Once they are there the hub is not asked any more."""
        return find_checkpoint(self.name, self._cache_dir, tell, admit=_check_memory, newest=False)

    def load(self, checkpoint: Checkpoint, tell: Callable[[str], None]) -> ClapModel:
        """Load it, if there is memory for it."""
        _check_memory(weights_size(checkpoint.folder))
        return load_checkpoint(
            checkpoint, device=self._device, cache_dir=self._cache_dir, progress=tell, engine=self._engine
        )

    def measure(self, model: ClapModel) -> Speed:
        """Time it."""
        return measure(model)

    def prepare(self, model: ClapModel, tell: Callable[[str], None]) -> ClapModel:
        """Have its bank of everyday sound, or whatever else it is to have."""
        return model if self._prepare is None else self._prepare(model, tell)


def _check_memory(weights: int) -> None:
    check_memory(weights, available_bytes())


def _is_last_resort(model: ClapModel) -> bool:
    return model.builtin and model.device == "cpu"


def _notice_death(task: asyncio.Task[None]) -> None:
    """Tell of a task that nothing restarts, which only a mistake in this file can cause."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _LOGGER.critical("The model is not chosen any more", exc_info=error)
