"""Sounds that the user taught, as labels of this server, whichever model runs."""

from __future__ import annotations

import asyncio
import io
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from clap_server.audio.decode import decode
from clap_server.detection.examples import Examples, made_for
from clap_server.detection.teaching import (
    check_number,
    default_threshold,
    hear_clip,
    kind_of,
    length_of_event,
    lowered_because,
    teach,
)
from clap_server.errors import ClapServerError, LabelError, StoreError
from clap_server.listening.shared_model import SharedModel
from clap_server.store.background import Background
from clap_server.store.sounds import TaughtClip, TaughtSound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from clap_server.clap.holder import ModelHolder
    from clap_server.detection.labels import Label, LabelKind
    from clap_server.detection.library import LabelLibrary
    from clap_server.listening.supervisor import Supervisor
    from clap_server.store.lessons import LessonStore
    from clap_server.store.sounds import SoundStore

_LOGGER = logging.getLogger(__name__)

MOST_SOUNDS = 50
_ICON = "mdi:school"
# How soon it is noticed that nobody waits any more, in seconds.
_LOOK_S = 0.25


class Clip(NamedTuple):
    """A clip from which to learn.

    Attributes:
        name: as the user knows it.
        flac: its sound.
        event_s: how long the event lasted of which it is; None if it was sent.
    """

    name: str
    flac: bytes
    event_s: float | None = None


class NameTakenError(ClapServerError):
    """Another taught sound has the name."""


class TooManySoundsError(ClapServerError):
    """No more taught sounds are kept."""


class UnwantedError(ClapServerError):
    """Nobody waits any more for a sound to be taught."""


