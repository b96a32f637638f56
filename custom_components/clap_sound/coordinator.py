"""The connection to one server, and what it tells, for the entities."""

import asyncio
import logging
from typing import override

from homeassistant.config_entries import ConfigEntry
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import ConfigEntryAuthFailed
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.dispatcher import async_dispatcher_send
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator, UpdateFailed

from .client import (
    ApiVersionError,
    ClapSoundAuthenticationError,
    ClapSoundClient,
    ClapSoundConnectionError,
    ClapSoundError,
    Connection,
)
from .client.backoff import Backoff
from .client.messages import (
    EventMessage,
    LevelMessage,
    Message,
    MicrophoneChangedMessage,
    MicrophoneMessage,
    MicrophoneRemovedMessage,
    ScoresMessage,
)
from .client.models import ServerInfo
from .const import DOMAIN, KEY_LEVEL, KEY_TOP_SOUND, SUBENTRY_MICROPHONE
from .data import ClapSoundData, Heard
from .desired import DesiredState, microphone_id
from .issues import set_server_issues, set_version_issue
from .signals import levels_signal, scores_signal
from .telling import EventTeller, Position, is_old

_LOGGER = logging.getLogger(__name__)

type ClapSoundConfigEntry = ConfigEntry[ClapSoundCoordinator]

STABLE_AFTER_S = 30.0
"""A connection that lasts so long is no chance hit: it is back, and the next pause is short again."""


def _auth_failed() -> ConfigEntryAuthFailed:
    return ConfigEntryAuthFailed(translation_domain=DOMAIN, translation_key="invalid_auth")


