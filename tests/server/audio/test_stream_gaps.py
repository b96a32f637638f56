"""Cameras that send what a good RTSP server would not."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.audio import rtsp, stream
from clap_server.audio.stream import StreamSource
from tests.server.audio.helpers import blocks_of, failure, listen, sine, strongest_hz
from tests.server.audio.raw_rtsp import PACKET, RATE, Client, RawRtsp, l16, track

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from clap_server.audio.block import AudioBlock

SOUND = track("sound", "97", "L16/8000")
START = 3_000_000_000  # the clock of RTP starts anywhere, and wraps
TONE = l16(sine(1000, 3.0, RATE))


def sending(
    name: str = "sound",
    *,
    skipped: Container[int] = (),
    pauses: dict[int, float] | None = None,
    bursts: Container[int] = (),
    jumps: dict[int, int] | None = None,
) -> Callable[[Client], None]:
    """Send a tone in packets of 20 ms, five times as fast as it sounds.

    Args:
        name: of the track.
        skipped: numbers of packets that are lost on the way.
        pauses: seconds of silence before a packet, of which nothing is sent.
        bursts: numbers of packets that follow at once.
        jumps: samples by which the clock is set before a packet.
    """

    def play(client: Client) -> None:
        timestamp = START
        for number, packet in enumerate(TONE):
            timestamp += round((pauses or {}).get(number, 0.0) * RATE) + (jumps or {}).get(number, 0)
            if number in skipped:
                client.lose(1)
            else:
                client.send(name, timestamp, packet, 97)
            timestamp += PACKET
            if number not in bursts and client.gone.wait(0.004):
                return

    return play


async def heard(camera: RawRtsp, duration_s: float) -> list[AudioBlock]:
    blocks: list[AudioBlock] = []
    async with aclosing(blocks_of(StreamSource(camera.url), RATE)) as coming:
        async for block in coming:
            blocks.append(block)
            if sum(each.duration_s for each in blocks) >= duration_s:
                return blocks
    raise AssertionError


def gaps_s(blocks: list[AudioBlock]) -> list[float]:
    """How much sound came before each block that follows a gap."""
    ends_s = np.cumsum([0.0] + [block.duration_s for block in blocks])
    return [float(ends_s[number]) for number, block in enumerate(blocks) if block.after_gap]


async def test_steady_packets_have_no_gap() -> None:
    with RawRtsp(SOUND, play=sending()) as camera:
        blocks = await heard(camera, 2.8)
    assert gaps_s(blocks) == []
    assert strongest_hz(np.concatenate([block.samples for block in blocks]), RATE) == pytest.approx(
        1000, abs=2
    )


async def test_silence_that_is_not_sent_is_a_gap() -> None:
    with RawRtsp(SOUND, play=sending(pauses={50: 3.0, 100: 0.6})) as camera:
        assert gaps_s(await heard(camera, 2.8)) == pytest.approx([1.0, 2.0], abs=0.03)


async def test_many_packets_lost_are_a_gap() -> None:
    with RawRtsp(SOUND, play=sending(skipped=range(50, 80))) as camera:
        assert gaps_s(await heard(camera, 2.2)) == pytest.approx([1.0], abs=0.03)


async def test_a_few_packets_lost_leave_a_hole_of_their_length() -> None:
    with RawRtsp(SOUND, play=sending(skipped=range(50, 56))) as camera:
        blocks = await heard(camera, 2.8)
    assert gaps_s(blocks) == []
    samples = np.concatenate([block.samples for block in blocks])
    assert np.flatnonzero(np.abs(samples).reshape(-1, 80).max(axis=1) < 0.01).tolist() == list(
        range(100, 112)
    )


async def test_a_burst_after_a_stall_is_no_gap() -> None:
    def play(client: Client) -> None:
        for number, packet in enumerate(TONE):
            client.send("sound", START + number * PACKET, packet, 97)
            if number == 50:
                time.sleep(1.5)
            elif not 50 < number < 130:
                time.sleep(0.004)

    with RawRtsp(SOUND, play=play) as camera:
        assert gaps_s(await heard(camera, 2.8)) == []


async def test_a_pause_that_the_timestamps_leave_out_is_a_gap() -> None:
    def play(client: Client) -> None:
        for number, packet in enumerate(TONE * 2):
            client.send("sound", START + number * PACKET, packet, 97)
            if client.gone.wait(1.5 if number == 50 else 0.02):
                return

    with RawRtsp(SOUND, play=play) as camera:
        found_s = gaps_s(await heard(camera, 2.5))
    # There are others if this machine stood still.
    assert any(gap_s == pytest.approx(51 * 0.02, abs=0.03) for gap_s in found_s)


async def test_a_clock_that_is_set_back_ends_nothing() -> None:
    with RawRtsp(SOUND, play=sending(jumps={60: -40_000_000})) as camera:
        assert len(gaps_s(await heard(camera, 2.8))) <= 1


TALK_BACK = [
    track("talk", "0", "PCMU/8000", "a=sendonly"),
    track("talk"),
    track("talk", "98", "FOO-CODEC/8000"),
    track("talk", "98", "mpeg4-generic/16000", "a=fmtp:98 mode=AAC-hbr; config=1408; sizelength=13"),
]


@pytest.mark.parametrize("talk", TALK_BACK)
async def test_a_first_track_that_never_sends_is_passed_over(talk: str) -> None:
    with RawRtsp(talk, SOUND, play=sending()) as camera:
        samples = await listen(StreamSource(camera.url), 0.3)
    assert strongest_hz(samples) == pytest.approx(1000, abs=8)


async def test_a_first_track_that_cannot_be_decoded_is_passed_over() -> None:
    def play(client: Client) -> None:
        for number, packet in enumerate(TONE):
            client.send("broken", START + number * 1024, b"\xff\xfb" + bytes(40), 98)
            client.send("sound", START + number * PACKET, packet, 97)
            if client.gone.wait(0.02):
                return

    broken = track(
        "broken",
        "98",
        "mpeg4-generic/16000",
        "a=fmtp:98 mode=AAC-hbr; config=1408; sizelength=13; indexlength=3; indexdeltalength=3",
    )
    with RawRtsp(broken, SOUND, play=play) as camera:
        samples = await listen(StreamSource(camera.url), 0.5)
    assert strongest_hz(samples) == pytest.approx(1000, abs=8)


async def test_of_two_tracks_that_sound_the_first_is_taken() -> None:
    other = l16(sine(300, 3.0, RATE))

    def play(client: Client) -> None:
        for number, packet in enumerate(TONE):
            client.send("second", START + number * PACKET, other[number], 98)
            if number >= 10:
                client.send("first", START + number * PACKET, packet, 97)
            if client.gone.wait(0.004):
                return

    first, second = track("first", "97", "L16/8000"), track("second", "98", "L16/8000")
    with RawRtsp(first, second, play=play) as camera:
        samples = await listen(StreamSource(camera.url), 0.5)
    assert strongest_hz(samples) == pytest.approx(1000, abs=8)


async def test_a_camera_whose_sound_nobody_can_decode_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rtsp._OPTIONS, "analyzeduration", "1")
    with RawRtsp(track("sound", "97", "FOO-CODEC/8000"), play=sending()) as camera:
        error = await failure(StreamSource(camera.url))
    assert error.code == "not_usable"
    assert "choose another one in its settings" in error.reason


async def test_sound_that_begins_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "OPEN_TIMEOUT_S", 1.0)

    def play(client: Client) -> None:
        if not client.gone.wait(1.75):
            sending()(client)

    with RawRtsp(SOUND, play=play) as camera:
        # Opening must not wait for the first packet.
        assert (await listen(StreamSource(camera.url), 0.2)).size


async def test_a_camera_that_knows_only_udp_is_heard() -> None:
    with RawRtsp(SOUND, play=sending(), over=frozenset({"udp"})) as camera:
        samples = await listen(StreamSource(camera.url), 0.5)
    assert strongest_hz(samples) == pytest.approx(1000, abs=8)


async def test_udp_that_does_not_get_through_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtsp, "_UDP_WAIT_S", 1.0)
    with RawRtsp(SOUND, play=lambda _client: None, over=frozenset({"udp"})) as camera:
        error = await failure(StreamSource(camera.url))
    assert error.code == "not_usable"
    assert "sends sound over UDP only, and none arrived" in error.reason


async def test_a_camera_that_refuses_every_transport_is_said_so() -> None:
    with RawRtsp(SOUND, play=sending(), over=frozenset()) as camera:
        error = await failure(StreamSource(camera.url))
    assert error.code == "not_usable"
    assert "over TCP as well as over UDP" in error.reason
