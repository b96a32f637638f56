"""`scripts/run` as its user meets it: in a browser. These tests run in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import expect

from scripts.demo.home import AUTOMATION_ENTITY, DASHBOARD, GLASS, LEVEL, STATUS
from scripts.demo.microphone import find_microphone
from scripts.harness.api import HomeAssistantApi
from scripts.harness.configuration import REPOSITORY
from scripts.harness.flows import entries
from scripts.harness.home_assistant import environment_is_ready
from scripts.harness.ports import free_port
from scripts.harness.process import Process
from scripts.harness.recorder import StateRecorder
from tests.e2e.conftest import PATIENCE_S
from tests.support.browser import real_browser
from tests.support.requirements import require

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Page, WebSocket

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]

expect.set_options(timeout=PATIENCE_S * 1000)

SCREENSHOTS = os.environ.get("CLAP_SCREENSHOTS")
"""Folder to which the pictures of the documentation are written, if it is given."""

HARMLESS = {
    # No user made the first dashboard of this Home Assistant, so there is no configuration of it.
    ("lovelace/config", "config_not_found"),
    # A page that is left ends a subscription that Home Assistant has ended already.
    ("unsubscribe_events", "not_found"),
}
"""What the front end of any Home Assistant is refused."""


REMEMBER_PLAYERS = """
    window.players = [];
    window.Audio = class extends Audio {
        constructor(...address) {
            super(...address);
            players.push(this);
        }
    };
"""
"""The front end's player is no part of the page, so a script notes it when it is made."""


@dataclass(frozen=True)
class RunningDemo:
    """The demo in a process of its own.

    Attributes:
        process: of ``scripts.demo``.
        api: of its Home Assistant, signed in.
        password: of its user.
        log: of its Home Assistant.
    """

    process: Process
    api: HomeAssistantApi
    password: str
    log: Path


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def demo(
    session: aiohttp.ClientSession, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningDemo]:
    require(environment_is_ready(), "Home Assistant's environment is missing: scripts/setup home-assistant")
    folder: Path = tmp_path_factory.mktemp("demo")
    port, home_assistant_port = await free_port(), await free_port()
    command = [sys.executable, "-m", "scripts.demo", "--data", str(folder / "data")]
    command += ["--port", str(port), "--home-assistant-port", str(home_assistant_port)]
    process = Process("demo", command, folder / "demo.log", {"PYTHONPATH": str(REPOSITORY)})
    async with process:

        async def is_ready() -> bool:
            return "Ctrl-C ends it all" in process.log.read_text()

        try:
            # Its parts have their own limits; it tells when they are over.
            await process.until(is_ready, idle_s=600)
            api = HomeAssistantApi(session, f"http://127.0.0.1:{home_assistant_port}")
            password = (folder / "data" / "home-assistant" / "demo-password").read_text()
            await api.sign_in("demo", password)
            yield RunningDemo(process, api, password, folder / "data" / "home-assistant" / "output.log")
        finally:
            # pytest shows it only when a test fails.
            sys.stderr.write(process.log_tail(100))
            for log in sorted((folder / "data").glob("*/*.log")):
                sys.stderr.write(f"\n--- {log.name}\n{log.read_text()[-10_000:]}\n")


@dataclass
class Complaints:
    """What a page's front end was refused, and its own errors."""

    refused: list[tuple[str, str]] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("websocket", self._follow)

    def _follow(self, socket: WebSocket) -> None:
        commands: dict[int, str] = {}

        def sent(frame: str | bytes) -> None:
            for message in _messages(frame):
                if "id" in message:
                    commands[message["id"]] = message["type"]
                    self.asked.add(message["type"])

        def received(frame: str | bytes) -> None:
            for message in _messages(frame):
                if message.get("type") == "result" and not message["success"]:
                    self.refused.append((commands[message["id"]], message["error"]["code"]))

        socket.on("framesent", sent)
        socket.on("framereceived", received)


