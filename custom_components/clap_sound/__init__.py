"""CLAP Sound: a server that listens to microphones tells Home Assistant what it hears."""

import logging
from typing import TYPE_CHECKING

from homeassistant.const import CONF_HOST, CONF_PORT, CONF_SSL, CONF_TOKEN, CONF_VERIFY_SSL, Platform
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.aiohttp_client import async_get_clientsession

from .cameras import CameraWatch
from .client import ClapSoundClient, ClapSoundError
from .clip_view import ClipView
from .const import DOMAIN, SUBENTRY_MICROPHONE
from .coordinator import ClapSoundConfigEntry, ClapSoundCoordinator
from .desired import DesiredState
from .entity import remove_stale_entities
from .issues import clear_issues
from .listened import SAVE_DELAY_S, listening_store
from .services import async_setup_services
from .telling import async_when_automations_listen, store

if TYPE_CHECKING:
    from homeassistant.helpers.typing import ConfigType

    from .client.models import ServerInfo

_LOGGER = logging.getLogger(__name__)

PLATFORMS = (
    Platform.BINARY_SENSOR,
    Platform.BUTTON,
    Platform.EVENT,
    Platform.SENSOR,
    Platform.SWITCH,
)
CONFIG_SCHEMA = cv.config_entry_only_config_schema(DOMAIN)


def _client(hass: HomeAssistant, entry: ClapSoundConfigEntry) -> ClapSoundClient:
    data = entry.data
    return ClapSoundClient(
        async_get_clientsession(hass, verify_ssl=data.get(CONF_VERIFY_SSL, True)),
        data[CONF_HOST],
        data[CONF_PORT],
        data[CONF_TOKEN],
        tls=data.get(CONF_SSL, False),
    )


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Offer the recordings of events, and the actions."""
    hass.http.register_view(ClipView)
    async_setup_services(hass)
    return True


async def async_setup_entry(hass: HomeAssistant, entry: ClapSoundConfigEntry) -> bool:
    """Connect to a server and set up its microphones."""
    coordinator = ClapSoundCoordinator(hass, entry, _client(hass, entry))
    await coordinator.async_config_entry_first_refresh()
    entry.runtime_data = coordinator
    _follow_server(hass, entry)
    _follow_labels(hass, entry)
    await _follow_listening(hass, entry)
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    cameras = CameraWatch(hass, entry, coordinator.async_declare_soon)
    _follow_settings(hass, entry, cameras)
    entry.async_on_unload(async_when_automations_listen(hass, coordinator.teller.start))
    return True


async def async_unload_entry(hass: HomeAssistant, entry: ClapSoundConfigEntry) -> bool:
    """Take the entities down; the connection ends with the entry."""
    # Events that come from here on are asked for again by the next run.
    entry.runtime_data.teller.stop()
    unloaded = await hass.config_entries.async_unload_platforms(entry, PLATFORMS)
    if unloaded:
        clear_issues(hass, entry)
    return unloaded


async def async_remove_entry(hass: HomeAssistant, entry: ClapSoundConfigEntry) -> None:
    """Leave nothing behind, on the server either."""
    clear_issues(hass, entry)
    await store(hass, entry.entry_id).async_remove()
    await listening_store(hass, entry.entry_id).async_remove()
    try:
        await DesiredState(hass, entry, _client(hass, entry)).release_all()
    except ClapSoundError as error:
        _LOGGER.warning(
            "%s could not be told that it is not wanted any more, remove its microphones there: %s",
            entry.title,
            error,
        )


def _follow_server(hass: HomeAssistant, entry: ClapSoundConfigEntry) -> None:
    """Keep the server's device as the server says that it is."""
    coordinator = entry.runtime_data
    shown: tuple[str, ServerInfo] | None = None

    @callback
    def show() -> None:
        nonlocal shown
        info = coordinator.data.info
        if shown == (entry.title, info):
            return
        shown = (entry.title, info)
        dr.async_get(hass).async_get_or_create(
            config_entry_id=entry.entry_id,
            identifiers={(DOMAIN, entry.entry_id)},
            entry_type=dr.DeviceEntryType.SERVICE,
            name=entry.title,
            manufacturer="CLAP Sound",
            model="Built-in model" if info.model.builtin else info.model.name,
            sw_version=info.version,
            configuration_url=str(coordinator.client.url),
        )

    show()
    entry.async_on_unload(coordinator.async_add_listener(show))


def _follow_labels(hass: HomeAssistant, entry: ClapSoundConfigEntry) -> None:
    """Remove the entities of labels that are taken off, before the platforms add those of new ones."""
    coordinator = entry.runtime_data
    watched: dict[str, tuple[str, ...]] = {}

    @callback
    def clean_up() -> None:
        nonlocal watched
        now = {
            identifier: tuple(label.id for label in microphone.labels)
            for identifier, microphone in coordinator.data.microphones.items()
        }
        if now != watched:
            watched = now
            remove_stale_entities(hass, entry)

    clean_up()
    entry.async_on_unload(coordinator.async_add_listener(clean_up))


async def _follow_listening(hass: HomeAssistant, entry: ClapSoundConfigEntry) -> None:
    """Keep in mind when each microphone listened, over restarts of Home Assistant, too."""
    coordinator, log = entry.runtime_data, entry.runtime_data.listened
    saved = listening_store(hass, entry.entry_id)
    log.restore(await saved.async_load() or {})

    @callback
    def note() -> None:
        if not coordinator.last_update_success:
            log.lost()
        elif log.note(coordinator.data.microphones):
            saved.async_delay_save(log.to_save, SAVE_DELAY_S)

    async def save() -> None:
        await saved.async_save(log.to_save())

    note()
    entry.async_on_unload(save)
    entry.async_on_unload(coordinator.async_add_listener(note))


def _follow_settings(hass: HomeAssistant, entry: ClapSoundConfigEntry, cameras: CameraWatch) -> None:
    """Take over what the user changes: microphones one by one, the connection by setting up again."""
    connection_data = dict(entry.data)

    async def changed(_: HomeAssistant, entry: ClapSoundConfigEntry) -> None:
        if entry.data != connection_data:
            await hass.config_entries.async_reload(entry.entry_id)
            return
        devices = dr.async_get(hass)
        for subentry in entry.get_subentries_of_type(SUBENTRY_MICROPHONE):
            device = devices.async_get_device_by_identifier((DOMAIN, subentry.subentry_id), entry.entry_id)
            if device is not None:
                devices.async_update_device(device.id, name=subentry.title)
        cameras.update()
        await entry.runtime_data.async_subentries_changed()

    entry.async_on_unload(entry.add_update_listener(changed))
