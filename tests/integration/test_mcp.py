"""A client of the Model Context Protocol asks Home Assistant's own server what was heard."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from homeassistant.components.homeassistant.exposed_entities import async_expose_entity
from homeassistant.setup import async_setup_component
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, TextContent
from pytest_homeassistant_custom_component.common import MockConfigEntry

from tests.integration.test_ask import KITCHEN, NAMES, put_into

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from homeassistant.core import HomeAssistant
    from pydantic import BaseModel
    from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

    from tests.integration.server import Peer


@pytest.fixture(autouse=True)
async def _mcp_server(hass: HomeAssistant) -> None:
    assert await async_setup_component(hass, "homeassistant", {})
    assert await async_setup_component(hass, "llm", {})
    data = {"llm_hass_api": ["assist"], "all_llm_apis": False, "require_admin": False}
    entry = MockConfigEntry(domain="mcp_server", data=data, version=1, minor_version=3)
    entry.add_to_hass(hass)
    assert await hass.config_entries.async_setup(entry.entry_id)


@asynccontextmanager
async def connected(hass_client: ClientSessionGenerator, token: str) -> AsyncIterator[ClientSession]:
    url = str((await hass_client()).make_url("/api/mcp/assist"))
    async with (
        httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http,
        streamable_http_client(url, http_client=http) as streams,
        # Version 2, which Home Assistant 2026.11 names, has two of them only.
        ClientSession(*streams[:2]) as session,
    ):
        await session.initialize()
        yield session


def as_sent(model: BaseModel) -> dict[str, Any]:
    """Return it with the names of the protocol, which the versions of the client spell differently."""
    return model.model_dump(by_alias=True)


def answer(result: CallToolResult) -> dict[str, Any]:
    (content,) = result.content
    assert isinstance(content, TextContent)
    told: dict[str, Any] = json.loads(content.text)
    return told


async def test_mcp_client_learns_whether_glass_broke(
    hass: HomeAssistant,
    peer: Peer,
    kitchen: str,
    hass_client: ClientSessionGenerator,
    hass_access_token: str,
) -> None:
    async_expose_entity(hass, "conversation", KITCHEN, should_expose=True)
    put_into(hass, KITCHEN, "Downstairs")
    await peer.start_event(kitchen, age=timedelta(hours=6), score=0.9)
    async with connected(hass_client, hass_access_token) as session:
        tools = {tool.name: tool for tool in (await session.list_tools()).tools if tool.name in NAMES}
        assert list(tools) == NAMES
        for tool in tools.values():
            annotations = as_sent(tool)["annotations"]
            assert annotations["readOnlyHint"] is True
            assert annotations["destructiveHint"] is False
        assert as_sent(tools[NAMES[0]])["inputSchema"]["properties"]["labels"]["type"] == "array"
        result = await session.call_tool(NAMES[0], {"labels": ["glass"], "area": "downstairs"})
        assert not as_sent(result)["isError"]
        (sound,) = answer(result)["sounds"]
        assert (sound["sound"], sound["area"], sound["score"]) == ("Glass breaking", "Downstairs", 0.9)
        assert sound["false_alarms_at_this_score"] == "about one false alarm a month"
        (now,) = answer(await session.call_tool(NAMES[1], {}))["microphones"]
        assert now["state"] == "listening"
        await peer.stop()
        result = await session.call_tool(NAMES[0], {})
        assert as_sent(result)["isError"]
        assert "does not answer" in answer(result)["error"]


async def test_mcp_client_is_offered_nothing_that_is_not_exposed(
    hass_client: ClientSessionGenerator, hass_access_token: str, kitchen: str
) -> None:
    assert kitchen
    async with connected(hass_client, hass_access_token) as session:
        tools = {tool.name for tool in (await session.list_tools()).tools}
        assert "llm__GetDateTime" in tools
        assert not tools & set(NAMES)
