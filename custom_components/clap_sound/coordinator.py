"""What the server pushes, for the entities."""

import asyncio
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any, override

from homeassistant.config_entries import ConfigEntry
from homeassistant.const import STATE_UNAVAILABLE, STATE_UNKNOWN, Platform
from homeassistant.core import CoreState, Event, EventStateChangedData, HomeAssistant, callback
from homeassistant.exceptions import ConfigEntryAuthFailed
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.event import async_track_state_change_event
from homeassistant.helpers.start import async_at_started
from homeassistant.helpers.storage import Store
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator, UpdateFailed
from homeassistant.util import dt as dt_util

from .client import (
    ApiVersionError,
    ClapSoundAuthenticationError,
    ClapSoundClient,
    ClapSoundError,
    Listener,
)
from .client.messages import (
    EventMessage,
    LevelMessage,
    Message,
    MicrophoneMessage,
    MicrophonesMessage,
    ReplayedMessage,
    ScoresMessage,
)
from .client.models import EventInfo, ServerInfo
from .const import CONF_CAMERA, DOMAIN, MAX_EVENT_AGE, SUBENTRY_MICROPHONE
from .data import ClapSoundData
from .desired import DesiredState, microphone_id
from .issues import set_microphone_issue, set_model_issue, set_version_issue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOGGER = logging.getLogger(__name__)

type ClapSoundConfigEntry = ConfigEntry[ClapSoundCoordinator]

FIRST_DATA_TIMEOUT_S = 20
SAVE_DELAY_S = 1
STORE_VERSION = 1

KEY_LEVEL = "level"
KEY_TOP_SOUND = "top_sound"


def store(hass: HomeAssistant, entry_id: str) -> Store[dict[str, Any]]:
    """Return where an entry's last sequence number and adopted microphones are kept."""
    return Store(hass, STORE_VERSION, f"{DOMAIN}.{entry_id}")


