"""An RTSP server that does what it is told, also what a good one would not."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

RATE = 8_000
PACKET = 160
PCMU = "0"


def track(name: str, payload: str = PCMU, codec: str = "PCMU/8000", *attributes: str) -> str:
    """Describe a track in SDP."""
    lines = [f"m=audio 0 RTP/AVP {payload}", f"a=rtpmap:{payload} {codec}", *attributes, f"a=control:{name}"]
    return "".join(f"{line}\r\n" for line in lines)


def l16(samples: NDArray[np.float32]) -> list[bytes]:
    """Packets of 20 ms of ``L16/8000``; what is shorter at the end is left out."""
    data = (samples * 32767).astype(">i2").tobytes()
    return [data[start : start + 2 * PACKET] for start in range(0, len(data) - 2 * PACKET + 1, 2 * PACKET)]


@dataclass
class Client:
    """Who plays: where each track is to be sent, and the next sequence number."""

    connection: socket.socket
    channels: dict[str, int] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    gone: threading.Event = field(default_factory=threading.Event)
    _sequence: int = 1000
    _udp: socket.socket | None = None

    def send(self, name: str, timestamp: int, data: bytes, payload: int = 0) -> None:
        """Send one packet; raises OSError when the client has gone."""
        self._sequence += 1
        header = struct.pack(">BBHII", 0x80, payload, self._sequence & 0xFFFF, timestamp & 0xFFFFFFFF, 7)
        packet = header + data
        if name in self.channels:
            frame = b"$" + struct.pack(">BH", self.channels[name], len(packet))
            self.connection.sendall(frame + packet)
        elif name in self.ports:
            self._udp = self._udp or socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._udp.sendto(packet, ("127.0.0.1", self.ports[name]))

    def lose(self, packets: int) -> None:
        """Count packets that are never sent."""
        self._sequence += packets

    def close(self) -> None:
        self.gone.set()
        self.connection.close()
        if self._udp is not None:
            self._udp.close()


class RawRtsp:
    """Serves one description; ``play`` runs in a thread for each client that plays.

    Args:
        tracks: of the description, as ``track`` makes them.
        play: sends, until it returns or the client has gone.
        over: which transports are taken: ``tcp``, ``udp``.
    """

    def __init__(
        self, *tracks: str, play: Callable[[Client], None], over: frozenset[str] = frozenset({"tcp"})
    ) -> None:
        self._sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n" + "".join(
            tracks
        )
        self._play = play
        self._over = over
        self._clients: list[Client] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/x"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self._clients:
            client.gone.set()
            with suppress(OSError):
                client.connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            client = Client(connection)
            self._clients.append(client)
            self._start(self._serve, client)

    def _serve(self, client: Client) -> None:
        playing: threading.Thread | None = None
        with suppress(OSError), client.connection.makefile("rb") as requests:
            while (request := _read(requests)) is not None:
                method, url, headers = request
                head, body = self._answer(client, method, url, headers)
                client.connection.sendall(
                    f"RTSP/1.0 {head}\r\nCSeq: {headers['cseq']}\r\nSession: 1\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
                )
                if method == "PLAY" and playing is None:
                    playing = threading.Thread(target=self._run, args=(client,))
                    playing.start()
        client.gone.set()
        if playing is not None:
            playing.join()
        client.close()

    def _run(self, client: Client) -> None:
        with suppress(OSError):
            self._play(client)

    def _answer(self, client: Client, method: str, url: str, headers: dict[str, str]) -> tuple[str, str]:
        if method == "OPTIONS":
            return "200 OK\r\nPublic: DESCRIBE, SETUP, PLAY, TEARDOWN", ""
        if method == "DESCRIBE":
            return f"200 OK\r\nContent-Type: application/sdp\r\nContent-Base: {url}/", self._sdp
        if method != "SETUP":
            return "200 OK", ""
        transport, name = headers["transport"], url.rpartition("/")[2]
        if "TCP" in transport and "tcp" in self._over:
            channel = client.channels[name] = 2 * len(client.channels)
            return f"200 OK\r\nTransport: RTP/AVP/TCP;unicast;interleaved={channel}-{channel + 1}", ""
        if "TCP" not in transport and "udp" in self._over:
            ports = transport.partition("client_port=")[2].partition(";")[0]
            client.ports[name] = int(ports.partition("-")[0])
            reply = f"RTP/AVP;unicast;client_port={ports};server_port=9000-9001"
            return f"200 OK\r\nTransport: {reply}", ""
        return "461 Unsupported Transport", ""


def _read(requests: BinaryIO) -> tuple[str, str, dict[str, str]] | None:
    """The next request; reports of the client (RTCP) in between are skipped. None at the end."""
    while (first := requests.read(1)) == b"$":
        _, length = struct.unpack(">BH", requests.read(3))
        requests.read(length)
    if not first:
        return None
    method, url, _ = (first + requests.readline()).decode().split()
    headers = {}
    while line := requests.readline().strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return method, url, headers
