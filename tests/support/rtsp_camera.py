"""A camera for tests: GStreamer's RTSP server playing a sound file.

Run by the system's Python, which has GStreamer's bindings::

    /usr/bin/python3 tests/support/rtsp_camera.py --file break.wav --port 8554 --loop

Prints ``ready rtsp://127.0.0.1:8554/stream`` when it listens, and serves until it is killed. All clients hear
the same moment of the file, as with a real camera; the file begins when the first one connects, and begins
again after the last one has gone.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Any

import gi  # type: ignore[import-not-found] # only the system's Python has it

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import (  # type: ignore[import-not-found] # noqa: E402 - the versions come first
    GLib,
    Gst,
    GstRtsp,
    GstRtspServer,
)

# How cameras send sound: the elements, and the rate that it usually has.
CODECS = {
    "pcmu": ("mulawenc ! rtppcmupay pt=0", 8000),
    "pcma": ("alawenc ! rtppcmapay pt=8", 8000),
    "aac": ("voaacenc bitrate=64000 ! aacparse ! rtpmp4gpay pt=97", 16000),
    "l16": ("audioconvert ! rtpL16pay pt=97", 48000),
}
VIDEO = (
    "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=5/1 "
    "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=5 ! rtph264pay pt=96"
)
BYTES_PER_SAMPLE = 2
BLOCKS_PER_SECOND = 50
ROLE = "viewer"


def read_sound(file: pathlib.Path, rate: int) -> bytes:
    """Decode a file to mono 16 bit PCM at ``rate`` Hz."""
    pipeline = Gst.parse_launch(
        "filesrc name=source ! decodebin ! audioconvert ! audioresample "
        f"! audio/x-raw,format=S16LE,channels=1,rate={rate} ! appsink name=sink sync=false"
    )
    pipeline.get_by_name("source").set_property("location", str(file))
    sink = pipeline.get_by_name("sink")
    pipeline.set_state(Gst.State.PLAYING)
    parts = []
    while (sample := sink.emit("pull-sample")) is not None:
        buffer = sample.get_buffer()
        parts.append(buffer.extract_dup(0, buffer.get_size()))
    pipeline.set_state(Gst.State.NULL)
    return b"".join(parts)


class Player:
    """Feeds the sound to one session's ``appsrc``."""

    def __init__(self, source: Any, sound: bytes, rate: int, *, loop: bool) -> None:
        self._sound = sound
        self._rate = rate
        self._loop = loop
        self._position = 0
        self._sent = 0
        source.connect("need-data", self._need_data)

    def _need_data(self, source: Any, _size: int) -> None:
        length = BYTES_PER_SAMPLE * (self._rate // BLOCKS_PER_SECOND)
        if self._position >= len(self._sound):
            if not self._loop:
                source.emit("end-of-stream")
                return
            self._position = 0
        data = self._sound[self._position : self._position + length]
        self._position += len(data)
        samples = len(data) // BYTES_PER_SAMPLE
        buffer = Gst.Buffer.new_wrapped(data)
        buffer.pts = self._sent * Gst.SECOND // self._rate
        buffer.duration = samples * Gst.SECOND // self._rate
        self._sent += samples
        source.emit("push-buffer", buffer)


def build_factory(options: argparse.Namespace) -> Any:
    """Describe the session that clients get: the sound, and a test picture if wanted."""
    tracks = [VIDEO + " name=pay0"] if options.video else []
    rate = 0
    if options.codec != "none":
        encoder, usual_rate = CODECS[options.codec]
        rate = options.rate or usual_rate
        tracks.append(
            "appsrc name=sound format=time block=false max-bytes=4000 "
            f"caps=audio/x-raw,format=S16LE,layout=interleaved,channels=1,rate={rate} "
            f"! identity sync=true ! {encoder} name=pay{len(tracks)}"
        )
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch("( " + " ".join(tracks) + " )")
    factory.set_shared(True)
    factory.set_latency(0)
    if options.transport == "udp":
        factory.set_protocols(GstRtsp.RTSPLowerTrans.UDP)
    elif options.transport == "tcp":
        factory.set_protocols(GstRtsp.RTSPLowerTrans.TCP)
    if options.codec != "none":
        sound = read_sound(options.file, rate)
        players: list[Player] = []  # keeps the one in use alive

        def configure(_factory: Any, media: Any) -> None:
            source = media.get_element().get_by_name_recurse_up("sound")
            players[:] = [Player(source, sound, rate, loop=options.loop)]

        factory.connect("media-configure", configure)
    if options.user:
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role(ROLE, GstRtspServer.RTSP_PERM_MEDIA_FACTORY_ACCESS, True)
        permissions.add_permission_for_role(ROLE, GstRtspServer.RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, True)
        factory.set_permissions(permissions)
    return factory


def build_auth(user: str, password: str) -> Any:
    """Ask for a user name and a password as most cameras do (digest)."""
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, ROLE)
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    auth.add_digest(user, password, token)
    return auth


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--file", type=pathlib.Path, help="sound file in any format that GStreamer reads")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one and prints it")
    parser.add_argument("--codec", choices=[*CODECS, "none"], default="pcmu", help="none: no audio track")
    parser.add_argument("--rate", type=int, help="of the sound in Hz, if not the codec's usual one")
    parser.add_argument("--transport", choices=["tcp", "udp"], help="refuse the other one")
    parser.add_argument("--path", default="/stream")
    parser.add_argument("--user", help="ask for this user name")
    parser.add_argument("--password", default="")
    parser.add_argument("--video", action="store_true", help="add a picture, as cameras have")
    parser.add_argument("--loop", action="store_true", help="begin again at the end of the file")
    options = parser.parse_args()
    if options.codec != "none" and options.file is None:
        parser.error("--file is needed unless --codec none")
    if options.codec == "none" and not options.video:
        parser.error("--codec none needs --video")
    return options


def main() -> int:
    """Serve until killed."""
    options = parse_arguments()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(options.port))
    if options.user:
        server.set_auth(build_auth(options.user, options.password))
    server.get_mount_points().add_factory(options.path, build_factory(options))
    if server.attach(None) == 0:
        sys.stderr.write(f"cannot listen on port {options.port}\n")
        return 1
    sys.stdout.write(f"ready rtsp://127.0.0.1:{server.get_bound_port()}{options.path}\n")
    sys.stdout.flush()
    GLib.MainLoop().run()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
