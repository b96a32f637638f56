"""The client by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from custom_components.clap_sound.client import (
    ClapSoundAuthenticationError,
    ClapSoundClient,
    ClapSoundConnectionError,
    InvalidRequestError,
    NotFoundError,
)
from custom_components.clap_sound.client.models import LabelInfo
from custom_components.clap_sound.client.url import is_stream_url, redact_url, restore_url
from tests.integration.server import TOKEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.server import Peer

SETTINGS = {"name": "A", "source": {"type": "push"}, "labels": [{"label": "alarm"}]}


@pytest.fixture
async def client(peer: Peer) -> AsyncIterator[ClapSoundClient]:
    async with aiohttp.ClientSession() as session:
        yield ClapSoundClient(session, "127.0.0.1", peer.port, TOKEN)


async def test_events_are_read_with_filters(peer: Peer, client: ClapSoundClient) -> None:
    await client.put_microphone("a", SETTINGS)
    first = await peer.start_event("a", "alarm")
    await peer.end_event(first)
    second = await peer.start_event("a", "alarm")
    everything = await client.events(microphone="a", label="alarm", limit=10)
    assert [event.id for event in everything.events] == [first.id, second.id]
    assert everything.events[0].ended_at is not None
    assert everything.last_sequence == 3
    assert [event.id for event in (await client.events(after=2)).events] == [second.id]


async def test_problem_document_becomes_an_error_with_its_words(client: ClapSoundClient) -> None:
    with pytest.raises(InvalidRequestError, match=r"Mend the settings. labels: Tuple should have") as caught:
        await client.put_microphone("a", {**SETTINGS, "labels": []})
    assert caught.value.status == 422
    assert caught.value.code == "invalid"


async def test_missing_recording_is_told_apart(client: ClapSoundClient) -> None:
    with pytest.raises(NotFoundError, match="no recording"):
        await client.clip("abc", "mp3")


async def test_deleting_what_is_gone_is_no_error(client: ClapSoundClient) -> None:
    await client.delete_microphone("gone")


async def test_websocket_without_token_or_server_is_an_error(peer: Peer, client: ClapSoundClient) -> None:
    peer.token = "another"
    with pytest.raises(ClapSoundAuthenticationError):
        await client.connect_websocket()
    await peer.stop()
    with pytest.raises(ClapSoundConnectionError):
        await client.connect_websocket()


async def test_server_that_does_not_answer_is_given_up(peer: Peer) -> None:
    peer.hangs = True
    async with aiohttp.ClientSession() as session:
        client = ClapSoundClient(session, "127.0.0.1", peer.port, TOKEN, timeout_s=0.05)
        with pytest.raises(ClapSoundConnectionError, match="no answer in time"):
            await client.info()
    peer.thawed.set()


@pytest.mark.parametrize(
    ("language", "name"),
    [("de", "Glasbruch"), ("de-CH", "Glasbruch"), ("zh-Hant", "玻璃破碎"), ("nl", "Glass")],
)
def test_label_name_falls_back_to_a_related_language_and_then_to_english(language: str, name: str) -> None:
    label = LabelInfo("glass", {"en": "Glass", "de": "Glasbruch", "zh-Hans": "玻璃破碎"}, 0.5, "mdi:glass")
    assert label.name(language) == name


def test_label_without_any_name_is_called_by_its_id() -> None:
    assert LabelInfo("glass", {}, 0.5, "mdi:glass").name("en") == "glass"


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("rtsp://user:pa@ss:word@host:554/a?b=c@d", "rtsp://user:***@host:554/a?b=c@d"),
        ("rtsp://user@host/a", "rtsp://user@host/a"),
        ("http://host/a@b:c", "http://host/a@b:c"),
        ("http://host:81/a?channel=1&token=abc#x", "http://host:81/a?channel=1&token=***#x"),
        ("http://u:p@host?pwd=q&auth_key=r", "http://u:***@host?pwd=***&auth_key=***"),
        ("rtsp://host/user=a&password=b&channel=1", "rtsp://host/user=a&password=***&channel=1"),
        ("no address", "no address"),
    ],
)
def test_password_is_hidden_and_put_back(url: str, redacted: str) -> None:
    assert redact_url(url) == redacted
    assert restore_url(redacted, url) == url


def test_other_password_replaces_the_old_one() -> None:
    assert restore_url("rtsp://user:new@host/a", "rtsp://user:old@host/a") == "rtsp://user:new@host/a"
    assert restore_url("rtsp://user:***@host/a", "rtsp://host/a") == "rtsp://user:***@host/a"
    assert restore_url("rtsp://user:***@host/a", "rtsp://user@host/a") == "rtsp://user:***@host/a"
    assert restore_url("http://h/a?token=***", "http://h/a?key=old") == "http://h/a?token=***"
    assert restore_url("http://h/b?token=***&x=2", "http://h/a?token=old") == "http://h/b?token=old&x=2"


@pytest.mark.parametrize(
    "place", ["rtsps://user:***@host", "rtsp://other:***@host", "rtsp://user:***@host:8554"]
)
def test_password_is_not_sent_elsewhere(place: str) -> None:
    assert restore_url(f"{place}/a", "rtsp://user:old@host/a") == f"{place}/a"
    assert restore_url(f"{place}/?token=***", "rtsp://user:old@host/?token=b") == f"{place}/?token=***"
    assert restore_url("rtsp://user:***@host/b", "rtsp://user:old@host/a") == "rtsp://user:old@host/b"


@pytest.mark.parametrize(
    ("url", "usable"),
    [
        ("rtsps://h/a", True),
        ("https://h", True),
        ("rtsp:///a", False),
        ("/api/stream", False),
        ("http://[", False),
    ],
)
def test_only_whole_stream_addresses_are_usable(url: str, usable: bool) -> None:
    assert is_stream_url(url) is usable
