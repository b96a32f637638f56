"""The integration's forms in Home Assistant, filled in over its API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scripts.harness.api import HomeAssistantError

if TYPE_CHECKING:
    from scripts.harness.api import HomeAssistantApi
    from scripts.harness.server import ServerProcess


class FlowError(HomeAssistantError):
    """A form showed an error, or another form than expected."""


async def entries(api: HomeAssistantApi) -> list[dict[str, Any]]:
    """Return the integration's config entries."""
    return list(await api.get("/api/config/config_entries/entry?domain=clap_sound"))


async def reload(api: HomeAssistantApi) -> None:
    """Load the integration's first config entry anew."""
    await api.post(f"/api/config/config_entries/entry/{(await entries(api))[0]['entry_id']}/reload")


async def add_server(api: HomeAssistantApi, answers: dict[str, Any]) -> str:
    """Set the integration up; returns the entry's id.

    Args:
        api: of Home Assistant.
        answers: what the form asks for.

    Raises:
        FlowError: the answers are not accepted.
    """
    path = "/api/config/config_entries/flow"
    flow = await api.post(path, {"handler": "clap_sound"})
    result = await api.post(f"{path}/{flow['flow_id']}", answers)
    if result["type"] != "create_entry":
        raise FlowError(f"adding the server: {result}")
    return str(result["result"]["entry_id"])


async def add_microphone(api: HomeAssistantApi, entry_id: str, *steps: dict[str, Any]) -> None:
    """Add a microphone, one answer a step.

    Raises:
        FlowError: an answer is not accepted.
    """
    path = "/api/config/config_entries/subentries/flow"
    flow = await api.post(path, {"handler": [entry_id, "microphone"]})
    for step in steps:
        flow = await api.post(f"{path}/{flow['flow_id']}", step)
    if flow["type"] != "create_entry":
        raise FlowError(f"adding a microphone: {flow}")


async def adopt_microphone(
    api: HomeAssistantApi,
    server: ServerProcess,
    microphone_id: str,
    source: dict[str, Any],
    labels: tuple[str, ...] = ("glass_breaking", "alarm"),
) -> None:
    """Make a microphone on the server, then adopt it in Home Assistant under its capitalised id.

    Args:
        api: of the Home Assistant to which the server was added.
        server: that gets the microphone.
        microphone_id: its id.
        source: as the server's API takes it.
        labels: what to listen for.
    """
    name = microphone_id.capitalize()
    settings = {"name": name, "source": source, "labels": [{"label": label} for label in labels]}
    await server.request("PUT", f"/api/microphones/{microphone_id}", json=settings)
    entry_id = (await entries(api))[0]["entry_id"]
    # The last step, the labels, is taken as it is proposed.
    await add_microphone(api, entry_id, {"name": name, "source": "server"}, {"microphone": microphone_id}, {})
