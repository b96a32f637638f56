"""The client by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

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
from custom_components.clap_sound.client.url import is_stream_url
from tests.integration.server import TOKEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from custom_components.clap_sound.client.models import EventInfo
    from tests.integration.server import Peer

SETTINGS = {"name": "A", "source": {"type": "push"}, "labels": [{"label": "alarm"}]}


@pytest.fixture
async def client(peer: Peer) -> AsyncIterator[ClapSoundClient]:
    async with aiohttp.ClientSession() as session:
        yield ClapSoundClient(session, "127.0.0.1", peer.port, TOKEN)


async def test_problem_document_becomes_an_error_with_its_words(client: ClapSoundClient) -> None:
    with pytest.raises(InvalidRequestError, match=r"Mend the settings. labels: Tuple should have") as caught:
        await client.put_microphone("a", {**SETTINGS, "labels": []})
    assert caught.value.status == 422
    assert caught.value.code == "invalid"


async def test_missing_recording_is_told_apart(client: ClapSoundClient) -> None:
    with pytest.raises(NotFoundError, match="no recording"):
        await client.clip("abc", "mp3")


async def test_events_between_two_times_are_found_on_all_pages_newest_first(
    peer: Peer, client: ClapSoundClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_components.clap_sound.client.client.EVENT_PAGE", 3)
    await client.put_microphone("a", SETTINGS)
    await client.put_microphone("b", {**SETTINGS, "labels": [{"label": "siren"}]})
    now = datetime.now(UTC)
    for minutes in range(12, 0, -1):
        event = await peer.start_event("a", "alarm", age=timedelta(minutes=minutes))
        await peer.end_event(event, ended_at=event.started_at + timedelta(seconds=10))
    siren = await peer.start_event("b", "siren", age=timedelta(minutes=11))
    since, until = now - timedelta(minutes=9.5), now - timedelta(minutes=2.5)
    listed = await client.list_events(since, until)
    minutes_ago = [round((now - event.started_at).total_seconds() / 60) for event in listed.events]
    assert minutes_ago == [3, 4, 5, 6, 7, 8, 9, 11]
    assert listed.events[-1].id == siren.id
    assert listed.complete_since == since
    assert {event.id for event in (await client.list_events(since, until, microphone="b")).events} == {
        siren.id
    }
    assert not (await client.list_events(since, until, microphone="a", label="siren")).events


async def test_event_that_ends_while_pages_are_read_is_listed(
    peer: Peer, client: ClapSoundClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_components.clap_sound.client.client.EVENT_PAGE", 2)
    await client.put_microphone("a", SETTINGS)
    first = await peer.start_event("a", "alarm", age=timedelta(minutes=5))
    for _ in range(3):
        await peer.end_event(await peer.start_event("a", "alarm"))
    read_page = client.events

    async def ended_after_the_first_page(limit: int, **wanted: Any) -> tuple[EventInfo, ...]:
        page = await read_page(limit, **wanted)
        monkeypatch.setattr(client, "events", read_page)
        await peer.end_event(first)
        return page

    monkeypatch.setattr(client, "events", ended_after_the_first_page)
    now = datetime.now(UTC)
    listed = await client.list_events(now - timedelta(minutes=10), now)
    assert listed.events[-1].id == first.id
    assert listed.events[-1].ended_at is not None


async def test_event_that_a_crash_left_open_hides_none_that_is_newer(
    peer: Peer, client: ClapSoundClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_components.clap_sound.client.client.EVENT_PAGE", 2)
    await client.put_microphone("a", SETTINGS)
    begun = await peer.start_event("a", "alarm", age=timedelta(hours=2))
    wanted = [
        await peer.end_event(await peer.start_event("a", "alarm", age=timedelta(minutes=minutes)))
        for minutes in (9, 5)
    ]
    await peer.end_event(begun, ended_at=begun.detected_at)
    now = datetime.now(UTC)
    listed = await client.list_events(now - timedelta(hours=1), now)
    assert [event.id for event in reversed(listed.events)] == [event.id for event in wanted]


async def test_release_of_what_is_gone_or_another_s_is_no_error_and_changes_nothing(
    peer: Peer, client: ClapSoundClient
) -> None:
    await client.release_microphone("gone", "home_assistant:a")
    await client.put_microphone("a", {**SETTINGS, "owner": "home_assistant:b"})
    await client.release_microphone("a", "home_assistant:a")
    assert peer.settings["a"].owner == "home_assistant:b"


async def test_check_of_settings_changes_nothing(peer: Peer, client: ClapSoundClient) -> None:
    checked = await client.check_microphone(None, SETTINGS)
    assert [(label.id, label.found_unknown) for label in checked] == [("alarm", "not_tested")]
    with pytest.raises(InvalidRequestError, match="labels: Tuple should have"):
        await client.check_microphone(None, {**SETTINGS, "labels": []})
    assert not peer.settings


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