def _messages(frame: str | bytes) -> list[dict[str, Any]]:
    document = json.loads(frame)
    return document if isinstance(document, list) else [document]


@contextlib.asynccontextmanager
async def signed_in(demo: RunningDemo) -> AsyncIterator[tuple[Page, Complaints]]:
    """A browser whose user has just signed in."""
    # A click of a test is no gesture of a user, without which sound is not played.
    async with real_browser("--autoplay-policy=no-user-gesture-required") as browser:
        page = await browser.new_page(viewport={"width": 1440, "height": 760})
        page.set_default_timeout(PATIENCE_S * 1000)
        await page.add_init_script(REMEMBER_PLAYERS)
        complaints = Complaints()
        complaints.watch(page)
        await page.goto(demo.api.url)
        await page.locator("input[name=username]").fill("demo")
        await page.locator("input[name=password]").fill(demo.password)
        await page.keyboard.press("Enter")
        yield page, complaints


async def screenshot(page: Page, name: str) -> None:
    if SCREENSHOTS:
        await page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")


async def test_home_assistant_answers_all_that_its_front_end_asks_at_load(demo: RunningDemo) -> None:
    for command in (
        {"type": "get_config"},
        {"type": "get_services"},
        {"type": "get_panels"},
        {"type": "get_states"},
        {"type": "auth/current_user"},
        {"type": "frontend/get_themes"},
        {"type": "frontend/get_icons", "category": "services"},
        {"type": "frontend/get_translations", "language": "en", "category": "services"},
        {"type": "config/area_registry/list"},
        {"type": "config/device_registry/list"},
        {"type": "config/entity_registry/list_for_display"},
        {"type": "lovelace/config", "url_path": DASHBOARD},
        {"type": "repairs/list_issues"},
    ):
        assert await demo.api.command(command), command
    services = await demo.api.command({"type": "get_services"})
    assert "create" in services["persistent_notification"]


async def test_start_page_is_drawn_and_shows_what_is_heard(demo: RunningDemo) -> None:
    async with signed_in(demo) as (page, complaints):
        await page.wait_for_url(f"**/{DASHBOARD}/**")
        for text in ("Living Room", "Sounds most like", "Tell me when glass breaks"):
            await expect(page.get_by_text(text).first).to_be_visible()
        await expect(page.locator("hui-gauge-card")).to_be_visible()
        glass = page.locator("hui-tile-card", has_text="Glass breaking").filter(has_text="Detected")
        await expect(glass.first).to_be_visible()
        await expect(page.get_by_role("link", name="Play the recordings")).to_be_visible()
        if SCREENSHOTS:
            await asyncio.sleep(180)  # until the graphs and the list are full
            await expect(glass).to_have_count(0)
            await expect(glass.first).to_be_visible()
            await asyncio.sleep(2)  # until the needle has come to rest
        await screenshot(page, "demo")
        assert "get_services" in complaints.asked
        assert set(complaints.refused) <= HARMLESS
        assert complaints.errors == []


async def test_device_page_shows_the_sensor_turning_on(demo: RunningDemo) -> None:
    status = await demo.api.command({"type": "config/entity_registry/get", "entity_id": STATUS})
    async with signed_in(demo) as (page, complaints):
        await page.wait_for_url(f"**/{DASHBOARD}/**")
        await page.goto(f"{demo.api.url}/config/devices/device/{status['device_id']}")
        await expect(page.get_by_text("Living Room").first).to_be_visible()
        row = page.locator("hui-simple-entity-row", has_text="Glass breaking")
        await expect(row.filter(has_text="Clear")).to_be_visible()
        await expect(row.filter(has_text="Detected")).to_be_visible()
        await screenshot(page, "device")
        assert set(complaints.refused) <= HARMLESS
        assert complaints.errors == []


