"""Server, Home Assistant and one demo microphone, from nothing to a sensor that turns on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import aiohttp

from scripts.demo.home import AUTOMATION, add_dashboard, furnish_microphone, has_dashboard
from scripts.demo.microphone import (
    GLASS_KEY,
    LABELS,
    MICROPHONE_ID,
    Registered,
    all_are_there,
    entities,
    find_microphone,
)
from scripts.demo.progress import step
from scripts.demo.recording import write_demo_recording
from scripts.harness.api import HomeAssistantError
from scripts.harness.configuration import REPOSITORY
from scripts.harness.flows import add_server, adopt_microphone, entries, reload
from scripts.harness.home_assistant import RESTART_EXIT_STATUS, HomeAssistantProcess
from scripts.harness.ports import check_port
from scripts.harness.process import ProcessError, end_with, together
from scripts.harness.server import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

ENTITIES_COME_S = 180
"""A slow machine takes half a minute."""


async def run_server_only(folder: Path, host: str, port: int, stop: asyncio.Event) -> int:
    """Run the server in the foreground; returns its exit status.

    Args:
        folder: its data folder; recordings that may be microphones lie in ``media`` in it.
        host: address to listen on.
        port: to listen on.
        stop: ends it.
    """
    check_port(host, port, "--port")
    media = _media_folder(folder)
    print(f"  The token: {token_command(folder)}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "clap_server", "serve", "--host", host, "--port", str(port)]
    command += ["--data", str(folder), "--media", str(media)]
    process = await asyncio.create_subprocess_exec(
        *command, start_new_session=True, preexec_fn=end_with(os.getpid())
    )
    ended = asyncio.create_task(process.wait())
    stopped: asyncio.Task[Any] = asyncio.create_task(stop.wait())
    await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        process.terminate()
    stopped.cancel()
    return await ended


def _media_folder(data: Path) -> Path:
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    media = data / "media"
    media.mkdir(exist_ok=True)
    return media


def token_command(data: Path) -> str:
    """The command that prints the token of the server with this data folder."""
    return shlex.join([str(REPOSITORY / "scripts" / "clap-server"), "token", "--data", str(data)])


class Demo:
    """The two programs, set up for each other.

    Args:
        session: for both APIs.
        folder: for everything that is stored.
        host: address to listen on.
        port: of the server.
        home_assistant_port: of Home Assistant.
    """

    def __init__(
        self, session: aiohttp.ClientSession, folder: Path, host: str, port: int, home_assistant_port: int
    ) -> None:
        # Both programs reach each other here even when they listen on every address.
        self._reach = "127.0.0.1" if host in {"0.0.0.0", "::"} else host
        # A demonstration neither downloads 600 MB nor changes its model meanwhile, unless that is asked for.
        model = os.environ.get("CLAP_MODEL") or "builtin"
        self.server = ServerProcess(
            session,
            folder / "server",
            host=host,
            port=port,
            options=("--model", model),
            reach=self._reach,
        )
        self.home_assistant = HomeAssistantProcess(
            session, folder / "home-assistant", host=host, port=home_assistant_port, reach=self._reach
        )
        self.api = self.home_assistant.api
        self._subentry_id: str | None = None
        self._ours: dict[str, bool] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Start both, set them up where that was not done before, follow the sensors until ``stop``.

        Raises:
            ProcessError: one of them does not start, or ended by itself.
        """
        check_port(self.server.host, self.server.port, "--port")
        check_port(self.home_assistant.host, self.home_assistant.port, "--home-assistant-port")
        self.home_assistant.prepare([AUTOMATION])
        try:
            await _unless_stopped(self._start_and_follow(), stop)
        finally:
            async with step("stopping Home Assistant and the server"):
                await asyncio.gather(self.home_assistant.stop(), self.server.stop())

    async def _start_and_follow(self) -> None:
        async with step("starting the server and Home Assistant"):
            breaks_s = await asyncio.to_thread(write_demo_recording, self.server.media / "demo.flac")
            # Started together: each spends its first seconds importing.
            await together(self.server.start_and_wait(), self.home_assistant.start_and_wait())
        if not (found := await entries(self.api)):
            async with step("adding the server to Home Assistant"):
                answers = {"host": self._reach, "port": self.server.port, "token": self.server.token}
                await add_server(self.api, answers)
        elif found[0]["state"] == "setup_retry":
            # Home Assistant was there first, and would try again only after some time.
            await reload(self.api)
        try:
            await self._have_microphone()
            self._print_addresses(about=await self._about_microphone(breaks_s))
        except (HomeAssistantError, aiohttp.ClientError, TimeoutError) as error:
            # What a user has changed there must not keep both programs from starting.
            self._print_addresses(about=self._about_missing_microphone(error))
        await together(self._keep_home_assistant(), self._watch_server(), self._print_changes())

    async def _have_microphone(self) -> None:
        """Add the demo microphone where it is missing, and wait for its entities.

        Raises:
            HomeAssistantError: it cannot be added.
            TimeoutError: its entities do not come.
        """
        entry_id = (await entries(self.api))[0]["entry_id"]
        new = await find_microphone(self.api, entry_id) is None
        if new:
            async with step("adding the demo microphone to Home Assistant"):
                source = {"type": "file", "path": "demo.flac", "loop": True}
                await adopt_microphone(self.api, self.server, MICROPHONE_ID, source, LABELS)
        self._subentry_id = await find_microphone(self.api, entry_id)
        async with step("waiting for the microphone"):
            await self._wait_for_entities()
        first = not await has_dashboard(self.api)
        if not new and not first:
            return
        async with step("setting up its room and the start page"):
            if await furnish_microphone(self.api, await self._entities()):
                await self.home_assistant.stop()
                await self.home_assistant.start_and_wait()
                await self._wait_for_entities()
            if first:
                await add_dashboard(self.api)

    async def _wait_for_entities(self) -> None:
        async with asyncio.timeout(ENTITIES_COME_S):
            await self.home_assistant.until(self._entities_are_there)

    async def _entities_are_there(self) -> bool:
        return await all_are_there(self.api, await self._entities())

    async def _entities(self) -> dict[str, Registered]:
        return await entities(self.api, self._subentry_id) if self._subentry_id else {}

    async def _about_microphone(self, breaks_s: list[float]) -> str:
        at = " and ".join(f"{break_s:.0f}" for break_s in breaks_s)
        glass = (await self._entities()).get(GLASS_KEY)
        sensor = f"{glass.entity_id} turns on and an" if glass and not glass.disabled_by else "An"
        return f"""\
  The demo microphone plays a recording that this project synthesised, over and over; glass breaks {at}
  seconds after its start. {sensor} automation raises a
  notification. What the sensors do shows below; Ctrl-C ends it all."""

    def _about_missing_microphone(self, error: Exception) -> str:
        reason = str(error) or "its entities do not come"
        return f"""\
  The demo microphone is not there in Home Assistant ({reason}):
  look at Settings, Devices & services, CLAP Sound there. Ctrl-C ends it all."""

    def _print_addresses(self, *, about: str) -> None:
        print(
            f"""
  Home Assistant  {self.home_assistant.url}
                  user name {self.home_assistant.user_name}, password {self.home_assistant.password}
  Server's page   {self.server.url}
                  token {self.server.token}
                  (again: {token_command(self.server.data)})

{about}
""",
            flush=True,
        )

    async def _watch_server(self) -> None:
        await self.server.wait()
        raise ProcessError(f"{self.server.name} ended by itself; its log is {self.server.log}")

    async def _keep_home_assistant(self) -> None:
        """Start Home Assistant again when its user restarts it."""
        while await self.home_assistant.wait() == RESTART_EXIT_STATUS:
            async with step("starting Home Assistant again"):
                await self.home_assistant.start_and_wait()
        raise ProcessError(
            f"{self.home_assistant.name} ended by itself; its log is {self.home_assistant.log}"
        )

    async def _print_changes(self) -> None:
        """Print what the demo's binary sensors do, over all restarts of Home Assistant."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, HomeAssistantError):
                async for change in self.api.state_changes():
                    old, new = change["old_state"], change["new_state"]
                    if new and old and turned(old, new) and await self._is_ours(change["entity_id"]):
                        print(f"{datetime.now():%X}  {describe(new)}", flush=True)  # noqa: DTZ005 - the user's own clock
            await asyncio.sleep(1)

    async def _is_ours(self, entity_id: str) -> bool:
        """Whether a binary sensor is one of the demo's device, whatever its user calls it."""
        if not entity_id.startswith("binary_sensor."):
            return False
        if entity_id not in self._ours:
            ours = {entity.entity_id for entity in (await self._entities()).values()}
            self._ours[entity_id] = entity_id in ours
        return self._ours[entity_id]


async def _unless_stopped(job: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """Run a job until it ends or ``stop`` is set."""
    running, stopped = asyncio.create_task(job), asyncio.create_task(stop.wait())
    await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
    for task in (running, stopped):
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def turned(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether a binary sensor turned on or, from on, off."""
    if new["state"] == "off":
        return bool(old["state"] == "on")
    return bool(new["state"] == "on" and old["state"] != "on")


def describe(state: dict[str, Any]) -> str:
    """Return a line on a binary sensor's new state, with score and delay where it turned on."""
    line = f"{state['entity_id']} turned {state['state']}"
    attributes = state["attributes"]
    if state["state"] == "on" and attributes.get("started_at"):
        onset = datetime.fromisoformat(attributes["started_at"])
        delay_s = (datetime.fromisoformat(state["last_changed"]) - onset).total_seconds()
        line += f", score {attributes.get('score', 0):.2f}, {delay_s:.2f} s after the onset"
    return line
