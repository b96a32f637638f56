"""Choosing one of several audio tracks, by what they deliver."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from av.stream import Discard

from clap_server.audio.container import DAMAGED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from av import AudioFrame, AudioStream, Packet

# The first track is taken if its sound comes so soon after that of another one.
_WAIT_S = 1.0


def first_sounding(
    packets: Iterable[Packet[AudioStream] | None], tracks: Sequence[AudioStream]
) -> Iterator[AudioFrame]:
    """Decode the first track that sound comes from.

    A camera may offer a track that never sends (the way back to its loudspeaker), and one whose packets
    cannot be decoded. Damaged packets are left out.

    Args:
        packets: of all ``tracks``; None when there was none for a moment.
        tracks: that have a decoder, in their order.

    Yields:
        Frames.

    Raises:
        FFmpegError: the decoder fails for another reason than a damaged packet.
    """
    chosen: int | None = None
    came: dict[int, list[AudioFrame]] = {}
    decide_at_s: float | None = None
    for packet in packets:
        if packet is not None and chosen in (None, packet.stream_index):
            try:
                frames = packet.decode()
            except DAMAGED:
                continue
            if chosen is not None:
                yield from frames
            elif frames:
                came.setdefault(packet.stream_index, []).extend(frames)
        if came:
            now_s = time.monotonic()
            decide_at_s = decide_at_s or now_s + _WAIT_S
            if tracks[0].index in came or now_s >= decide_at_s:
                chosen = _choose(came, tracks)
                yield from came[chosen]
                came.clear()
    if chosen is None and came:
        yield from came[min(came)]


def _choose(came: dict[int, list[AudioFrame]], tracks: Sequence[AudioStream]) -> int:
    chosen = min(came)
    for track in tracks:
        if track.index != chosen:
            track.discard = Discard.all
    return chosen
