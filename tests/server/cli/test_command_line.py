from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

import clap_server
from clap_server.cli.serve import _serve
from clap_server.errors import ConfigurationError
from clap_server.settings import default_data_dir, load_settings
from clap_server.store.folder import DataFolder
from tests.support.command_line import run_command
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tuple(os.environ):
        if name.startswith("CLAP_"):
            monkeypatch.delenv(name)


@pytest.fixture
def _logging_as_before() -> Iterator[None]:
    """A server in the test's own process sets logging up for good."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def _end(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run a command in this process to its end; returns its status and what it complained of."""
    return run_command(*arguments), capsys.readouterr().err


@contextmanager
def _serving(log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "clap_server", "serve", "--host", "127.0.0.1", *arguments], stderr=output
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def _ready(log: Path) -> str:
    """Wait for the server; returns its address."""
    await until(lambda: "Ready" in log.read_text(), 100)
    return _address(log)


def _address(log: Path) -> str:
    [address] = re.findall(r"Listening on (\S+)", log.read_text())
    return str(address)


def test_version_and_help_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--version", "--help"):
        assert run_command(option) == 0
    text = capsys.readouterr().out
    assert clap_server.__version__ in text
    for command in ("serve", "token", "classify"):
        assert command in text


@pytest.mark.parametrize("command", ["evaluate", "calibrate"])
def test_command_of_a_package_that_is_missing_says_what_to_install(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "clap_evaluation"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "clap_evaluation", None)
    status, text = _end(capsys, command, "--manifest", "clips.csv")
    assert status == 1
    assert "clap-evaluation" in text
    assert "pip install ./addon ./evaluation" in text
    assert len(text.strip().splitlines()) == 1
    assert run_command("--help") == 0
    assert f"    {command}" not in capsys.readouterr().out


def test_every_option_has_its_variable_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("serve", "--help") == 0
    text = capsys.readouterr().out
    options = set(re.findall(r"--([a-z-]+)", text)) - {"help"}
    assert {"host", "port", "data", "model", "media", "device", "ingress-port"} <= options
    for option in options:
        assert "CLAP_" + option.upper().replace("-", "_") in text
    assert "--token" not in text, "other users of the machine would see it"


@pytest.mark.parametrize("arguments", [[], ["sing"], ["options"], ["serve", "--colour", "red"]])
def test_wrong_use_ends_with_status_2(arguments: list[str]) -> None:
    assert run_command(*arguments) == 2


def test_token_of_a_server_that_has_run_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, _ = DataFolder(tmp_path).token()
    assert run_command("token", "--data", str(tmp_path)) == 0
    assert capsys.readouterr().out.strip() == made


@pytest.mark.parametrize("folder", ["", "not-there", "file"])
def test_token_is_never_made_where_no_server_has_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.iterdir())
    status, text = _end(capsys, "token", "--data", str(tmp_path / folder))
    assert status == 1
    assert "start it first, or name its folder with --data" in text
    assert sorted(tmp_path.iterdir()) == before


def test_token_from_the_environment_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAP_TOKEN", "from-the-environment")
    assert run_command("token", "--data", str(tmp_path)) == 0
    assert capsys.readouterr().out.strip() == "from-the-environment"


def test_error_is_one_line_and_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run_command("token", "--data", str(tmp_path / "file")) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_interrupt_ends_with_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("clap_server.cli.token.run", interrupted)
    assert run_command("token") == 130


def test_option_goes_before_variable_before_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings({}).port == 7860
    assert load_settings({}).host == "0.0.0.0"
    assert load_settings({}).data == default_data_dir().absolute()
    monkeypatch.setenv("CLAP_PORT", "8001")
    monkeypatch.setenv("CLAP_MODEL", "")
    assert load_settings({"port": None}).port == 8001
    assert load_settings({"port": "8002"}).port == 8002
    assert load_settings({}).model == "auto", "an empty variable counts as not set"


