"""Adding a server, changing its address and token; every error can be mended in the form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from homeassistant.config_entries import SOURCE_USER, ConfigEntryState
from homeassistant.data_entry_flow import FlowResultType

from custom_components.clap_sound.const import DOMAIN
from tests.integration.conftest import entry_data, make_entry, microphone_data, until
from tests.integration.server import TOKEN, Peer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from homeassistant.config_entries import ConfigFlowResult
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry


@pytest.fixture
async def other() -> AsyncIterator[Peer]:
    server = Peer()
    await server.start()
    yield server
    await server.stop()


async def begin(hass: HomeAssistant) -> str:
    result = await hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
    assert result["type"] is FlowResultType.FORM
    assert not result["errors"]
    return result["flow_id"]


def suggested(result: ConfigFlowResult) -> dict[str, Any]:
    """Return what the form shows as already entered."""
    schema = result["data_schema"]
    assert schema is not None
    return {
        str(key): key.description["suggested_value"]
        for key in schema.schema
        if key.description and "suggested_value" in key.description
    }


async def test_host_port_and_token_are_enough_and_the_first_microphone_comes_next(
    hass: HomeAssistant, peer: Peer
) -> None:
    flow_id = await begin(hass)
    result = await hass.config_entries.flow.async_configure(
        flow_id, {"host": "127.0.0.1", "port": peer.port, "token": TOKEN}
    )
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["title"] == "CLAP Sound (127.0.0.1)"
    assert result["data"] == entry_data(peer)
    entry = result["result"]
    assert entry.unique_id == peer.server_id
    assert entry.state is ConfigEntryState.LOADED
    kind, next_flow_id = result["next_flow"]
    assert kind == "config_subentries_flow"
    assert hass.config_entries.subentries.async_get(next_flow_id)["step_id"] == "user"


@pytest.mark.parametrize("form", ["http://127.0.0.1:{port}/", "http://127.0.0.1:{port}", " 127.0.0.1 "])
async def test_pasted_address_is_understood(hass: HomeAssistant, peer: Peer, form: str) -> None:
    flow_id = await begin(hass)
    port = peer.port if "port" not in form else 7860
    result = await hass.config_entries.flow.async_configure(
        flow_id, {"host": form.format(port=peer.port), "port": port, "token": f" {TOKEN}\n"}
    )
    assert result["data"] == entry_data(peer)


@pytest.mark.parametrize("host", ["http://", "", "not a host", "a/b", "rtsp:///"])
async def test_host_that_is_none_is_explained(hass: HomeAssistant, host: str) -> None:
    flow_id = await begin(hass)
    result = await hass.config_entries.flow.async_configure(
        flow_id, {"host": host, "port": 7860, "token": TOKEN}
    )
    assert result["errors"] == {"host": "invalid_host"}


async def test_every_error_keeps_the_input_and_can_be_mended(hass: HomeAssistant, peer: Peer) -> None:
    flow_id = await begin(hass)
    right = entry_data(peer)

    async def submit(**changes: Any) -> ConfigFlowResult:
        entered = {**right, **changes}
        result = await hass.config_entries.flow.async_configure(flow_id, entered)
        if result["type"] is FlowResultType.FORM:
            assert suggested(result) == entered
        return result

    result = await submit(port=1)
    assert result["errors"] == {"base": "cannot_connect"}
    assert result["description_placeholders"]["address"] == "http://127.0.0.1:1"
    assert result["description_placeholders"]["detail"] == "connection refused"
    result = await submit(ssl=True)
    assert result["errors"] == {"base": "cannot_connect"}
    assert result["description_placeholders"]["detail"] == "it does not speak TLS"
    result = await submit(token="wrong")
    assert result["errors"] == {"base": "invalid_auth"}
    peer.api_version = 2
    result = await submit()
    assert result["errors"] == {"base": "wrong_version"}
    assert result["description_placeholders"]["server_version"] == "2"
    assert result["description_placeholders"]["client_version"] == "1"
    peer.api_version = 1
    result = await submit()
    assert result["type"] is FlowResultType.CREATE_ENTRY


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"status": 200, "text": "<html>a router</html>"}, "not_clap_server"),
        ({"status": 200, "text": "[1, 2]"}, "not_clap_server"),
        ({"status": 200, "text": '{"api_version": 1}'}, "not_clap_server"),
        ({"status": 200, "text": '{"version": 1}'}, "not_clap_server"),
        ({"status": 404, "text": "404: Not Found"}, "not_clap_server"),
        ({"status": 302, "headers": {"Location": "/login"}}, "not_clap_server"),
        ({"status": 403, "text": "no"}, "invalid_auth"),
        ({"status": 500, "text": "oh"}, "cannot_connect"),
    ],
)
async def test_something_else_at_that_address_is_told_apart(
    hass: HomeAssistant, peer: Peer, answer: dict[str, Any], error: str
) -> None:
    flow_id = await begin(hass)
    peer.answer_everything_with = web.Response(**answer)
    result = await hass.config_entries.flow.async_configure(flow_id, entry_data(peer))
    assert result["errors"] == {"base": error}


async def test_same_server_is_not_added_twice(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry
) -> None:
    flow_id = await begin(hass)
    result = await hass.config_entries.flow.async_configure(flow_id, entry_data(peer))
    assert result["reason"] == "already_configured"
    assert hass.config_entries.async_entries(DOMAIN) == [entry]


async def test_reconfigure_moves_to_another_address_and_keeps_the_token(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry
) -> None:
    await peer.stop()
    peer.port = 0
    await peer.start()
    result = await entry.start_reconfigure_flow(hass)
    assert "token" not in suggested(result)
    assert suggested(result)["host"] == "127.0.0.1"
    wrong = {"host": "127.0.0.1", "port": 1}
    result = await hass.config_entries.flow.async_configure(result["flow_id"], wrong)
    assert result["errors"] == {"base": "cannot_connect"}
    result = await hass.config_entries.flow.async_configure(
        result["flow_id"], {"host": "127.0.0.1", "port": peer.port}
    )
    assert result["reason"] == "reconfigure_successful"
    await until(hass, lambda: entry.state is ConfigEntryState.LOADED and peer.subscriptions)
    assert entry.data == entry_data(peer)


async def test_reconfigure_to_another_server_is_refused(
    hass: HomeAssistant, entry: MockConfigEntry, other: Peer
) -> None:
    result = await entry.start_reconfigure_flow(hass)
    result = await hass.config_entries.flow.async_configure(
        result["flow_id"], {"host": "127.0.0.1", "port": other.port, "token": TOKEN}
    )
    assert result["reason"] == "unique_id_mismatch"


async def test_reauth_after_failed_setup_sets_up_again(hass: HomeAssistant, peer: Peer) -> None:
    peer.token = "new"
    entry = make_entry(hass, peer, microphone_data())
    assert not await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_ERROR
    (flow,) = hass.config_entries.flow.async_progress()
    result = await hass.config_entries.flow.async_configure(flow["flow_id"], {"token": "wrong"})
    assert result["errors"] == {"base": "invalid_auth"}
    result = await hass.config_entries.flow.async_configure(flow["flow_id"], {"token": "new"})
    assert result["reason"] == "reauth_successful"
    await hass.async_block_till_done()
    assert entry.state is ConfigEntryState.LOADED
    assert entry.data["token"] == "new"


async def test_reauth_with_the_token_of_another_server_is_refused(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry
) -> None:
    result = await entry.start_reauth_flow(hass)
    assert result["step_id"] == "reauth_confirm"
    peer.server_id = "another"
    result = await hass.config_entries.flow.async_configure(result["flow_id"], {"token": TOKEN})
    assert result["reason"] == "unique_id_mismatch"