class ClapSoundCoordinator(DataUpdateCoordinator[ClapSoundData]):
    """Keeps the connection to one server, declares the microphones and passes on what happens.

    State (``data``) is updated for all listeners at once. Single events, scores and levels go to
    whoever subscribed to that microphone.
    """

    config_entry: ClapSoundConfigEntry

    def __init__(self, hass: HomeAssistant, entry: ClapSoundConfigEntry, client: ClapSoundClient) -> None:
        super().__init__(hass, _LOGGER, config_entry=entry, name=entry.title, update_interval=None)
        self.client = client
        self.desired = DesiredState(hass, entry, client, set())
        self.listener = Listener(client, topics=self._topics, prepare=self._prepare)
        self._store = store(hass, entry.entry_id)
        self._subentries = tuple(entry.get_subentries_of_type(SUBENTRY_MICROPHONE))
        self._first: asyncio.Future[ClapSoundData] | None = None
        self._next: ClapSoundData | None = None
        self._replayed = False
        self._untold: list[EventMessage] = []
        self._telling = False
        self._told_sequence: int | None = None
        self._labels_set_up: dict[str, frozenset[str]] | None = None
        self._receivers: dict[tuple[type, str], list[Callable[[Any], None]]] = defaultdict(list)

    @override
    async def _async_setup(self) -> None:
        """Start listening where the last run got to."""
        if saved := await self._store.async_load():
            self._told_sequence = saved["last_sequence"]
            self.desired.adopted = set(saved["adopted"])
        self.listener.last_sequence = self._told_sequence
        self.listener.subscribe(self._received)
        self.listener.subscribe_disconnect(self._disconnected)
        self._first = self.hass.loop.create_future()
        self.config_entry.async_create_background_task(
            self.hass, self._listen(), name=f"clap_sound listener {self.config_entry.title}"
        )
        self._watch_cameras()

    @override
    async def _async_update_data(self) -> ClapSoundData:
        """Wait for the first data; afterwards everything is pushed."""
        if self._first is not None:
            try:
                async with asyncio.timeout(FIRST_DATA_TIMEOUT_S):
                    await self._first
            except TimeoutError as error:
                raise self._update_failed("no answer in time") from error
            finally:
                self._first = None
        elif not self.listener.connected:
            raise self._update_failed("not connected")
        return self.data

    async def _listen(self) -> None:
        """Own the listener: notice when it ends."""
        try:
            await self.listener.run()
        except ClapSoundAuthenticationError:
            _LOGGER.debug("Not listening to %s any more: it does not accept the token", self.name)
        except Exception:
            _LOGGER.exception("Listening to %s failed, starting anew", self.name)
            self._disconnected(ClapSoundError("internal error, see the log"))
            if self._telling:
                self.hass.config_entries.async_schedule_reload(self.config_entry.entry_id)

    @callback
    def async_start_telling(self) -> None:
        """Pass events on from now; the entities are there to receive them."""
        self._labels_set_up = self._watched_labels()
        self._telling = True
        self._tell()

    @callback
    def async_stop_telling(self) -> None:
        """Keep back what comes from now; the next run asks for it again."""
        self._telling = False

    @override
    async def async_shutdown(self) -> None:
        """Remember where this run got to."""
        await super().async_shutdown()
        for subentry in self._subentries:
            set_microphone_issue(self.hass, subentry, None)
        await self._store.async_save(self._to_save())

    @callback
    def async_subscribe_events(
        self, microphone: str, receiver: Callable[[EventInfo], None]
    ) -> Callable[[], None]:
        """Call ``receiver`` exactly once for each sound event that starts at a microphone."""
        return self._subscribe((EventInfo, microphone), receiver)

    @callback
    def async_subscribe_scores(
        self, microphone: str, receiver: Callable[[ScoresMessage], None]
    ) -> Callable[[], None]:
        """Call ``receiver`` with the scores of each window of a microphone."""
        return self._subscribe((ScoresMessage, microphone), receiver)

    @callback
    def async_subscribe_levels(
        self, microphone: str, receiver: Callable[[LevelMessage], None]
    ) -> Callable[[], None]:
        """Call ``receiver`` with the level of a microphone, twice a second."""
        return self._subscribe((LevelMessage, microphone), receiver)

    def _subscribe(self, key: tuple[type, str], receiver: Callable[[Any], None]) -> Callable[[], None]:
        self._receivers[key].append(receiver)
        return lambda: self._receivers[key].remove(receiver)

    async def _prepare(self, info: ServerInfo) -> None:
        """Declare the microphones before each subscription."""
        set_version_issue(self.hass, self.config_entry, None)
        set_model_issue(self.hass, self.config_entry, info.model)
        await self.desired.apply()
        self._store.async_delay_save(self._to_save, SAVE_DELAY_S)

    def _topics(self) -> Iterator[str]:
        """Name what enabled entities need; nobody else is to make the server send twice a second."""
        if any(self._is_enabled(subentry.subentry_id, KEY_TOP_SOUND, True) for subentry in self._subentries):
            yield "scores"
        if any(self._is_enabled(subentry.subentry_id, KEY_LEVEL, False) for subentry in self._subentries):
            yield "levels"

    def _is_enabled(self, subentry_id: str, key: str, default: bool) -> bool:
        registry = er.async_get(self.hass)
        entity_id = registry.async_get_entity_id(Platform.SENSOR, DOMAIN, f"{subentry_id}_{key}")
        if entity_id is None or (entity := registry.async_get(entity_id)) is None:
            return default
        return not entity.disabled

    @callback
    def _received(self, message: Message) -> None:
        match message:
            case ScoresMessage() | LevelMessage():
                for receiver in tuple(self._receivers[type(message), message.microphone_id]):
                    receiver(message)
            case ServerInfo():
                set_model_issue(self.hass, self.config_entry, message.model)
                data = self._next or ClapSoundData(message, {}, frozenset(), {})
                self._update(data.with_info(message))
            case MicrophonesMessage() if self._next is not None:
                self._update(self._next.with_microphones(message.microphones))
                self._check_labels()
            case MicrophoneMessage() if self._next is not None:
                self._update(self._next.with_status(message.microphone_id, message.status))
            case EventMessage():
                self._untold.append(message)
                if self._replayed and self._next is not None:
                    self._update(self._next.with_event(message))
                    self._tell()
            case ReplayedMessage() if self._next is not None:
                self._replay(self._next)

    def _replay(self, data: ClapSoundData) -> None:
        """Take in what was missed as a whole: what began and ended meanwhile turns no sensor on."""
        for message in self._untold:
            data = data.with_event(message)
        self._replayed = True
        if not self.last_update_success and self.data is not None:
            _LOGGER.info("The connection to %s is back", self.name)
        self._update(data)
        self._check_labels()
        self._tell()

    def _update(self, data: ClapSoundData) -> None:
        self._next = data
        if not self._replayed:
            return
        if self._first is not None:
            if not self._first.done():
                self._first.set_result(data)
            self.data = data
        else:
            self.async_set_updated_data(data)

    def _tell(self) -> None:
        """Pass on the events that started, each once."""
        if not (self._telling and self._replayed):
            return
        untold, self._untold = self._untold, []
        oldest = dt_util.utcnow() - MAX_EVENT_AGE
        for message in untold:
            if message.change == "started" and message.event.started_at > oldest:
                for receiver in tuple(self._receivers[EventInfo, message.event.microphone_id]):
                    receiver(message.event)
        if self._told_sequence != self.listener.last_sequence:
            self._told_sequence = self.listener.last_sequence
            self._store.async_delay_save(self._to_save, SAVE_DELAY_S)

    def _to_save(self) -> dict[str, Any]:
        return {"last_sequence": self._told_sequence, "adopted": sorted(self.desired.adopted)}

    @callback
    def _disconnected(self, error: ClapSoundError) -> None:
        self._replayed = False
        if isinstance(error, ApiVersionError):
            set_version_issue(self.hass, self.config_entry, error)
        if isinstance(error, ClapSoundAuthenticationError):
            failure: Exception = ConfigEntryAuthFailed(
                translation_domain=DOMAIN, translation_key="invalid_auth"
            )
            if self._first is None:
                # In the first attempt the setup itself asks for a new token.
                self.config_entry.async_start_reauth(self.hass)
        else:
            failure = self._update_failed(str(error))
        if self._first is None:
            self.async_set_update_error(failure)
        elif not self._first.done():
            self._first.set_exception(failure)

    def _update_failed(self, detail: str) -> UpdateFailed:
        return UpdateFailed(
            translation_domain=DOMAIN,
            translation_key="cannot_connect",
            translation_placeholders={"address": str(self.client.url), "detail": detail},
        )

    def _watched_labels(self) -> dict[str, frozenset[str]]:
        identifiers = {microphone_id(subentry) for subentry in self._subentries}
        return {
            identifier: frozenset(label.id for label in microphone.labels)
            for identifier, microphone in self.data.microphones.items()
            if identifier in identifiers
        }

    def _check_labels(self) -> None:
        """Set up again when a microphone that was refused is there, or its labels are others."""
        if self._telling and self._replayed and self._watched_labels() != self._labels_set_up:
            self._labels_set_up = self._watched_labels()
            self.hass.config_entries.async_schedule_reload(self.config_entry.entry_id)

    def _watch_cameras(self) -> None:
        """Declare a camera's microphone again when the camera comes back: its address may be another."""
        cameras = {
            subentry.data[CONF_CAMERA] for subentry in self._subentries if CONF_CAMERA in subentry.data
        }
        if not cameras:
            return

        @callback
        def changed(event: Event[EventStateChangedData]) -> None:
            absent = (None, STATE_UNAVAILABLE, STATE_UNKNOWN)
            old, new = event.data["old_state"], event.data["new_state"]
            if (old and old.state) in absent and (new and new.state) not in absent:
                self._declare_again()

        @callback
        def started(_: HomeAssistant) -> None:
            self._declare_again()

        self.config_entry.async_on_unload(async_track_state_change_event(self.hass, cameras, changed))
        if self.hass.state is not CoreState.running:
            self.config_entry.async_on_unload(async_at_started(self.hass, started))

    def _declare_again(self) -> None:
        self.config_entry.async_create_background_task(
            self.hass, self._apply_desired(), name=f"clap_sound cameras {self.config_entry.title}"
        )

    async def _apply_desired(self) -> None:
        try:
            await self.desired.apply()
        except ClapSoundError as error:
            # Nothing is lost: it is declared at the next connect anyway.
            _LOGGER.debug("Could not declare the microphones now: %s", error)
