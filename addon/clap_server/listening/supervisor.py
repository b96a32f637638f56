"""Keeps all microphones alive, each apart from the others."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from clap_server.audio.denoise import check_denoise
from clap_server.audio.push import PushSource
from clap_server.audio.source import SourceState, SourceStatus
from clap_server.audio.url import redact_text
from clap_server.detection.everyday.preparing import model_key
from clap_server.errors import ClapServerError, ConfigurationError, LabelError, ModelError
from clap_server.listening.batcher import Batcher
from clap_server.listening.condition import STARTING, TOO_SLOW
from clap_server.listening.counters import Counters
from clap_server.listening.diary import Diary, MomentKind
from clap_server.listening.events import ClipWithheld
from clap_server.listening.memory import give_back
from clap_server.listening.microphone import MicrophoneListener
from clap_server.listening.plan import Plan, make_plan
from clap_server.listening.room.piece import coded, piece_of
from clap_server.listening.room.room import Room
from clap_server.listening.scoring import make_scoring
from clap_server.listening.self_test import SelfTestError
from clap_server.listening.sources import make_source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from clap_server.audio.source import AudioSource
    from clap_server.clap.holder import ModelHolder
    from clap_server.detection.examples import Examples
    from clap_server.detection.labels import WatchedLabel
    from clap_server.detection.library import LabelLibrary
    from clap_server.detection.scoring import LabelScorer
    from clap_server.listening.config import Microphone, MicrophoneSettings
    from clap_server.listening.diary import MomentNote, WindowNote
    from clap_server.listening.room.room import RoomStore
    from clap_server.listening.scoring import Scoring
    from clap_server.listening.sink import ListeningSink

_LOGGER = logging.getLogger(__name__)

_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 60.0
# Longer than a sink may take for the clip of an event that ends with its microphone, and the check of it.
STOP_TIMEOUT_S = 17.0
_OVERLOAD_TOLD_S = 1.0
_GIVE_BACK_AFTER_S = 1.0
_DISABLED = SourceStatus(SourceState.DISABLED, "disabled", "switched off")
_MUTED = SourceStatus(
    SourceState.MUTED, "muted", "muted: nothing is listened to, measured or recorded until it is unmuted"
)


@dataclass(frozen=True, slots=True)
class MicrophoneSnapshot:
    """How a microphone is now.

    Attributes:
        status: its state with the reason.
        since: UTC of the last change of the status.
        labels: resolved, with their thresholds.
        active: ids of labels of which an event is going on.
        windows_scored: since the server started.
        windows_gated: too quiet to score.
        windows_dropped: not scored because the computer is too slow, or the model failed; with sound that was
            lost before windows were cut.
    """

    status: SourceStatus
    since: datetime
    labels: tuple[WatchedLabel, ...]
    active: frozenset[str]
    windows_scored: int
    windows_gated: int
    windows_dropped: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """Settings that are usable, with everything that might have been wrong with them already made.

    Attributes:
        microphone: the settings.
        plan: what to listen for.
        source: of the sound; nothing is opened yet.
        scoring: for the plan; None where the plan stays, or the listener is to make it when it starts.
    """

    microphone: Microphone
    plan: Plan
    source: AudioSource
    scoring: Scoring | None


@dataclass
class _Entry:
    microphone: Microphone
    plan: Plan
    source: AudioSource | None
    status: SourceStatus
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    counters: Counters = field(default_factory=Counters)
    diary: Diary = field(default_factory=Diary)
    room: Room | None = None
    listener: MicrophoneListener | None = None
    task: asyncio.Task[None] | None = None
    # A bad setting is to be told again when it is unmuted.
    problem: SourceStatus | None = None


class Supervisor:
    """Starts, changes, restarts and ends microphones.

    Args:
        holder: has the model.
        library: resolves labels.
        sink: is told everything.
        media_dir: where files may be played from; None if nowhere.
        on_overload: called when ``overload`` became another.
        on_microphones: called when ``hops_s`` may have become other ones.
        rooms: keeps what microphones learn of their rooms; None if they are to learn nothing.
        wrong: says which sounds were false alarms at a microphone, by label id.
        right: says which sounds were none, the same.
    """

    def __init__(
        self,
        holder: ModelHolder,
        library: LabelLibrary,
        sink: ListeningSink,
        *,
        media_dir: Path | None,
        on_overload: Callable[[], None] = lambda: None,
        on_microphones: Callable[[], None] = lambda: None,
        rooms: RoomStore | None = None,
        wrong: Callable[[str], Mapping[str, tuple[Examples, ...]]] = lambda _: {},
        right: Callable[[str], Mapping[str, tuple[Examples, ...]]] = lambda _: {},
    ) -> None:
        self._holder = holder
        self._library = library
        self._sink = sink
        self._media_dir = media_dir
        self._rooms = rooms
        self._entries: dict[str, _Entry] = {}
        self._muted: set[str] = set()
        # A lock is there as long as somebody has or wants it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._on_overload = on_overload
        self._on_microphones = on_microphones
        self._wrong = wrong
        self._right = right
        self._told_overload: str | None = None
        self._overload_timer: asyncio.TimerHandle | None = None
        self._give_back_timer: asyncio.TimerHandle | None = None
        self._least_hop_s = holder.least_hop_s
        self.batcher = Batcher(on_failure=holder.failed)

    async def start(self) -> None:
        """Be ready for microphones."""
        self.batcher.start()

    async def stop(self) -> None:
        """End all microphones, with the events that go on, then the batcher."""
        try:
            await asyncio.gather(*(self._stop(entry) for entry in self._entries.values()))
        finally:
            # Also when this is cancelled: recordings that are being scored must hear that the server stops.
            self._entries.clear()
            for timer in (self._overload_timer, self._give_back_timer):
                if timer is not None:
                    timer.cancel()
            await self.batcher.stop()

    @property
    def overload(self) -> str | None:
        """For how many microphones the computer is too slow, in words; None if for none."""
        count = sum(entry.status.code == TOO_SLOW for entry in self._entries.values())
        if not count:
            return None
        microphones = "microphone" if count == 1 else "microphones"
        return f"too slow for {count} {microphones}: use fewer, a longer hop or a faster computer"

    @property
    def hops_s(self) -> list[float]:
        """Seconds between windows as asked for, of each microphone that is switched on, muted or not."""
        return [
            entry.microphone.settings.hop_s
            for entry in self._entries.values()
            if entry.source is not None and entry.microphone.settings.enabled
        ]

    def follow_model(self) -> None:
        """Have all microphones heard as seldom as the model needs it; their streams go on."""
        if self._holder.least_hop_s != self._least_hop_s:
            self._least_hop_s = self._holder.least_hop_s
            self.relearn_all()

    def check(
        self, settings: MicrophoneSettings, microphone_id: str | None = None
    ) -> tuple[Plan, AudioSource]:
        """What the settings mean; nothing is opened, embedded or changed.

        Args:
            settings: to check.
            microphone_id: whose they are, if it is there already: what it learnt is part of the plan.

        Raises:
            LabelError: a label or threshold is not usable.
            AudioError: the source's address or path is not usable.
            ConfigurationError: the source is not available on this server.
        """
        if settings.denoise:
            check_denoise()
        plan = self._plan(settings, microphone_id)
        return plan, make_source(settings.source, self._media_dir)

    def _plan(self, settings: MicrophoneSettings, microphone_id: str | None) -> Plan:
        if microphone_id is None:
            plan = make_plan(settings, self._library)
        else:
            wrong, right = self._wrong(microphone_id), self._right(microphone_id)
            plan = make_plan(settings, self._library, wrong, right)
        return replace(plan, hop_s=max(plan.hop_s, self._holder.least_hop_s))

    async def prepare(self, microphone: Microphone) -> Prepared:
        """Do all that may fail with new settings; nothing is changed, and no microphone waits.

        Raises:
            ClapServerError: as ``check``, or the model cannot embed the labels (ModelError).
        """
        plan, source = self.check(microphone.settings, microphone.id)
        old = self._entries.get(microphone.id)
        scoring = None
        if old is None or plan != old.plan or not _same_stream(old.microphone.settings, microphone.settings):
            if old is not None and old.listener is not None:
                # What it has already is not made again.
                scoring = await old.listener.prepare(plan)
            else:
                model, background = self._holder.model, self._library.background
                scoring = await make_scoring(model, plan, background, self.batcher)
        return Prepared(microphone, plan, source, scoring)

    def lock(self, microphone_id: str) -> asyncio.Lock:
        """To be held around ``use`` and ``remove`` of a microphone, and what has to happen with them."""
        return self._locks.setdefault(microphone_id, asyncio.Lock())

    async def use(self, prepared: Prepared) -> None:
        """Add a microphone, or bring an existing one to these settings; the same again changes nothing.

        If only labels, thresholds, negatives or the hop changed, the stream goes on.
        """
        microphone, settings = prepared.microphone, prepared.microphone.settings
        old = self._entries.get(microphone.id)
        if old is not None and old.source is not None and _same_stream(old.microphone.settings, settings):
            if old.listener is not None and prepared.plan != old.plan:
                old.listener.change(prepared.plan, prepared.scoring)
            old.microphone, old.plan = microphone, prepared.plan
            self.relearn(microphone.id)
            self._on_microphones()
            return
        if old is not None:
            await self._stop(old)
        status = self._first_status(microphone)
        new = _Entry(microphone, prepared.plan, prepared.source, status)
        if old is not None:
            new.counters, new.diary, new.room = old.counters, old.diary, old.room
        if new.room is None and self._rooms is not None:
            new.room = Room(microphone.id, self._rooms, self._holder)
        new.diary.happened(MomentKind.STATUS, status.reason)
        self._entries[microphone.id] = new
        self.relearn(microphone.id)
        self._on_microphones()
        self._sink.status(microphone.id, new.status)
        if status is STARTING:
            self._start(new, prepared.source, prepared.scoring)

    def _first_status(self, microphone: Microphone) -> SourceStatus:
        if microphone.id in self._muted:
            return _MUTED
        return STARTING if microphone.settings.enabled else _DISABLED

    def _start(self, entry: _Entry, source: AudioSource, scoring: Scoring | None) -> None:
        listening = self._keep_listening(entry, source, scoring)
        entry.task = asyncio.create_task(listening, name=f"microphone {entry.microphone.id}")
        entry.task.add_done_callback(_notice_death)

    def silence(self, microphone_id: str) -> None:
        """Begin to mute, at once, without the lock: the sound is forgotten, and no more is taken in."""
        self._muted.add(microphone_id)
        entry = self._entries.get(microphone_id)
        if entry is None:
            return
        if entry.listener is not None:
            entry.listener.wipe(ClipWithheld.MUTED)
        if isinstance(entry.source, PushSource):
            entry.source.wipe()
        self._tell(entry, _MUTED)

    async def mute(self, microphone_id: str) -> None:
        """Stop listening: the source is closed, the sound forgotten, and what goes on ends, unrecorded.

        To be called with the microphone's lock held; muting twice is fine. It is the caller who remembers it
        over a restart.
        """
        self.silence(microphone_id)
        entry = self._entries.get(microphone_id)
        if entry is not None:
            await self._stop(entry)

    def unmute(self, microphone_id: str) -> None:
        """Listen again, as the settings say; with the microphone's lock held."""
        self._muted.discard(microphone_id)
        entry = self._entries.get(microphone_id)
        if entry is None or entry.status is not _MUTED:
            return
        self._tell(entry, entry.problem or self._first_status(entry.microphone))
        if entry.source is not None and entry.microphone.settings.enabled:
            self._start(entry, entry.source, None)

    async def apply(self, microphone: Microphone) -> None:
        """Prepare settings and use them.

        Raises:
            ClapServerError: as ``prepare``; everything stays as it was.
        """
        prepared = await self.prepare(microphone)
        async with self.lock(microphone.id):
            await self.use(prepared)

    async def restore(
        self, microphone: Microphone, problem: str | None = None, *, muted: bool = False
    ) -> None:
        """Apply settings from an earlier run: what is wrong with them becomes the microphone's status.

        Args:
            microphone: with its settings.
            problem: why they cannot even be read, if so.
            muted: it was muted in the earlier run, and is from its first moment.
        """
        if muted:
            self._muted.add(microphone.id)
        try:
            if problem is not None:
                raise ConfigurationError(problem)
            try:
                prepared = await self.prepare(microphone)
            except ModelError:
                # The model may be another soon: the listener tries again and again.
                meaning = self.check(microphone.settings, microphone.id)
                prepared = Prepared(microphone, *meaning, scoring=None)
            async with self.lock(microphone.id):
                await self.use(prepared)
        except ClapServerError as error:
            _LOGGER.error("Microphone %s cannot be used: %s", microphone.id, error)
            status = SourceStatus(SourceState.FAILED, "bad_settings", str(error))
            told = _MUTED if muted else status
            self._entries[microphone.id] = _Entry(microphone, Plan((), (), 0.5), None, told, problem=status)

    async def remove(self, microphone_id: str) -> None:
        """End a microphone and forget it; one that is not there is no error."""
        self._muted.discard(microphone_id)
        entry = self._entries.pop(microphone_id, None)
        if entry is not None:
            await self._stop(entry)
            self._check_overload()
            self._on_microphones()

    def relearn(self, microphone_id: str) -> None:
        """Have a microphone heed what was taught since its settings came; its stream goes on.

        If the model cannot embed the labels, the microphone's status says so.
        """
        entry = self._entries.get(microphone_id)
        if entry is None or entry.source is None:
            return
        plan = self._taught(entry.microphone, entry.plan)
        if plan != entry.plan:
            entry.plan = plan
            if entry.listener is not None:
                entry.listener.change(plan, None)

    def relearn_all(self) -> None:
        """The same for every microphone."""
        for microphone_id in self._entries:
            self.relearn(microphone_id)

    async def settle(self, microphone_id: str, timeout_s: float) -> bool:
        """Wait until a microphone heeds what it was told to learn; say whether it does."""
        entry = self._entries.get(microphone_id)
        if entry is None or entry.listener is None:
            return False
        try:
            async with asyncio.timeout(timeout_s):
                return await entry.listener.settle()
        except TimeoutError:
            return False

    async def count_false(
        self,
        microphone_id: str,
        event_id: str,
        heard_at: datetime,
        embeddings: NDArray[np.float32],
        *,
        hop_s: float | None = None,
        denoise: bool | None = None,
    ) -> None:
        """Let an event that the user called false count as everyday sound of its room.

        Args:
            microphone_id: where it was heard.
            event_id: of the event.
            heard_at: when it was detected.
            embeddings: ``(windows, dimension)`` of the model that runs.
            hop_s: seconds between the windows with which it was heard; as now if that is not known.
            denoise: whether noise was suppressed then; as now if that is not known.

        Raises:
            StoreError: it cannot be stored.
        """
        entry = self._entries.get(microphone_id)
        if entry is None or entry.room is None:
            return
        hop_s = entry.plan.hop_s if hop_s is None else hop_s
        denoise = entry.plan.denoise if denoise is None else denoise
        ends_s = [hop_s * (number + 1) for number in range(len(embeddings))]
        piece = piece_of(heard_at.timestamp(), ends_s, [coded(row) for row in embeddings], hop_s)
        key = model_key(self._holder.model)
        await entry.room.add_false(event_id, piece, key, hop_s, denoise=denoise)

    async def uncount_false(self, microphone_id: str, event_id: str) -> None:
        """Take ``count_false`` back; no error if it was not counted.

        Raises:
            StoreError: it cannot be stored.
        """
        entry = self._entries.get(microphone_id)
        if entry is not None and entry.room is not None:
            await entry.room.remove_false(event_id)

    def scorer(self, microphone_id: str) -> LabelScorer | None:
        """What scores the windows of a microphone now; None while nothing does."""
        entry = self._entries.get(microphone_id)
        return None if entry is None or entry.listener is None else entry.listener.scorer

    def _taught(self, microphone: Microphone, plan: Plan) -> Plan:
        """The plan with what was taught since it was made."""
        try:
            return self._plan(microphone.settings, microphone.id)
        except LabelError as error:
            _LOGGER.error("Microphone %s goes on as it was: %s", microphone.settings.name, error)
            return plan

    def snapshot(self, microphone_id: str) -> MicrophoneSnapshot:
        """How a microphone is now; one that is just being added is connecting."""
        entry = self._entries.get(microphone_id)
        if entry is None:
            return MicrophoneSnapshot(STARTING, datetime.now(UTC), (), frozenset(), 0, 0, 0)
        counters = entry.counters
        return MicrophoneSnapshot(
            status=entry.status,
            since=entry.since,
            labels=entry.plan.labels,
            active=entry.listener.active if entry.listener is not None else frozenset(),
            windows_scored=counters.scored,
            windows_gated=counters.gated,
            windows_dropped=counters.dropped + counters.failed,
        )

    def listener(self, microphone_id: str) -> MicrophoneListener:
        """Who listens to a microphone.

        Raises:
            SelfTestError: nobody does at the moment; says why.
        """
        entry = self._entries.get(microphone_id)
        status = self.snapshot(microphone_id).status
        if entry is None or entry.listener is None or status.state is not SourceState.LISTENING:
            raise SelfTestError("not_listening", f"The microphone is not listening: {status.reason}")
        return entry.listener

    def scoring(self, microphone_id: str) -> Scoring | None:
        """The scorer in use for a microphone; None if it does not listen.

        Raises:
            ModelError: there is none yet.
        """
        entry = self._entries.get(microphone_id)
        return None if entry is None or entry.listener is None else entry.listener.scoring

    def room(self, microphone_id: str) -> Room | None:
        """What is learnt of a microphone's room; None if there is no such microphone or nothing is learnt."""
        entry = self._entries.get(microphone_id)
        return None if entry is None else entry.room

    def notes(self, microphone_id: str, seconds: float) -> list[WindowNote | MomentNote]:
        """What happened to a microphone's sound in the last seconds, oldest first."""
        entry = self._entries.get(microphone_id)
        return [] if entry is None else entry.diary.last(seconds)

    def push_source(self, microphone_id: str) -> PushSource:
        """Where to feed the sound that a client sends.

        Raises:
            ConfigurationError: the microphone is off, or of another kind.
        """
        entry = self._entries.get(microphone_id)
        if entry is None or not isinstance(entry.source, PushSource):
            raise ConfigurationError("this microphone takes no pushed sound: give it a source of type 'push'")
        if microphone_id in self._muted:
            raise ConfigurationError("this microphone is muted and takes no sound: unmute it first")
        if not entry.microphone.settings.enabled:
            raise ConfigurationError("this microphone is switched off: enable it first")
        return entry.source

    async def _stop(self, entry: _Entry) -> None:
        if entry.task is None:
            return
        entry.task.cancel()
        _, pending = await asyncio.wait([entry.task], timeout=STOP_TIMEOUT_S)
        if pending:
            _LOGGER.error("Microphone %s does not end; it is left behind", entry.microphone.id)
        entry.task = None
        # It knows the entry too: without this the two would keep the sound until the garbage is collected.
        entry.listener = None
        self._give_memory_back_soon()

    def _give_memory_back_soon(self) -> None:
        """Once for all microphones that end together, in a thread, because it takes a while."""
        if self._give_back_timer is None:
            self._give_back_timer = asyncio.get_running_loop().call_later(
                _GIVE_BACK_AFTER_S, self._give_memory_back
            )

    def _give_memory_back(self) -> None:
        self._give_back_timer = None
        asyncio.get_running_loop().run_in_executor(None, give_back)

    async def _keep_listening(self, entry: _Entry, source: AudioSource, scoring: Scoring | None) -> None:
        """Run the listener of one microphone, again and again if it breaks, until it is muted."""
        retry_s = _FIRST_RETRY_S
        told = ""
        # Between ``silence`` and ``mute`` nothing may begin to listen: who silences knows of no listener yet.
        while entry.microphone.id not in self._muted:
            entry.listener = self._listener(entry, source, scoring)
            # Kept no longer than the listener wants it: it holds a model.
            scoring = None
            started = time.monotonic()
            try:
                await entry.listener.run()
            except Exception as error:
                reason = _reason(error)
                if reason != told:
                    told = reason
                    _LOGGER.exception("Microphone %s broke off; it is started again", entry.microphone.id)
            if time.monotonic() - started > _LAST_RETRY_S:
                retry_s = _FIRST_RETRY_S
            self._tell(
                entry,
                SourceStatus(SourceState.FAILED, "broke_off", f"listening broke off, trying again: {told}"),
            )
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, _LAST_RETRY_S)

    def _listener(self, entry: _Entry, source: AudioSource, scoring: Scoring | None) -> MicrophoneListener:
        return MicrophoneListener(
            entry.microphone.id,
            source,
            entry.plan,
            background=self._library.background,
            holder=self._holder,
            batcher=self.batcher,
            sink=self._sink,
            counters=entry.counters,
            diary=entry.diary,
            on_status=lambda status: self._tell(entry, status),
            scoring=scoring,
            room=entry.room,
        )

    def _tell(self, entry: _Entry, status: SourceStatus) -> None:
        if entry.microphone.id in self._muted and status is not _MUTED:
            # What the source says while it is closed.
            return
        if status != entry.status:
            entry.status = status
            entry.since = datetime.now(UTC)
            trouble = status.state in {SourceState.FAILED, SourceState.STALLED}
            level = logging.WARNING if trouble else logging.INFO
            _LOGGER.log(level, "Microphone %s: %s", entry.microphone.settings.name, status.reason)
            entry.diary.happened(MomentKind.STATUS, status.reason)
            self._sink.status(entry.microphone.id, status)
            self._check_overload()

    def _check_overload(self) -> None:
        """Have it told soon, once for all microphones that change together."""
        if self._overload_timer is None and self.overload != self._told_overload:
            self._overload_timer = asyncio.get_running_loop().call_later(
                _OVERLOAD_TOLD_S, self._tell_overload
            )

    def _tell_overload(self) -> None:
        self._overload_timer = None
        if self.overload != self._told_overload:
            self._told_overload = self.overload
            self._on_overload()


def _notice_death(task: asyncio.Task[None]) -> None:
    """Tell of a task that nothing restarts, which only a mistake in this file can cause."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _LOGGER.critical("The task %r is dead until its settings change", task.get_name(), exc_info=error)


def _same_stream(old: MicrophoneSettings, new: MicrophoneSettings) -> bool:
    return (old.source, old.enabled, old.denoise) == (new.source, new.enabled, new.denoise)


def _reason(error: BaseException) -> str:
    """The first cause in an exception group, in words without secrets."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    words = str(error) if isinstance(error, ClapServerError) else f"{type(error).__name__}: {error}"
    return redact_text(words)
