"""Starts and stops the RTSP camera of ``rtsp_camera.py``."""

from __future__ import annotations

import signal
import subprocess
from functools import cache
from pathlib import Path
from typing import Self

from tests.support.requirements import require

SYSTEM_PYTHON = "/usr/bin/python3"
SCRIPT = Path(__file__).with_name("rtsp_camera.py")
_PROBE = "import gi; gi.require_version('GstRtspServer', '1.0')"


@cache
def _has_gstreamer() -> bool:
    if not Path(SYSTEM_PYTHON).exists():
        return False
    return subprocess.run([SYSTEM_PYTHON, "-c", _PROBE], capture_output=True, check=False).returncode == 0


class Camera:
    """A camera process; a context manager that kills it.

    Args:
        arguments: of ``rtsp_camera.py``.
        user_info: ``user:password@`` for the address, if the camera asks for it.
    """

    def __init__(self, *arguments: str, user_info: str = "") -> None:
        require(_has_gstreamer(), "GStreamer's RTSP server (see tests/support/debian-packages.txt)")
        self._arguments = arguments
        self._user_info = user_info
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        self.url = ""

    def start(self) -> None:
        """Start it; a second time on the same port."""
        port = ["--port", str(self.port)] if self.port else []
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, str(SCRIPT), *self._arguments, *port], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        ready, _, url = self._process.stdout.readline().strip().partition(" ")
        assert ready == "ready"
        self.url = url.replace("rtsp://", f"rtsp://{self._user_info}")
        self.port = int(url.split(":")[2].partition("/")[0])

    def pause(self) -> None:
        """Let it fall silent with its connections open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Pull the plug."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