class TaughtSounds:
    """Teaches, forgets, and learns anew when another model comes.

    Args:
        store: keeps them.
        lessons: what verdicts taught of them.
        library: resolves their names from now on; nobody else teaches it.
        holder: has the model.
        supervisor: has the microphones that may listen for them.
        busy: limits how many recordings are decoded and scored at once.
    """

    def __init__(
        self,
        store: SoundStore,
        lessons: LessonStore,
        library: LabelLibrary,
        holder: ModelHolder,
        supervisor: Supervisor,
        busy: asyncio.Semaphore,
    ) -> None:
        self._store = store
        self._lessons = lessons
        self._library = library
        self._holder = holder
        self._supervisor = supervisor
        self._busy = busy
        self._changing = asyncio.Lock()
        # Why a sound could not be learnt anew, by its id and the model.
        self._failed: dict[tuple[str, str], str] = {}
        self._model_changed = asyncio.Event()
        self._unsubscribe: Callable[[], None] = lambda: None
        self._background = Background("taught sounds", "Taught sounds are not learnt anew for another model")

    def start(self) -> None:
        """Make labels of what was taught before; the model is there."""
        self._tell()
        self._unsubscribe = self._holder.subscribe(self._model_changed.set)
        self._model_changed.set()
        self._background.start(self._follow())

    async def stop(self) -> None:
        """Follow the model no more."""
        self._unsubscribe()
        await self._background.stop()

    def problem(self, sound: TaughtSound) -> str | None:
        """Why a sound cannot be heard now, in words; None if it can."""
        model = made_for(self._holder.model)
        try:
            self._library.in_words(sound.name)
        except LabelError as error:
            return str(error)
        if sound.made_for == model:
            return None
        if (failed := self._failed.get((sound.id, model))) is not None:
            return f"it cannot be learnt with the model that runs now: {failed}"
        if all(clip.has_sound for clip in sound.clips):
            return "it is being learnt anew for the model that runs now"
        return (
            "it was taught to another model than the one that runs now, and its clips were not kept:"
            " delete it and teach it again"
        )

    def require_room(self) -> None:
        """Refuse another sound where there are too many.

        Raises:
            TooManySoundsError: there are.
        """
        if len(self._store.all()) >= MOST_SOUNDS:
            raise TooManySoundsError(f"The server keeps {MOST_SOUNDS} sounds; delete one")

    async def add(
        self,
        name: str,
        kind: LabelKind | None,
        clips: Sequence[Clip],
        *,
        keep: bool,
        unwanted: Callable[[], bool] = lambda: False,
    ) -> TaughtSound:
        """Teach a sound.

        Args:
            name: neither taught nor of the library; see ``LabelLibrary.for_teaching``.
            kind: by the length of the clips, or events, if it is None.
            clips: 3 to 20.
            keep: whether their sound is kept, so that another model can learn it.
            unwanted: whether nobody waits for it any more; what is not taught by then never is.

        Raises:
            LabelError: the name is not usable.
            NameTakenError: another sound has it.
            TooManySoundsError: no more are kept.
            UnwantedError: nobody waits for it any more.
            TeachingError: the clips are not.
            AudioError: one of them is not readable.
            ModelError: the model failed.
            StoreError: it cannot be stored.
        """
        check_number(len(clips))
        async with self._changing:
            words = self._library.for_teaching(name)
            if self._store.get(words.id) is not None:
                raise NameTakenError(f"A sound of the name {name!r} is taught already: choose another")
            self.require_room()
            now = datetime.now(UTC)
            sound = await self._learn(words, kind, clips, keep=keep, created_at=now, unwanted=unwanted)
            await self._store.add(sound, [clip.flac if keep else None for clip in clips])
            self._tell()
        _LOGGER.info("Taught %s: %s", name, sound.separation.words)
        return sound

    async def remove(self, sound_id: str, check: Callable[[], None]) -> None:
        """Forget a sound with its clips, and what was said of its events: another of its name begins anew.

        Args:
            sound_id: of the sound.
            check: called just before; raises if it must stay.

        Raises:
            StoreError: it cannot be stored.
        """
        async with self._changing:
            check()
            # Before it is deleted: no microphone comes to listen for it meanwhile.
            self._tell(without=sound_id)
            try:
                await self._store.delete(sound_id)
            except BaseException:
                self._tell()
                raise
            for microphone_id in self._lessons.forget_label(sound_id):
                if (room := self._supervisor.room(microphone_id)) is not None:
                    room.read_again()

    def label(self, sound: TaughtSound) -> Label:
        """What microphones listen for."""
        words = self._library.in_words(sound.name)
        examples = Examples.of(sound.made_for, [clip.embeddings for clip in sound.clips])
        return replace(
            words,
            id=sound.id,
            kind=sound.kind,
            threshold=default_threshold(sound.separation),
            lowered_because=lowered_because(sound.separation),
            icon=_ICON,
            taught=examples,
        )

    def _tell(self, without: str | None = None) -> None:
        labels = []
        for sound in self._store.all():
            if sound.id == without:
                continue
            try:
                labels.append(self.label(sound))
            except LabelError as error:
                # Such as a name that a newer library has, too.
                _LOGGER.error("The taught sound %s is left out: %s", sound.name, error)
        self._library.teach(labels)
        self._supervisor.relearn_all()

    async def _learn(
        self,
        words: Label,
        kind: LabelKind | None,
        clips: Sequence[Clip],
        *,
        keep: bool,
        created_at: datetime,
        unwanted: Callable[[], bool] = lambda: False,
    ) -> TaughtSound:
        model = SharedModel(self._holder.model, self._supervisor.batcher)

        def learn() -> TaughtSound:
            heard = [
                hear_clip(model, decode(io.BytesIO(clip.flac), model.sample_rate), number, clip.name)
                for number, clip in enumerate(clips)
            ]
            lengths_s = [
                sound.duration_s if clip.event_s is None else length_of_event(clip.event_s, model.window_s)
                for clip, sound in zip(clips, heard, strict=True)
            ]
            label = replace(words, kind=kind or kind_of(lengths_s))
            lesson = teach(model, self._library, label, heard, [clip.name for clip in clips])
            return TaughtSound(
                words.id,
                words.names["en"],
                label.kind,
                created_at,
                made_for(model),
                lesson.separation,
                tuple(TaughtClip(clip.examples, keep) for clip in heard),
            )

        async with self._busy:
            if unwanted():
                raise UnwantedError
            learning = asyncio.ensure_future(asyncio.to_thread(learn))
            try:
                while not learning.done():
                    await asyncio.wait([learning], timeout=_LOOK_S)
                    if unwanted():
                        raise UnwantedError
                return learning.result()
            finally:
                if not learning.done():
                    model.abandon()
                    await asyncio.wait([learning])
                    learning.exception()

    async def _follow(self) -> None:
        while True:
            await self._model_changed.wait()
            self._model_changed.clear()
            async with self._changing:
                # The store may have left some out.
                self._tell()
            for sound in self._store.all():
                if sound.made_for != made_for(self._holder.model) and all(c.has_sound for c in sound.clips):
                    await self._learn_anew(sound)

    async def _learn_anew(self, sound: TaughtSound) -> None:
        async with self._changing:
            if self._store.get(sound.id) is not sound:
                return
            try:
                recordings = await self._store.recordings(sound.id)
                clips = [
                    Clip(f"clip {number}", flac)
                    for number, flac in enumerate(recordings, 1)
                    if flac is not None
                ]
                words = replace(self._library.in_words(sound.name), id=sound.id)
                new = await self._learn(words, sound.kind, clips, keep=True, created_at=sound.created_at)
                await self._store.add(new, recordings)
            except StoreError as error:
                _LOGGER.error("%s cannot be learnt anew now: %s", sound.name, error)
            except ClapServerError as error:
                self._failed[sound.id, made_for(self._holder.model)] = str(error)
                _LOGGER.error("%s cannot be learnt with this model; teach it again: %s", sound.name, error)
            else:
                _LOGGER.info("Learnt %s anew: %s", sound.name, new.separation.words)
                self._tell()
