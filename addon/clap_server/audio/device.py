"""Capture devices of this machine, through PulseAudio (PipeWire too) or ALSA.

PyAV's wheels have FFmpeg's ALSA input but not its PulseAudio one, which is what Home Assistant's apps and
most desktops have; miniaudio loads whichever of the two libraries the machine has when it is used. It may be
missing: where it has no wheel (64-bit ARM), a compiler would be needed to install it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clap_server.audio.frames import to_float
from clap_server.audio.player import Player
from clap_server.audio.source import Patience, SourceError
from clap_server.audio.threaded import Feed, blocks_from_thread

try:
    import miniaudio  # type: ignore[import-untyped] # the package has no py.typed
except ImportError:
    miniaudio = None

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from clap_server.audio.block import AudioBlock

DEFAULT_DEVICE = "default"
_CAPTURE_RATE_HZ = 48_000
_PERIOD_MS = 50
# Of one channel miniaudio makes two that are equal, and of more the nearest two.
_CHANNELS = 2


@dataclass(frozen=True, slots=True)
class CaptureDevice:
    """A device to record from.

    Attributes:
        id: what ``DeviceSource`` takes; stays the same when cards are numbered anew.
        name: for people.
    """

    id: str
    name: str


def list_devices() -> list[CaptureDevice]:
    """Find the capture devices, the machine's default first; empty when there are none. Blocks.

    Raises:
        SourceError: ``no_device``; the server was installed without what it needs for them.
    """
    found = _find_devices()
    if found is None:
        return []
    return [
        CaptureDevice(DEFAULT_DEVICE, "Default"),
        *(CaptureDevice(name, name) for name in found[1]),
    ]


class DeviceSource:
    """A microphone of this machine.

    Drivers do not reliably say that a device was unplugged: it falls silent, which is a stall.

    Args:
        device: an id that ``list_devices`` gave; ``default`` for the machine's own choice.
    """

    patience = Patience()

    def __init__(self, device: str = DEFAULT_DEVICE) -> None:
        self._device = device

    def blocks(self, sample_rate: int) -> AsyncGenerator[AudioBlock, None]:
        """See ``AudioSource``."""
        return blocks_from_thread(self._produce, sample_rate, name="device")

    def _produce(self, feed: Feed) -> None:
        capture = self._open()
        try:
            receiver = _receive(feed)
            next(receiver)
            capture.start(receiver)
            feed.wait_until_closed()
        except miniaudio.MiniaudioError as error:
            raise self._not_usable() from error
        finally:
            capture.close()

    def _open(self) -> Any:
        found = _find_devices()
        if found is None:
            raise SourceError(
                "no_device",
                "this machine has no capture device: plug one in, or give the server access to the sound",
            )
        backend, devices = found
        if self._device != DEFAULT_DEVICE and self._device not in devices:
            raise SourceError(
                "no_such_device", f"there is no capture device {self._device}: plug it in or choose another"
            )
        try:
            return miniaudio.CaptureDevice(
                input_format=miniaudio.SampleFormat.FLOAT32,
                nchannels=_CHANNELS,
                sample_rate=_CAPTURE_RATE_HZ,
                buffersize_msec=_PERIOD_MS,
                device_id=devices.get(self._device),
                backends=[backend],
                app_name="CLAP Sound",
            )
        except miniaudio.MiniaudioError as error:
            raise self._not_usable() from error

    def _not_usable(self) -> SourceError:
        return SourceError(
            "device_not_usable",
            f"the capture device {self._device} cannot be opened: check that nothing else uses it",
        )


def _find_devices() -> tuple[Any, dict[str, Any]] | None:
    """The first sound system that has capture devices, with miniaudio's id of each by name.

    Raises:
        SourceError: see ``list_devices``.
    """
    if miniaudio is None:
        raise SourceError(
            "no_device",
            "this server was installed without miniaudio, by which it records from the machine's own"
            " microphones: use the app or the Docker image, or install a C compiler and then miniaudio",
        )
    for backend in (miniaudio.Backend.PULSEAUDIO, miniaudio.Backend.ALSA):
        try:
            captures = miniaudio.Devices([backend]).get_captures()
        except miniaudio.MiniaudioError:  # this sound system is not running here
            continue
        if captures:
            return backend, {capture["name"]: capture["id"] for capture in captures}
    return None


def _receive(feed: Feed) -> Generator[None, bytearray, None]:
    """Take what the driver's own thread sends."""
    player = Player(feed, in_time=True)
    while not feed.closed():
        data = yield
        frames = np.frombuffer(bytes(data), dtype=np.float32).reshape(-1, _CHANNELS)
        player.play(to_float(frames).T, _CAPTURE_RATE_HZ)