class ClapSoundCoordinator(DataUpdateCoordinator[ClapSoundData]):
    """Keeps the connection to one server, and passes on what it tells.

    State (``data``) is updated for all listeners at once. Scores and levels go to the entities by
    dispatcher signals, events by way of the teller.
    """

    config_entry: ClapSoundConfigEntry

    def __init__(self, hass: HomeAssistant, entry: ClapSoundConfigEntry, client: ClapSoundClient) -> None:
        super().__init__(hass, _LOGGER, config_entry=entry, name=entry.title, update_interval=None)
        self.client = client
        self.desired = DesiredState(hass, entry, client)
        self.teller = EventTeller(hass, entry)
        self._connection: Connection | None = None
        self._following: asyncio.Timeout | None = None
        self._backoff = Backoff()
        self._said_that_it_is_gone = False

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @override
    async def _async_setup(self) -> None:
        """Connect where the last run got to, and declare the microphones."""
        await self.teller.load()
        try:
            connection = await self._connect()
            self.config_entry.async_create_background_task(
                self.hass, self._stay_connected(connection), f"clap_sound connection {self.name}"
            )
            await self.async_declare()
        except ClapSoundAuthenticationError as error:
            raise _auth_failed() from error
        except ClapSoundError as error:
            if isinstance(error, ApiVersionError):
                set_version_issue(self.hass, self.config_entry, error)
            raise self._update_failed(error) from error

    @override
    async def _async_update_data(self) -> ClapSoundData:
        if not self.connected:
            raise self._update_failed(ClapSoundConnectionError("not connected"))
        return self.data

    @override
    async def async_shutdown(self) -> None:
        await super().async_shutdown()
        await self.teller.save()

    async def async_declare(self) -> None:
        """Make the server's microphones what the subentries say.

        Raises:
            ClapSoundError: the server does not answer.
        """
        for microphone in await self.desired.apply():
            # What is known already came by the connection, and is newer than this answer.
            if self.connected and microphone.id not in self.data.microphones:
                self.async_set_updated_data(self.data.with_microphone(microphone))

    @callback
    def async_declare_soon(self) -> None:
        """Declare the microphones in the background; without a server, the next connect does it anyway."""

        async def declare() -> None:
            try:
                await self.async_declare()
            except ClapSoundError as error:
                _LOGGER.debug("Could not declare the microphones of %s now: %s", self.name, error)

        self.config_entry.async_create_background_task(
            self.hass, declare(), f"clap_sound microphones {self.name}"
        )

    async def async_subentries_changed(self) -> None:
        """Take over what changed in the microphones; the entities of all others stay as they are."""
        try:
            await self.async_declare()
        except ClapSoundError as error:
            _LOGGER.debug("Could not declare the microphones of %s now: %s", self.name, error)
        self.async_update_listeners()
        if self._following and self._connection and self._connection.topics != self._topics():
            # A new microphone may be the first whose scores are wanted, which takes a new connection.
            self._following.reschedule(0)

    # --- the connection ---

    async def _connect(self) -> Connection:
        after = self.teller.received
        connection = await Connection.open(
            self.client,
            after=after.sequence if after else None,
            epoch=after.epoch if after else None,
            event_id=after.event_id if after else None,
            topics=self._topics(),
        )
        self._connection = connection
        self.last_exception = None
        set_version_issue(self.hass, self.config_entry, None)
        self._take_in(connection)
        return connection

    def _take_in(self, connection: Connection) -> None:
        """Take in what a connection begins with: what began and ended meanwhile turns no sensor on."""
        info = connection.info
        set_server_issues(self.hass, self.config_entry, info)
        data = ClapSoundData.of_server(
            info, connection.microphones, self.data.latest if self.data is not None else {}
        )
        # All of it is news: it begins after what was received, or anew, where numbers mean other changes now.
        for message in connection.missed:
            heard = Heard(message.event, late=is_old(message.event))
            if message.sequence > info.last_sequence:
                data = data.with_event(message.change, heard)
            else:
                # Whether it still sounds the microphones tell, which are newer.
                data = data.with_latest(message.change, heard)
            self._tell(info.epoch, message, heard)
        if connection.last_sequence is not None:
            self.teller.take(Position(info.epoch, connection.last_sequence))
        self.async_set_updated_data(data)

    async def _stay_connected(self, connection: Connection | None) -> None:
        """Follow a connection and make a new one whenever it ends; stops when the token is refused."""
        while True:
            try:
                await self._follow(connection or await self._connect_again())
            except ClapSoundAuthenticationError as error:
                self._lost(error)
                self.config_entry.async_start_reauth(self.hass)
                return
            except ClapSoundError as error:
                self._lost(error)
            except Exception:
                _LOGGER.exception("Following %s failed, connecting again", self.name)
                self._lost(ClapSoundConnectionError("internal error, see the log"))
            connection = None

    async def _follow(self, connection: Connection) -> None:
        """Pass on what happens until the connection breaks, or is given up to subscribe anew."""
        stable = self.hass.loop.call_later(STABLE_AFTER_S, self._stable)
        try:
            async with connection, asyncio.timeout(None) as self._following:
                async for message in connection:
                    self._received(message)
        except TimeoutError:
            _LOGGER.debug("Subscribing to %s anew", self.name)
        finally:
            stable.cancel()
            self._following = None

    async def _connect_again(self) -> Connection:
        """Connect after a pause, unless the last connection was closed only to subscribe anew."""
        if self.last_exception is not None:
            await asyncio.sleep(self._backoff.next_s())
        connection = await self._connect()
        self.async_declare_soon()
        return connection

    @callback
    def _stable(self) -> None:
        self._backoff.reset()
        if self._said_that_it_is_gone:
            self._said_that_it_is_gone = False
            _LOGGER.info("The connection to %s is back", self.name)

    def _lost(self, error: ClapSoundError) -> None:
        self._connection = None
        if not self._said_that_it_is_gone:
            self._said_that_it_is_gone = True
            _LOGGER.warning("No connection to %s, trying again: %s", self.name, error)
        if isinstance(error, ApiVersionError):
            set_version_issue(self.hass, self.config_entry, error)
        if isinstance(error, ClapSoundAuthenticationError):
            self.last_exception = _auth_failed()
        else:
            self.last_exception = self._update_failed(error)
        if self.last_update_success:
            self.last_update_success = False
            self.async_update_listeners()

    def _update_failed(self, error: ClapSoundError) -> UpdateFailed:
        return UpdateFailed(
            translation_domain=DOMAIN,
            translation_key="cannot_connect",
            translation_placeholders={"address": str(self.client.url), "detail": str(error)},
        )

    def _topics(self) -> frozenset[str]:
        """Name what enabled entities need; nobody else is to make the server send twice a second."""
        wanted = {"scores": (KEY_TOP_SOUND, True), "levels": (KEY_LEVEL, False)}
        subentries = self.config_entry.get_subentries_of_type(SUBENTRY_MICROPHONE)
        identifiers = [subentry.subentry_id for subentry in subentries]
        return frozenset(
            topic
            for topic, (key, default) in wanted.items()
            if any(self._is_enabled(subentry_id, key, default) for subentry_id in identifiers)
        )

    def _is_enabled(self, subentry_id: str, key: str, default: bool) -> bool:
        registry = er.async_get(self.hass)
        entity_id = registry.async_get_entity_id(Platform.SENSOR, DOMAIN, f"{subentry_id}_{key}")
        if entity_id is None or (entity := registry.async_get(entity_id)) is None:
            return default
        return not entity.disabled

    # --- what the server tells ---

    @callback
    def _received(self, message: Message) -> None:
        entry_id = self.config_entry.entry_id
        match message:
            case ScoresMessage():
                async_dispatcher_send(self.hass, scores_signal(entry_id, message.microphone_id), message)
            case LevelMessage():
                async_dispatcher_send(self.hass, levels_signal(entry_id, message.microphone_id), message)
            case ServerInfo():
                set_server_issues(self.hass, self.config_entry, message)
                self.async_set_updated_data(self.data.with_info(message))
            case MicrophoneMessage():
                self.async_set_updated_data(self.data.with_status(message.microphone_id, message.status))
            case MicrophoneChangedMessage():
                self.async_set_updated_data(self.data.with_microphone(message.microphone))
            case MicrophoneRemovedMessage():
                self._removed(message.microphone_id)
            case EventMessage():
                self._event(message)

    def _removed(self, identifier: str) -> None:
        self.async_set_updated_data(self.data.without_microphone(identifier))
        subentries = self.config_entry.get_subentries_of_type(SUBENTRY_MICROPHONE)
        if any(microphone_id(subentry) == identifier for subentry in subentries):
            # Somebody removed on the server what is wanted here.
            self.async_declare_soon()

    def _event(self, message: EventMessage) -> None:
        epoch = self.data.info.epoch
        for new in self.teller.new(epoch, [message]):
            # It comes as it happens, whatever the server's clock says.
            heard = Heard(new.event, late=False)
            self.async_set_updated_data(self.data.with_event(new.change, heard))
            self._tell(epoch, new, heard)

    def _tell(self, epoch: str, message: EventMessage, heard: Heard) -> None:
        position = Position(epoch, message.sequence, message.event.id)
        self.teller.take(position, heard if message.change == "started" else None)
