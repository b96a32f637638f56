"""Tests on request whether a microphone finds a sound."""

from typing import TYPE_CHECKING, override

from homeassistant.components import persistent_notification
from homeassistant.components.button import ButtonEntity
from homeassistant.const import EntityCategory
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.translation import async_get_translations

from .client import ClapSoundError, InvalidRequestError
from .const import DOMAIN, KEY_SELF_TEST
from .entity import ClapSoundEntity, add_entities_of_microphones
from .errors import cannot_connect

if TYPE_CHECKING:
    from homeassistant.config_entries import ConfigSubentry
    from homeassistant.core import HomeAssistant
    from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

    from .client.models import SelfTestResult
    from .coordinator import ClapSoundConfigEntry

PARALLEL_UPDATES = 1


async def async_setup_entry(
    hass: HomeAssistant,
    entry: ClapSoundConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    add_entities_of_microphones(entry, async_add_entities, lambda subentry: [SelfTest(entry, subentry)])


class SelfTest(ClapSoundEntity, ButtonEntity):
    """Has the server mix a sound into a copy of the microphone's; no event comes of it."""

    _attr_entity_category = EntityCategory.DIAGNOSTIC

    def __init__(self, entry: ClapSoundConfigEntry, subentry: ConfigSubentry) -> None:
        super().__init__(entry, subentry, KEY_SELF_TEST)
        self._microphone_name = subentry.title

    @override
    async def async_press(self) -> None:
        """Test the first sound that can be made, and show the figures."""
        client = self.coordinator.client
        try:
            result = await client.self_test(self._microphone_id)
        except InvalidRequestError as error:
            raise self._error("self_test_impossible", error.detail) from error
        except ClapSoundError as error:
            raise cannot_connect(client, error) from error
        if result.outcome != "found":
            raise self._error("self_test_failed", result.words)
        await self._show(result)

    def _error(self, key: str, detail: str) -> HomeAssistantError:
        return HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key=key,
            translation_placeholders={"microphone": self._microphone_name, "detail": detail},
        )

    async def _show(self, result: SelfTestResult) -> None:
        texts = await async_get_translations(self.hass, self.hass.config.language, "common", {DOMAIN})
        prefix = f"component.{DOMAIN}.common"
        persistent_notification.async_create(
            self.hass,
            texts[f"{prefix}.self_test_found"].format(
                sound=result.name,
                score=f"{result.score:.2f}",
                threshold=f"{result.threshold:.2f}",
                delay_s=f"{result.delay_s:.1f}",
                level_dbfs=f"{result.level_dbfs:.0f}",
                noise_floor_dbfs=f"{result.noise_floor_dbfs:.0f}",
            ),
            texts[f"{prefix}.self_test_title"].format(microphone=self._microphone_name),
            f"{DOMAIN}_self_test_{self._microphone_id}",
        )
