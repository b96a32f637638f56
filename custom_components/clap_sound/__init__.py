"""CLAP Sound: a server that listens to microphones tells Home Assistant what it hears."""

import logging
from typing import TYPE_CHECKING

from homeassistant.const import CONF_HOST, CONF_PORT, CONF_SSL, CONF_TOKEN, CONF_VERIFY_SSL, Platform
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.aiohttp_client import async_get_clientsession

from .client import ClapSoundClient, ClapSoundError
from .clip import ClipView
from .const import DOMAIN
from .coordinator import ClapSoundConfigEntry, ClapSoundCoordinator, store
from .desired import DesiredState, microphone_id
from .entity import expected_unique_ids
from .issues import clear_issues

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from homeassistant.helpers.typing import ConfigType

_LOGGER = logging.getLogger(__name__)

PLATFORMS = (Platform.BINARY_SENSOR, Platform.EVENT, Platform.SENSOR)
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


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:  # noqa: ARG001 - Home Assistant's signature
    """Offer the recordings of events."""
    hass.http.register_view(ClipView)
    return True


async def async_setup_entry(hass: HomeAssistant, entry: ClapSoundConfigEntry) -> bool:
    """Connect to a server and set up its microphones."""
    coordinator = ClapSoundCoordinator(hass, entry, _client(hass, entry))
    await coordinator.async_config_entry_first_refresh()
    entry.runtime_data = coordinator
    info = coordinator.data.info
    dr.async_get(hass).async_get_or_create(
        config_entry_id=entry.entry_id,
        identifiers={(DOMAIN, entry.entry_id)},
        entry_type=dr.DeviceEntryType.SERVICE,
        name=entry.title,
        manufacturer="CLAP Sound",
        model=info.model.name,
        sw_version=info.version,
        configuration_url=str(coordinator.client.url),
    )
    _remove_stale_entities(hass, entry)
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    coordinator.async_start_telling()
    entry.async_on_unload(entry.add_update_listener(_reload))
    return True


async def async_unload_entry(hass: HomeAssistant, entry: ClapSoundConfigEntry) -> bool:
    """Take the entities down; the connection ends with the entry."""
    # Events that come from here on are asked for again by the next run.
    entry.runtime_data.async_stop_telling()
    return await hass.config_entries.async_unload_platforms(entry, PLATFORMS)


async def async_remove_entry(hass: HomeAssistant, entry: ClapSoundConfigEntry) -> None:
    """Leave nothing behind, on the server either."""
    clear_issues(hass, entry)
    saved = await store(hass, entry.entry_id).async_load()
    await store(hass, entry.entry_id).async_remove()
    adopted = set(saved["adopted"]) if saved else set()
    try:
        await DesiredState(hass, entry, _client(hass, entry), adopted).release_all()
    except ClapSoundError as error:
        _LOGGER.warning(
            "%s could not be told that it is not wanted any more, remove its microphones there: %s",
            entry.title,
            error,
        )


async def _reload(hass: HomeAssistant, entry: ClapSoundConfigEntry) -> None:
    """Set up again after the entry or one of its microphones changed."""
    await hass.config_entries.async_reload(entry.entry_id)


def _remove_stale_entities(hass: HomeAssistant, entry: ClapSoundConfigEntry) -> None:
    """Remove the entities of labels that are no longer watched."""
    registry = er.async_get(hass)
    known = entry.runtime_data.data.microphones
    expected = expected_unique_ids(entry)
    for entity in er.async_entries_for_config_entry(registry, entry.entry_id):
        subentry = entry.subentries.get(entity.config_subentry_id or "")
        # Of a microphone that the server refuses nothing is known, and nothing is removed.
        if subentry and microphone_id(subentry) in known and entity.unique_id not in expected:
            registry.async_remove(entity.entity_id)
