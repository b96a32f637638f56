"""What one server tells, for the entities."""

import asyncio
import logging
from typing import override

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import ConfigEntryAuthFailed
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
from .client.keeper import ConnectionKeeper
from .client.messages import (
    EventClipMessage,
    EventConfirmedMessage,
    EventMessage,
    LevelMessage,
    Message,
    MicrophoneChangedMessage,
    MicrophoneMessage,
    MicrophoneRemovedMessage,
    ScoresMessage,
)
from .client.models import ServerInfo
from .const import DOMAIN, SUBENTRY_MICROPHONE
from .data import ClapSoundData, Heard
from .desired import DesiredState, microphone_id
from .issues import set_server_issues, set_version_issue
from .listened import ListeningLog
from .signals import levels_signal, scores_signal
from .telling import EventTeller, Position, is_old
from .topics import wanted_topics

_LOGGER = logging.getLogger(__name__)

type ClapSoundConfigEntry = ConfigEntry[ClapSoundCoordinator]


def _auth_failed() -> ConfigEntryAuthFailed:
    return ConfigEntryAuthFailed(translation_domain=DOMAIN, translation_key="invalid_auth")


class ClapSoundCoordinator(DataUpdateCoordinator[ClapSoundData]):
    """Keeps what a server tells, and passes it on.

    State (``data``) is updated for all listeners at once. Scores and levels go to the entities by
    dispatcher signals, events by way of the teller.
    """

    config_entry: ClapSoundConfigEntry

    def __init__(self, hass: HomeAssistant, entry: ClapSoundConfigEntry, client: ClapSoundClient) -> None:
        super().__init__(hass, _LOGGER, config_entry=entry, name=entry.title, update_interval=None)
        self.client = client
        self.desired = DesiredState(hass, entry, client)
        self.teller = EventTeller(hass, entry)
        self.listened = ListeningLog()
        # A connect, a camera that comes back and a changed microphone may come at once.
        self._declaring = asyncio.Lock()
        self._keeper = ConnectionKeeper(entry.title, self)

    @property
    def is_connected(self) -> bool:
        return self._keeper.connected

    @override
    async def _async_setup(self) -> None:
        """Connect where the last run got to, and declare the microphones."""
        await self.teller.load()
        try:
            connection = await self._keeper.connect()
            self.config_entry.async_create_background_task(
                self.hass, self._keeper.stay_connected(connection), f"clap_sound connection {self.name}"
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
        if not self.is_connected:
            raise self._update_failed(ClapSoundConnectionError("not connected"))
        return self.data

    @override
    async def async_shutdown(self) -> None:
        await super().async_shutdown()
        await self.teller.save()

    async def async_declare(self) -> None:
        """Make the server's microphones what the subentries say; without a connection, the next one does it.

        Raises:
            ClapSoundError: the server does not answer.
        """
        async with self._declaring:
            if not self.is_connected:
                return
            for microphone in await self.desired.apply(self.data.microphones):
                # What is known already came by the connection, and is newer than this answer.
                if self.is_connected and microphone.id not in self.data.microphones:
                    self.async_set_updated_data(self.data.with_microphone(microphone))

    @callback
    def async_declare_soon(self) -> None:
        """Declare the microphones in the background."""

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
        # A new microphone may be the first whose scores are wanted.
        self._keeper.subscribe_anew(wanted_topics(self.hass, self.config_entry))

    # --- the connection ---

    async def open_connection(self) -> Connection:
        """Open a connection that begins where the teller got to."""
        after = self.teller.received
        return await Connection.open(
            self.client,
            after=after.sequence if after else None,
            epoch=after.epoch if after else None,
            event_id=after.event_id if after else None,
            topics=wanted_topics(self.hass, self.config_entry),
        )

    @callback
    def connected(self, connection: Connection) -> None:
        """Take in what a connection begins with: what began and ended meanwhile turns no sensor on."""
        is_first = self.data is None
        self.last_exception = None
        set_version_issue(self.hass, self.config_entry, None)
        info = connection.info
        set_server_issues(self.hass, self.config_entry, info)
        latest = {} if is_first else self.data.latest
        data = ClapSoundData.of_server(info, connection.microphones, latest)
        # All of it is news: it begins after what was received, or anew, where numbers mean other changes now.
        for message in connection.missed:
            heard = Heard(message.event, late=is_old(message.event))
            lost_its_end = message.change == "started" and message.event.id not in connection.active
            if message.sequence <= info.last_sequence or lost_its_end:
                # Whether its label still sounds the microphones tell, which are newer.
                data = data.with_latest(message.change, heard)
            else:
                data = data.with_event(message.change, heard)
            self._tell(info.epoch, message, heard)
        if connection.last_sequence is not None:
            self.teller.take(Position(info.epoch, connection.last_sequence))
        self.async_set_updated_data(data)
        if not is_first:
            self.async_declare_soon()

    @callback
    def lost(self, error: ClapSoundError) -> None:
        """Show that there is no connection, and ask for a new token if that is why."""
        if isinstance(error, ApiVersionError):
            set_version_issue(self.hass, self.config_entry, error)
        if isinstance(error, ClapSoundAuthenticationError):
            self.last_exception = _auth_failed()
        else:
            self.last_exception = self._update_failed(error)
        if self.last_update_success:
            self.last_update_success = False
            self.async_update_listeners()
        if isinstance(error, ClapSoundAuthenticationError):
            self.config_entry.async_start_reauth(self.hass)

    def _update_failed(self, error: ClapSoundError) -> UpdateFailed:
        return UpdateFailed(
            translation_domain=DOMAIN,
            translation_key="cannot_connect",
            translation_placeholders={"address": str(self.client.url), "detail": str(error)},
        )

    # --- what the server tells ---

    @callback
    def received(self, message: Message) -> None:
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
            case EventConfirmedMessage() | EventClipMessage():
                self.async_set_updated_data(self.data.with_confirmed(message.event))

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
