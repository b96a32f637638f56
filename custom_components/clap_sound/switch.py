"""A hard mute of a microphone."""

from typing import TYPE_CHECKING, Any, override

from homeassistant.components.switch import SwitchEntity
from homeassistant.exceptions import HomeAssistantError

from .client import ClapSoundError, InvalidRequestError
from .const import DOMAIN, KEY_MUTE
from .entity import ClapSoundEntity, add_entities_of_microphones
from .errors import cannot_connect

if TYPE_CHECKING:
    from homeassistant.config_entries import ConfigSubentry
    from homeassistant.core import HomeAssistant
    from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

    from .coordinator import ClapSoundConfigEntry

PARALLEL_UPDATES = 1


async def async_setup_entry(
    hass: HomeAssistant,
    entry: ClapSoundConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    add_entities_of_microphones(entry, async_add_entities, lambda subentry: [Mute(entry, subentry)])


class Mute(ClapSoundEntity, SwitchEntity):
    """On while the server does not listen to the microphone at all.

    The server remembers it: it stays muted whatever else is changed here, and without Home Assistant.
    """

    def __init__(self, entry: ClapSoundConfigEntry, subentry: ConfigSubentry) -> None:
        super().__init__(entry, subentry, KEY_MUTE)
        self._microphone_name = subentry.title

    @property
    @override
    def is_on(self) -> bool:
        return self.is_muted

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        await self._mute(muted=True)

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        await self._mute(muted=False)

    async def _mute(self, *, muted: bool) -> None:
        client = self.coordinator.client
        try:
            microphone = await client.mute_microphone(self._microphone_id, muted=muted)
        except InvalidRequestError as error:
            raise HomeAssistantError(
                translation_domain=DOMAIN,
                translation_key="mute_refused",
                translation_placeholders={"microphone": self._microphone_name, "detail": error.detail},
            ) from error
        except ClapSoundError as error:
            raise cannot_connect(client, error) from error
        self.coordinator.async_set_updated_data(self.coordinator.data.with_microphone(microphone))
