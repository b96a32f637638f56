"""Against a real PulseAudio server whose only microphone hums 440 Hz."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clap_server.audio.device import CaptureDevice, DeviceSource, list_devices, miniaudio
from clap_server.audio.reconnect import ReconnectingSource
from clap_server.audio.source import Patience
from tests.server.audio.helpers import PATIENCE_S, RATE, failure, listen, strongest_hz
from tests.support.requirements import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clap_server.audio.source import SourceStatus

NAME = "Monitor of Null Output"


@pytest.fixture
def pulse(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    require(miniaudio is not None, "miniaudio (scripts/setup leaves it out where it has no wheel)")
    require(shutil.which("pulseaudio") is not None, "pulseaudio (see tests/support/debian-packages.txt)")
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        socket = Path(folder) / "socket"
        for variable in ("HOME", "XDG_RUNTIME_DIR"):
            monkeypatch.setenv(variable, folder)
        monkeypatch.setenv("PULSE_SERVER", f"unix:{socket}")
        modules = (
            "module-null-sink sink_name=room rate=48000",
            "module-sine sink=room frequency=440",
            f"module-native-protocol-unix socket={socket} auth-anonymous=1",
        )
        command = [
            "pulseaudio",
            "-n",
            "--daemonize=no",
            "--exit-idle-time=-1",
            "--use-pid-file=no",
            "--disable-shm=yes",
        ]

        for module in modules:
            command += ["-L", module]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_S
        while not socket.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
        process.kill()
        process.wait()


@pytest.fixture
def no_sound_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    require(miniaudio is not None, "miniaudio (scripts/setup leaves it out where it has no wheel)")
    monkeypatch.setenv("PULSE_SERVER", f"unix:{tmp_path}/none")
    monkeypatch.setenv("ALSA_CONFIG_PATH", "/dev/null")


def test_a_server_without_miniaudio_says_what_to_do() -> None:
    """As where it has no wheel; in a process of its own, because a module is imported once."""
    program = """
import asyncio, sys
sys.modules["miniaudio"] = None
from clap_server.audio.device import DeviceSource, list_devices
from clap_server.audio.source import SourceError
async def open():
    async for _ in DeviceSource().blocks(16_000): pass
for attempt in (list_devices, lambda: asyncio.run(open())):
    try:
        attempt()
    except SourceError as error:
        print(error.code, error.reason)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("no_device")
        assert "install a C compiler and then miniaudio" in line


@pytest.mark.usefixtures("pulse")
def test_devices_are_listed_with_the_default_first() -> None:
    assert list_devices() == [CaptureDevice("default", "Default"), CaptureDevice(NAME, NAME)]


@pytest.mark.usefixtures("pulse")
@pytest.mark.parametrize("device", ["default", NAME])
async def test_a_device_is_heard(device: str) -> None:
    samples = await listen(DeviceSource(device), 0.8)
    assert strongest_hz(samples[RATE // 4 :]) == pytest.approx(440, abs=3)


@pytest.mark.usefixtures("pulse")
async def test_a_device_that_is_not_there_is_said_so() -> None:
    error = await failure(DeviceSource("Attic"))
    assert (error.code, "Attic" in error.reason) == ("no_such_device", True)


async def test_a_device_that_goes_is_a_stall(
    pulse: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses: list[SourceStatus] = []
    device = DeviceSource()
    monkeypatch.setattr(device, "patience", Patience(silence_s=1.0))
    source = ReconnectingSource(device, statuses.append)
    async with asyncio.timeout(PATIENCE_S), aclosing(source.blocks(RATE)) as blocks:
        await anext(blocks)
        pulse.kill()
        waiting = asyncio.ensure_future(anext(blocks))
        while statuses[-1].code != "no_device":
            await asyncio.wait([waiting], timeout=0.05)
            if waiting.done():
                waiting = asyncio.ensure_future(anext(blocks))
        waiting.cancel()
        await asyncio.wait([waiting])
    assert [status.code for status in statuses] == ["connecting", "listening", "stalled", "no_device"]


@pytest.mark.usefixtures("no_sound_system")
async def test_a_machine_without_devices_says_so() -> None:
    assert list_devices() == []
    error = await failure(DeviceSource())
    assert error.code == "no_device"
    assert "plug one in" in error.reason
