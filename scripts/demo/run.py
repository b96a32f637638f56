"""Server, Home Assistant and one demo microphone, from nothing to a sensor that turns on."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import aiohttp

from scripts.demo.home import AUTOMATION, EVENT, GLASS, LABELS, MICROPHONE_ID, STATUS, furnish
from scripts.demo.progress import step
from scripts.demo.recording import write_demo_recording
from scripts.harness.flows import add_server, adopt_microphone, entries, reload
from scripts.harness.home_assistant import RESTART_EXIT_STATUS, HomeAssistantProcess
from scripts.harness.ports import check_port
from scripts.harness.process import ProcessError, together
from scripts.harness.server import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path


async def run_server_only(folder: Path, host: str, port: int, stop: asyncio.Event) -> int:
    """Run the server in the foreground; returns its exit status."""
    check_port(host, port, "--port")
    command = [sys.executable, "-m", "clap_server", "serve", "--host", host, "--port", str(port)]
    command += ["--data", str(folder / "server" / "data"), "--media", str(folder / "server" / "media")]
    process = await asyncio.create_subprocess_exec(*command, start_new_session=True)
    ended = asyncio.create_task(process.wait())
    stopped: asyncio.Task[Any] = asyncio.create_task(stop.wait())
    await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        process.terminate()
    stopped.cancel()
    return await ended


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
        self._reach = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
        self.server = ServerProcess(session, folder / "server", host=host, port=port, reach=self._reach)
        self.home_assistant = HomeAssistantProcess(
            session, folder / "home-assistant", host=host, port=home_assistant_port, reach=self._reach
        )
        self.api = self.home_assistant.api

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
        found = await entries(self.api)
        if not found:
            async with step("adding the server and the demo microphone to Home Assistant"):
                await self._set_up()
        elif found[0]["state"] == "setup_retry":
            # Home Assistant was there first, and would try again only after some time.
            await reload(self.api)
        async with step("waiting for the microphone"):
            await self.home_assistant.until(self._entities_are_there)
            await furnish(self.api)
            await self.home_assistant.until(self._entities_are_there)
        self._print_addresses(breaks_s)
        await together(self._keep_home_assistant(), self._watch_server(), self._print_changes())

    async def _set_up(self) -> None:
        answers = {"host": self._reach, "port": self.server.port, "token": self.server.token}
        await add_server(self.api, answers)
        source = {"type": "file", "path": "demo.flac", "loop": True}
        await adopt_microphone(self.api, self.server, MICROPHONE_ID, source, LABELS)

    async def _entities_are_there(self) -> bool:
        states = [await self.api.state(entity_id) for entity_id in (GLASS, EVENT, STATUS)]
        return all(state is not None and state["state"] != "unavailable" for state in states)

    def _print_addresses(self, breaks_s: list[float]) -> None:
        at = " and ".join(f"{break_s:.0f}" for break_s in breaks_s)
        print(
            f"""
  Home Assistant  {self.home_assistant.url}
                  user name {self.home_assistant.user_name}, password {self.home_assistant.password}
  Server's page   {self.server.url}
                  token {self.server.token}

  The demo microphone plays a recording that this project synthesised, over and over; glass breaks {at}
  seconds after its start. {GLASS} turns on and an automation raises a
  notification. What the sensors do shows below; Ctrl-C ends it all.
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
            with contextlib.suppress(aiohttp.ClientError):
                async for change in self.api.state_changes():
                    old, new = change["old_state"], change["new_state"]
                    if not new or not old or new["state"] == old["state"]:
                        continue
                    if change["entity_id"].startswith("binary_sensor.demo_") and new["state"] in {
                        "on",
                        "off",
                    }:
                        print(f"{datetime.now():%X}  {describe(new)}", flush=True)  # noqa: DTZ005 - the user's own clock
            await asyncio.sleep(1)


async def _unless_stopped(job: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """Run a job until it ends or ``stop`` is set."""
    running, stopped = asyncio.create_task(job), asyncio.create_task(stop.wait())
    await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
    for task in (running, stopped):
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def describe(state: dict[str, Any]) -> str:
    """Return a line on a binary sensor's new state, with score and delay where it turned on."""
    line = f"{state['entity_id']} turned {state['state']}"
    attributes = state["attributes"]
    if state["state"] == "on" and attributes.get("started_at"):
        onset = datetime.fromisoformat(attributes["started_at"])
        delay_s = (datetime.fromisoformat(state["last_changed"]) - onset).total_seconds()
        line += f", score {attributes.get('score', 0):.2f}, {delay_s:.2f} s after the onset"
    return line
