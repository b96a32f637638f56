"""Server, Home Assistant and one demo microphone, from nothing to a sensor that turns on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

from scripts.demo.home_assistant import HomeAssistantProcess
from scripts.demo.process import ProcessError
from scripts.demo.recording import write_demo_recording
from scripts.demo.server import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

MICROPHONE_ID = "demo"
GLASS = "binary_sensor.demo_glass_breaking"

AUTOMATION = {
    "id": "clap_sound_demo",
    "alias": "Tell me when glass breaks",
    "triggers": [{"trigger": "state", "entity_id": GLASS, "from": "off", "to": "on"}],
    "actions": [
        {
            "action": "persistent_notification.create",
            "data": {
                "notification_id": "glass_breaking",
                "title": "Glass is breaking",
                "message": "Heard by {{ device_attr(trigger.entity_id, 'name') }}"
                " at {{ now().strftime('%X') }}, score {{ state_attr(trigger.entity_id, 'score') }}.",
            },
        }
    ],
    "mode": "single",
}


class PortInUseError(Exception):
    """Another program listens on a port that is needed."""


async def adopt_microphone(
    home_assistant: HomeAssistantProcess, server: ServerProcess, microphone_id: str, source: dict[str, Any]
) -> None:
    """Make a microphone on the server, then adopt it in Home Assistant's flow under its capitalised id.

    Args:
        home_assistant: to which the server was added.
        server: that gets the microphone.
        microphone_id: its id.
        source: as the API takes it.
    """
    name = microphone_id.capitalize()
    settings = {"name": name, "source": source, "labels": [{"label": "glass_breaking"}, {"label": "alarm"}]}
    await server.request("PUT", f"/api/microphones/{microphone_id}", json=settings)
    entry_id = (await home_assistant.entries())[0]["entry_id"]
    # The last step, the labels, is taken as it is proposed.
    await home_assistant.add_microphone(
        entry_id, {"name": name, "source": "server"}, {"microphone": microphone_id}, {}
    )


def check_port(host: str, port: int, option: str) -> None:
    """Raise PortInUseError, naming the option that chooses another, if ``port`` is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            message = f"cannot listen on {host}:{port} ({error.strerror}); choose another port with {option}"
            raise PortInUseError(message) from None


def step(text: str) -> None:
    """Print what is done at this moment."""
    print(f"==> {text}", flush=True)


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
        reach = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
        self.server = ServerProcess(session, folder / "server", host=host, port=port)
        self.server.url = f"http://{reach}:{port}"
        self.home_assistant = HomeAssistantProcess(
            session, folder / "home-assistant", host=host, port=home_assistant_port
        )
        self.home_assistant.url = f"http://{reach}:{home_assistant_port}"
        self._reach = reach

    async def run(self, stop: asyncio.Event) -> None:
        """Start both, set them up where that was not done before, follow the sensors until ``stop``.

        Raises:
            ProcessError: one of them does not start, or ended by itself.
        """
        check_port(self.server.host, self.server.port, "--port")
        check_port(self.home_assistant.host, self.home_assistant.port, "--home-assistant-port")
        self.home_assistant.prepare([AUTOMATION])
        step("synthesising the demo recording")
        breaks_s = await asyncio.to_thread(write_demo_recording, self.server.media / "demo.flac")
        stopped: asyncio.Task[Any] = asyncio.create_task(stop.wait())
        try:
            # Started together: each spends its first seconds importing.
            started = asyncio.create_task(self._start())
            await asyncio.wait({started, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not started.done():
                started.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await started
                return
            started.result()
            self._print_addresses(breaks_s)
            await self._follow(stopped)
        finally:
            stopped.cancel()
            step("stopping Home Assistant and the server")
            await asyncio.gather(self.home_assistant.stop(), self.server.stop())

    async def _start(self) -> None:
        step("starting the server and Home Assistant (about 15 seconds)")
        async with asyncio.TaskGroup() as group:
            group.create_task(self.server.start_and_wait())
            group.create_task(self.home_assistant.start_and_wait())
        if not await self.home_assistant.entries():
            step("adding the server and the demo microphone to Home Assistant")
            await self._set_up()
        await self.home_assistant.until(self._sensor_is_there, 60)

    async def _set_up(self) -> None:
        await self.home_assistant.add_server(
            {"host": self._reach, "port": self.server.port, "token": self.server.token}
        )
        await adopt_microphone(
            self.home_assistant,
            self.server,
            MICROPHONE_ID,
            {"type": "file", "path": "demo.flac", "loop": True},
        )

    async def _sensor_is_there(self) -> bool:
        state = await self.home_assistant.state(GLASS)
        return state is not None and state["state"] != "unavailable"

    def _print_addresses(self, breaks_s: list[float]) -> None:
        at = ", ".join(f"{break_s:.0f} s" for break_s in breaks_s)
        print(
            f"""
  Home Assistant  {self.home_assistant.url}
                  user name {self.home_assistant.user_name}, password {self.home_assistant.password}
  Server's page   {self.server.url}
                  token {self.server.token}

  The demo microphone plays a recording that this project synthesised, over and over; glass breaks
  {at} after its start. {GLASS} turns on and an automation
  raises a notification. What the sensors do shows below; Ctrl-C ends it all.
""",
            flush=True,
        )

    async def _follow(self, stopped: asyncio.Task[Any]) -> None:
        """Print what the demo's binary sensors do until ``stopped``."""
        follower = asyncio.create_task(self._print_changes())
        ends = [asyncio.create_task(process.wait()) for process in (self.server, self.home_assistant)]
        try:
            await asyncio.wait([stopped, follower, *ends], return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                return
            for process in (self.server, self.home_assistant):
                if not process.running:
                    raise ProcessError(
                        f"{process.name} ended by itself. The end of its log:\n{process.log_tail()}"
                    )
            follower.result()
        finally:
            for task in (follower, *ends):
                task.cancel()

    async def _print_changes(self) -> None:
        async for change in self.home_assistant.state_changes():
            old, new = change["old_state"], change["new_state"]
            if not new or not old or new["state"] == old["state"]:
                continue
            if change["entity_id"].startswith("binary_sensor.demo_") and new["state"] in {"on", "off"}:
                print(f"{datetime.now():%X}  {describe(new)}", flush=True)  # noqa: DTZ005 - the user's own clock


def describe(state: dict[str, Any]) -> str:
    """Return a line on a binary sensor's new state, with score and delay where it turned on."""
    line = f"{state['entity_id']} turned {state['state']}"
    attributes = state["attributes"]
    if state["state"] == "on" and attributes.get("started_at"):
        onset = datetime.fromisoformat(attributes["started_at"])
        delay_s = (datetime.fromisoformat(state["last_changed"]) - onset).total_seconds()
        line += f", score {attributes.get('score', 0):.2f}, {delay_s:.2f} s after the onset"
    return line