def test_trusted_networks_are_parted_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings({}).trusted_networks == ()
    monkeypatch.setenv("CLAP_TRUSTED_NETWORKS", "192.168.1.0/24, fd00::/8,10.0.0.7")
    found = load_settings({}).trusted_networks
    assert [str(network) for network in found] == ["192.168.1.0/24", "fd00::/8", "10.0.0.7/32"]


def test_folders_are_absolute_and_the_home_folder_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAP_MEDIA", "~/sounds")
    settings = load_settings({"data": "here"})
    assert settings.media == Path.home() / "sounds"
    assert settings.data == Path.cwd() / "here"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"port": "many"}, "--port (or CLAP_PORT)"),
        ({"port": "70000"}, "--port"),
        ({"log_level": "LOUD"}, "--log-level"),
        ({"clip_retention_days": "0"}, "--clip-retention-days"),
        ({"token": "short"}, "CLAP_TOKEN"),
        ({"trusted_networks": "192.168.1.7/24"}, "no network: write 192.168.1.0/24"),
        (
            {"trusted_networks": "10.0.0.0/8, my house"},
            "'my house' is no network: write it as 192.168.1.0/24",
        ),
        ({"token": "with a space in it"}, "CLAP_TOKEN"),
    ],
)
def test_wrong_setting_is_named(given: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_settings(given)
    assert words in str(error.value)
    assert "space" not in str(error.value), "a token is not repeated"


def test_log_level_is_read_in_any_case() -> None:
    assert load_settings({"log_level": "DEBUG"}).log_level == "debug"


@pytest.mark.usefixtures("_logging_as_before")
def test_port_in_use_is_one_clear_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, text = _end(
            capsys, "serve", "--host", "127.0.0.1", "--port", str(port), "--data", str(tmp_path / "data")
        )
    assert status == 2
    [line] = [line for line in text.splitlines() if "in use" in line]
    assert f"Port {port}" in line
    assert "Traceback" not in text


@pytest.mark.usefixtures("_logging_as_before")
def test_unusable_data_folder_is_one_clear_line_and_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLAP_DATA", str(tmp_path / "file" / "data"))
    status, text = _end(capsys, "serve", "--host", "127.0.0.1", "--port", "0")
    assert status == 1
    assert "--data" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_signal_ends_the_server(
    tmp_path: Path, stop: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    settings = load_settings({"host": "127.0.0.1", "port": 0, "data": tmp_path, "model": "builtin"})
    serving = asyncio.create_task(_serve(settings))
    await until(lambda: "Ready" in caplog.text or serving.done(), 100)
    os.kill(os.getpid(), stop)
    assert await serving == 0
    assert "Stopped" in caplog.text


async def test_process_serves_and_stops_gracefully(tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "log"
    with _serving(log, "--port", "0", "--data", str(data), "--model", "builtin") as process:
        address = await _ready(log)
        token = (data / "token").read_text().strip()
        assert log.read_text().count(token) == 1
        assert f"`clap-server token --data {data}` prints it again" in log.read_text()
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
            session.ws_connect(f"{address}/api/ws") as client,
        ):
            info = await client.receive_json(timeout=30)
            assert info["model"]["name"] == "builtin"
            await client.send_json({"type": "subscribe"})
            while (await client.receive_json(timeout=30))["type"] != "replayed":
                pass
            process.send_signal(signal.SIGTERM)
            assert (await client.receive(timeout=30)).data == aiohttp.WSCloseCode.GOING_AWAY
        assert await asyncio.to_thread(process.wait, 30) == 0
    text = log.read_text()
    assert "Stopped" in text
    assert "Traceback" not in text
    assert str(data) in text


async def test_stop_while_starting_ends_at_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = ("--port", "0", "--data", str(tmp_path / "data"), "--model", "builtin")
    with _serving(log, *arguments) as process:
        await until(lambda: "Listening on" in log.read_text(), 100)
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 60) == 0