async def test_recording_plays_in_the_browser(demo: RunningDemo) -> None:
    async with signed_in(demo) as (page, _):
        await page.get_by_role("link", name="Play the recordings").click()
        await page.get_by_text(re.compile(r"^Glass breaking, Demo")).first.click()
        # It lasts at least the three seconds before the sound and the sound.
        await page.wait_for_function("() => players.some((one) => one.currentTime > 0.5 && one.duration > 3)")


async def test_automation_was_triggered_and_tells_where_glass_broke(demo: RunningDemo) -> None:
    state = await demo.api.state(AUTOMATION_ENTITY)
    assert state is not None
    assert state["attributes"]["last_triggered"]
    told = await demo.api.command({"type": "persistent_notification/get"})
    assert ["Glass is breaking" in notification["title"] for notification in told] == [True]
    assert told[0]["message"].startswith("Heard in the living room at ")


async def test_nothing_that_home_assistant_loads_is_missing(demo: RunningDemo) -> None:
    log = demo.log.read_text()
    assert "Skipping pip installation" in log
    assert [line for line in log.splitlines() if " ERROR " in line or "No module named" in line] == []


async def test_restart_from_within_home_assistant_comes_back_without_ending_the_demo(
    demo: RunningDemo,
) -> None:
    with contextlib.suppress(aiohttp.ClientError):
        await demo.api.post("/api/services/homeassistant/restart")

    async def is_back() -> bool:
        return "starting Home Assistant again: " in demo.process.log.read_text() and await demo.api.answers()

    await demo.process.until(is_back, idle_s=600)
    await demo.api.sign_in("demo", demo.password)
    async with StateRecorder(demo.api) as recorder:
        await recorder.until(GLASS, lambda change: change.new == "on", timeout_s=PATIENCE_S)


async def test_first_minutes_are_calm(demo: RunningDemo) -> None:
    log = demo.log.read_text()
    assert "Reloading configuration entries because disabled_by changed" not in log
    # Right after the restart it may not be known yet.
    async with StateRecorder(demo.api) as recorder:
        level = await recorder.until(
            LEVEL, lambda change: change.new not in {None, "unknown", "unavailable"}, timeout_s=PATIENCE_S
        )
    assert level.new is not None
    assert float(level.new) < 0


async def test_ctrl_c_ends_it_all_in_good_order(demo: RunningDemo) -> None:
    entry_id = (await entries(demo.api))[0]["entry_id"]
    microphone = {"entry_id": entry_id, "subentry_id": await find_microphone(demo.api, entry_id)}
    await demo.api.command({"type": "config_entries/subentries/delete", **microphone})
    demo.process.send_signal(signal.SIGINT)
    assert await demo.process.wait() == 0
    assert not await demo.api.answers()
    assert "Traceback" not in demo.process.log.read_text()


async def test_demo_whose_microphone_was_removed_has_it_again_at_the_next_start(demo: RunningDemo) -> None:
    before = len(demo.process.log.read_text())

    async def is_ready() -> bool:
        return "Ctrl-C ends it all" in demo.process.log.read_text()[before:]

    await demo.process.start()
    await demo.process.until(is_ready, idle_s=600)
    await demo.api.sign_in("demo", demo.password)

    async def has_told() -> bool:
        return f"{GLASS} turned on" in demo.process.log.read_text()[before:]

    await demo.process.until(has_told, idle_s=PATIENCE_S)


async def test_closed_terminal_ends_it_all(demo: RunningDemo) -> None:
    demo.process.send_signal(signal.SIGHUP)
    assert await demo.process.wait() == 0
    assert not await demo.api.answers()


async def test_port_in_use_is_told_in_a_sentence(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        command = [sys.executable, "-m", "scripts.demo", "--data", str(tmp_path), "--port", str(port)]
        process = await asyncio.create_subprocess_exec(
            *command, cwd=REPOSITORY, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        out, told = await process.communicate()
    assert process.returncode == 1
    assert out == b""
    assert told.decode().startswith(f"error: cannot listen on 127.0.0.1:{port}")
    assert told.count(b"\n") == 1
