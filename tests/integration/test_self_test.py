"""The button tests a microphone and shows what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from homeassistant.components.persistent_notification import _async_get_or_create_notifications
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import entity_registry as er

from clap_server.api.schemas import SelfTestResult
from tests.integration.conftest import make_entry, microphone_data

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant

    from tests.integration.server import Peer

BUTTON = "button.kitchen_self_test"


def result(outcome: str = "found", **changes: Any) -> SelfTestResult:
    found: dict[str, Any] = {
        "label_id": "glass_breaking",
        "name": "Glass breaking",
        "mode": "digital",
        "outcome": outcome,
        "words": "not found: Glass breaking 0.62, under its threshold 0.70",
        "score": 0.98,
        "threshold": 0.7,
        "delay_s": 0.24,
        "level_dbfs": -28.2,
        "noise_floor_dbfs": -58.2,
        "live_score": 0.01,
    }
    return SelfTestResult.model_validate(found | changes)


async def press(hass: HomeAssistant) -> None:
    await hass.services.async_call("button", "press", {"entity_id": BUTTON}, blocking=True)


@pytest.mark.usefixtures("kitchen")
async def test_found_sound_is_shown_with_its_figures(hass: HomeAssistant, peer: Peer) -> None:
    entity = er.async_get(hass).async_get(BUTTON)
    assert entity is not None
    assert entity.entity_category == "diagnostic"
    peer.self_test = result()
    await press(hass)
    await press(hass)
    (shown,) = _async_get_or_create_notifications(hass).values()
    assert shown["title"] == "Self-test of Kitchen"
    assert shown["message"] == (
        "Glass breaking was found 0.2 s after its onset, with a score of 0.98 (threshold 0.70). The test"
        " sound was mixed in at -28 dBFS, over a noise floor of -58 dBFS. It was a test: no event came of it."
    )


async def test_figures_are_shown_in_the_users_language(hass: HomeAssistant, peer: Peer) -> None:
    hass.config.language = "zh-Hans"
    config_entry = make_entry(hass, peer, microphone_data())
    assert await hass.config_entries.async_setup(config_entry.entry_id)
    await hass.async_block_till_done()
    (button,) = hass.states.async_entity_ids("button")
    peer.self_test = result()
    await hass.services.async_call("button", "press", {"entity_id": button}, blocking=True)
    (shown,) = _async_get_or_create_notifications(hass).values()
    assert shown["title"] == "Kitchen 的自检"
    assert "0.98" in shown["message"]


@pytest.mark.usefixtures("kitchen")
@pytest.mark.parametrize(
    ("answer", "key", "words"),
    [
        (
            result("not_found", score=0.62, delay_s=None),
            "self_test_failed",
            "not found: Glass breaking 0.62, under its threshold 0.70",
        ),
        (
            result("unclear", words="unclear: test again when it is quiet"),
            "self_test_failed",
            "when it is quiet",
        ),
        (
            "The microphone is not listening: stalled",
            "self_test_impossible",
            "The microphone is not listening: stalled",
        ),
    ],
)
async def test_failure_is_told_in_the_servers_words(
    hass: HomeAssistant, peer: Peer, answer: SelfTestResult | str, key: str, words: str
) -> None:
    peer.self_test = answer
    with pytest.raises(HomeAssistantError, match="Kitchen") as caught:
        await press(hass)
    assert caught.value.translation_key == key
    assert words in str(caught.value)
    assert _async_get_or_create_notifications(hass) == {}


@pytest.mark.usefixtures("kitchen")
async def test_server_that_does_not_answer_is_told(hass: HomeAssistant, peer: Peer) -> None:
    await peer.stop()
    with pytest.raises(HomeAssistantError) as caught:
        await hass.data["entity_components"]["button"].get_entity(BUTTON).async_press()
    assert caught.value.translation_key == "cannot_connect"
