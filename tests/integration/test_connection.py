"""The connection breaks and heals, and nothing is lost or doubled."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.event import async_track_state_change_event
from homeassistant.setup import async_setup_component

from custom_components.clap_sound import coordinator as coordinator_module
from custom_components.clap_sound.client import backoff, client, connection, keeper
from tests.integration.conftest import make_entry, microphone_data, state_of, until
from tests.integration.server import MODEL, TOKEN, status

if TYPE_CHECKING:
    from homeassistant.core import Event, EventStateChangedData, HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from tests.integration.server import Peer

GLASS = "binary_sensor.kitchen_glass_breaking"
HEARD = "event.kitchen_sound_detected"
TOP = "sensor.kitchen_top_sound"


def heard_ids(hass: HomeAssistant) -> list[str]:
    """Collect the ids of the events that the event entity fires."""
    ids: list[str] = []
    seen = {"unavailable", "unknown"}

    @callback
    def changed(event: Event[EventStateChangedData]) -> None:
        new = event.data["new_state"]
        if new and new.state not in seen:
            seen.add(new.state)
            ids.append(new.attributes["event_id"])

    async_track_state_change_event(hass, HEARD, changed)
    return ids


async def test_server_gone_makes_unavailable_and_server_back_makes_available(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, caplog: pytest.LogCaptureFixture
) -> None:
    await peer.stop()
    await until(hass, lambda: state_of(hass, GLASS) == "unavailable")
    assert state_of(hass, TOP) == "unavailable"
    tried = len(peer.requests)
    await peer.start()
    await until(hass, lambda: state_of(hass, GLASS) == "off" and "is back" in caplog.text)
    assert len(peer.requests) > tried
    ours = [r for r in caplog.records if r.name.startswith("custom_components") and r.levelno >= logging.INFO]
    assert len(ours) == 2, "once down, once up"
    assert entry.state is ConfigEntryState.LOADED


async def test_silent_death_of_the_server_is_noticed_by_heartbeat(
    hass: HomeAssistant, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.HEARTBEAT_S * 1.5 < 10, "the contract: unavailable within 10 s"
    monkeypatch.setattr(client, "HEARTBEAT_S", 0.2)
    peer.frozen = True
    entry = make_entry(hass, peer, microphone_data())
    assert await hass.config_entries.async_setup(entry.entry_id)
    await until(hass, lambda: len(peer.subscriptions) >= 2)
    peer.frozen = False
    peer.thawed.set()
    await until(hass, lambda: state_of(hass, GLASS) == "off")


async def test_events_during_a_break_fire_once_and_turn_no_sensor_on_that_is_off_again(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    ids = heard_ids(hass)
    states: list[str] = []

    @callback
    def changed(event: Event[EventStateChangedData]) -> None:
        states.append(event.data["new_state"].state)

    async_track_state_change_event(hass, GLASS, changed)
    before = await peer.start_event(kitchen)
    await peer.end_event(before)
    await until(hass, lambda: len(ids) == 1)
    await peer.stop()
    missed = await peer.start_event(kitchen)
    await peer.end_event(missed)
    lasting = await peer.start_event(kitchen, "alarm")
    await peer.start()
    await until(hass, lambda: state_of(hass, "binary_sensor.kitchen_alarm") == "on" and len(ids) == 3)
    assert ids == [before.id, missed.id, lasting.id]
    assert states == ["on", "off", "unavailable", "off"]
    assert peer.subscriptions[-1].after == 2


async def test_break_in_the_middle_of_the_replay_loses_and_doubles_nothing(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    ids = heard_ids(hass)
    await peer.stop()
    missed = [await peer.start_event(kitchen) for _ in range(4)]
    peer.break_after_changes = 2
    await peer.start()
    await until(hass, lambda: len(ids) == 4)
    assert ids == [event.id for event in missed]


async def test_new_installation_begins_with_what_is_new(hass: HomeAssistant, peer: Peer) -> None:
    peer.first_sequence = 41
    entry = make_entry(hass, peer, microphone_data())
    assert await hass.config_entries.async_setup(entry.entry_id)
    assert peer.subscriptions[-1].after is None
    await peer.disconnect_all()
    await peer.subscribed(2)
    assert peer.subscriptions[-1].after == 41
    assert peer.subscriptions[-1].epoch == peer.epoch


async def test_server_with_a_new_event_store_is_heard_from_its_beginning(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    ids = heard_ids(hass)
    for _ in range(3):
        await peer.end_event(await peer.start_event(kitchen))
    await until(hass, lambda: len(ids) == 3)
    ids.clear()
    await peer.stop()
    peer.changes.clear()
    peer.epoch = "another"
    event = await peer.start_event(kitchen)
    await peer.start()
    await until(hass, lambda: event.id in ids)
    await hass.config_entries.async_reload(entry.entry_id)
    assert (peer.subscriptions[-1].after, peer.subscriptions[-1].epoch) == (1, "another")
    assert ids == [event.id]


async def test_what_already_sounds_is_on_after_start(hass: HomeAssistant, peer: Peer) -> None:
    entry = make_entry(hass, peer, microphone_data())
    assert await hass.config_entries.async_setup(entry.entry_id)
    (kitchen,) = entry.subentries
    await peer.start_event(kitchen)
    await until(hass, lambda: state_of(hass, GLASS) == "on")
    await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done()
    assert state_of(hass, GLASS) == "on"


async def test_server_that_is_not_there_yet_is_tried_again(hass: HomeAssistant, peer: Peer) -> None:
    await peer.stop()
    entry = make_entry(hass, peer, microphone_data())
    assert not await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_RETRY
    assert entry.error_reason_translation_key == "cannot_connect"
    await peer.start()
    await hass.config_entries.async_reload(entry.entry_id)
    assert entry.state is ConfigEntryState.LOADED


async def test_server_that_never_answers_is_given_up(
    hass: HomeAssistant, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = {"tls": False, "timeout_s": 0.1}
    monkeypatch.setattr(client.ClapSoundClient.__init__, "__kwdefaults__", defaults)
    peer.hangs = True
    entry = make_entry(hass, peer, microphone_data())
    assert not await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_RETRY
    peer.thawed.set()


# aiohttp arms its heartbeat once more when the answer to our close arrives; it does nothing then.
@pytest.mark.parametrize("expected_lingering_timers", [True])
@pytest.mark.parametrize("greeting", ['{"type": "something_else"}', '{"type": "replayed"}', "no JSON"])
async def test_server_that_greets_strangely_is_not_accepted(
    hass: HomeAssistant, peer: Peer, greeting: str
) -> None:
    peer.greeting = greeting
    entry = make_entry(hass, peer, microphone_data())
    assert not await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_RETRY


async def test_refused_token_at_setup_asks_for_a_new_one(hass: HomeAssistant, peer: Peer) -> None:
    peer.token = "another"
    entry = make_entry(hass, peer, microphone_data())
    assert not await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_ERROR
    (flow,) = hass.config_entries.flow.async_progress()
    assert flow["context"]["source"] == "reauth"


async def test_token_changed_while_running_asks_for_a_new_one(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry
) -> None:
    peer.token = "another"
    await peer.disconnect_all()
    await until(hass, hass.config_entries.flow.async_progress)
    (flow,) = hass.config_entries.flow.async_progress()
    assert flow["context"]["source"] == "reauth"
    assert state_of(hass, GLASS) == "unavailable"
    result = await hass.config_entries.flow.async_configure(flow["flow_id"], {"token": "another"})
    assert result["reason"] == "reauth_successful"
    await until(hass, lambda: state_of(hass, GLASS) == "off")
    assert entry.data["token"] == "another"


async def test_token_that_works_again_needs_no_other_token(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry
) -> None:
    peer.token = "another"
    await peer.disconnect_all()
    await until(hass, hass.config_entries.flow.async_progress)
    peer.token = TOKEN
    (flow,) = hass.config_entries.flow.async_progress()
    await hass.config_entries.flow.async_configure(flow["flow_id"], {"token": TOKEN})
    await until(hass, lambda: state_of(hass, GLASS) == "off")
    assert entry.data["token"] == TOKEN


@pytest.mark.parametrize("expected_lingering_timers", [True])
@pytest.mark.parametrize(("version", "issue"), [(0, "server_too_old"), (2, "integration_too_old")])
async def test_server_of_another_version_is_a_repair_issue_until_it_fits(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, version: int, issue: str
) -> None:
    peer.api_version = version
    await peer.disconnect_all()
    issues = ir.async_get(hass).issues
    issue_id = ("clap_sound", f"api_version_{entry.entry_id}")
    await until(hass, lambda: issue_id in issues)
    assert issues[issue_id].translation_key == issue
    assert issues[issue_id].translation_placeholders == {
        "title": entry.title,
        "server_version": str(version),
        "client_version": "1",
    }
    assert state_of(hass, GLASS) == "unavailable"
    peer.api_version = 1
    await until(hass, lambda: state_of(hass, GLASS) == "off")
    assert issue_id not in issues


async def test_model_problem_is_a_repair_issue_until_it_is_solved(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry
) -> None:
    issues = ir.async_get(hass).issues
    issue_id = ("clap_sound", f"model_problem_{entry.entry_id}")
    peer.model = MODEL.model_copy(update={"requested": "laion/clap-htsat-fused", "problem": "no network"})
    await peer.send(peer.info())
    await until(hass, lambda: issue_id in issues)
    placeholders = issues[issue_id].translation_placeholders
    assert placeholders is not None
    assert placeholders["problem"] == "no network"
    peer.model = MODEL
    await peer.send(peer.info())
    await until(hass, lambda: issue_id not in issues)


async def test_what_the_server_chose_by_itself_is_no_repair_issue_but_told_by_the_status(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry
) -> None:
    waits = "The full model is not here yet: the hub cannot be reached; the built-in model listens."
    peer.model = MODEL.model_copy(update={"requested": "auto", "choice": waits})
    await peer.send(peer.info())

    def told() -> tuple[object, object]:
        attributes = hass.states.get("sensor.kitchen_status").attributes
        return attributes["model"], attributes["model_choice"]

    await until(hass, lambda: told() == ("builtin", waits))
    assert ("clap_sound", f"model_problem_{entry.entry_id}") not in ir.async_get(hass).issues
    peer.model = MODEL
    await peer.send(peer.info())
    await until(hass, lambda: told() == ("builtin", None))


async def test_refresh_on_demand_tells_whether_the_server_is_connected(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry
) -> None:
    assert await async_setup_component(hass, "homeassistant", {})
    data = entry.runtime_data.data
    await entry.runtime_data.async_refresh()
    assert entry.runtime_data.data is data
    await peer.stop()
    await until(hass, lambda: state_of(hass, GLASS) == "unavailable")
    await entry.runtime_data.async_refresh()
    assert not entry.runtime_data.last_update_success


async def test_storage_problem_and_overload_are_repair_issues_until_they_are_over(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry
) -> None:
    issues = ir.async_get(hass).issues
    storage = ("clap_sound", f"storage_problem_{entry.entry_id}")
    overload = ("clap_sound", f"overload_{entry.entry_id}")
    peer.storage_problem = "The disk is full."
    peer.overload = "too slow for 2 microphones: Kitchen, Hall"
    await peer.send(peer.info())
    await until(hass, lambda: storage in issues and overload in issues)
    assert issues[storage].severity is ir.IssueSeverity.ERROR
    assert issues[storage].translation_placeholders["problem"] == "The disk is full."
    assert issues[overload].translation_placeholders["problem"] == peer.overload
    peer.storage_problem = None
    await peer.send(peer.info())
    await until(hass, lambda: storage not in issues)
    assert overload in issues
    assert await hass.config_entries.async_unload(entry.entry_id)
    assert overload not in issues


@pytest.mark.parametrize("expected_lingering_timers", [True])
async def test_failure_inside_our_own_code_is_logged_and_connected_anew(
    hass: HomeAssistant,
    peer: Peer,
    kitchen: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as context:
        context.setattr(coordinator_module, "set_server_issues", fails)
        await peer.disconnect_all()
        await until(hass, lambda: "connecting again" in caplog.text)
    await peer.start_event(kitchen)
    await until(hass, lambda: state_of(hass, GLASS) == "on")


async def test_server_that_hangs_up_at_once_is_tried_less_and_less_often_with_one_line_in_the_log(
    hass: HomeAssistant,
    peer: Peer,
    kitchen: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert kitchen in peer.settings
    monkeypatch.setattr(keeper, "STABLE_AFTER_S", 30)
    pauses: list[float] = []
    real = backoff.Backoff.next_s

    def noted(self: backoff.Backoff) -> float:
        pauses.append(self._next_s)
        return real(self)

    monkeypatch.setattr(backoff.Backoff, "next_s", noted)
    peer.breaks_after_replay = True
    await peer.disconnect_all()
    await peer.subscribed(8)
    assert pauses[:5] == [0.02, 0.04, 0.08, 0.1, 0.1]
    peer.breaks_after_replay = False
    monkeypatch.setattr(keeper, "STABLE_AFTER_S", 0.05)
    await until(hass, lambda: "is back" in caplog.text)
    ours = [r for r in caplog.records if r.name.startswith("custom_components") and r.levelno >= logging.INFO]
    assert len(ours) == 2, "once down, once up"


@pytest.mark.parametrize(
    "message",
    [
        '{"type": "event", "sequence": Infinity, "change": "started", "event": {}}',
        '{"type": "info", "api_version": 1, "epoch": {"a": 1}, "model": 5}',
        '{"type": "microphone_changed", "microphone": [1]}',
        '{"type": "level", "microphone_id": "a", "at": 5, "level_dbfs": 1}',
        '{"type": "scores", "microphone_id": "a", "at": "2026-01-01", "level_dbfs": 1, "scores": 5}',
        '{"type": {"a": 1}}',
        "[" * 100_000,
        "[1]",
        "null",
        "no JSON",
        "9" * 5000,
    ],
)
async def test_message_that_makes_no_sense_is_skipped_and_logged_once(
    hass: HomeAssistant, peer: Peer, kitchen: str, caplog: pytest.LogCaptureFixture, message: str
) -> None:
    for _ in range(3):
        await peer.send(message)
    await peer.start_event(kitchen)
    await until(hass, lambda: state_of(hass, GLASS) == "on")
    assert len(peer.subscriptions) == 1
    ours = [r for r in caplog.records if r.name.startswith("custom_components") and r.levelno >= logging.INFO]
    assert len(ours) == 1
    assert ours[0].exc_info is None


async def test_numbers_that_make_no_sense_at_connect_hinder_nothing(hass: HomeAssistant, peer: Peer) -> None:
    peer.greeting = json.dumps(peer.info(last_sequence=float("inf")))
    peer.replayed = '{"type": "replayed", "last_sequence": Infinity}'
    entry = make_entry(hass, peer, microphone_data())
    assert await hass.config_entries.async_setup(entry.entry_id)
    (kitchen,) = entry.subentries
    await peer.start_event(kitchen)
    await until(hass, lambda: state_of(hass, GLASS) == "on")


async def test_many_microphones_come_in_several_messages(hass: HomeAssistant, peer: Peer) -> None:
    peer.microphones_in_a_message = 2
    names = ("Attic", "Barn", "Cellar", "Den", "Entrance")
    entry = make_entry(hass, peer, *(microphone_data(name) for name in names))
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.config_entries.async_reload(entry.entry_id)
    assert [m.name for m in entry.runtime_data.data.microphones.values()] == list(names)


async def test_message_of_many_megabytes_is_taken(hass: HomeAssistant, peer: Peer, kitchen: str) -> None:
    await peer.send(json.dumps({"type": "something_new", "long": "x" * 14 * 2**20}))
    await peer.start_event(kitchen)
    await until(hass, lambda: state_of(hass, GLASS) == "on")
    assert len(peer.subscriptions) == 1


async def test_time_without_an_offset_is_utc(hass: HomeAssistant, peer: Peer, kitchen: str) -> None:
    event = await peer.start_event(kitchen, "alarm")
    message = json.loads(peer.changes[-1].model_dump_json())
    message["sequence"] += 1
    message["event"] |= {"label_id": "glass_breaking", "id": "naive"}
    for name in ("started_at", "detected_at"):
        message["event"][name] = event.started_at.replace(tzinfo=None).isoformat()
    await peer.send(message)
    await until(hass, lambda: state_of(hass, GLASS) == "on")
    state = hass.states.get(GLASS)
    assert state is not None
    assert state.attributes["started_at"] == event.started_at.isoformat()


# aiohttp arms its heartbeat once more when the answer to our close arrives; it does nothing then.
@pytest.mark.parametrize("expected_lingering_timers", [True])
async def test_server_that_does_not_say_what_it_has_is_given_up(
    hass: HomeAssistant, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MESSAGE_TIMEOUT_S", 0.1)
    peer.replayed = '{"type": "something_new"}'
    entry = make_entry(hass, peer, microphone_data())
    assert not await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_RETRY
    assert entry.reason is not None
    assert "in time" in entry.reason


async def test_database_that_is_made_anew_while_connected_loses_no_event(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    ids = heard_ids(hass)
    for _ in range(3):
        await peer.start_event(kitchen)
    await until(hass, lambda: len(ids) == 3)
    peer.changes.clear()
    peer.epoch = "another"
    await peer.send(peer.info())
    event = await peer.start_event(kitchen)
    await until(hass, lambda: ids[-1] == event.id)
    assert len(peer.subscriptions) == 1


async def test_remark_of_the_server_on_a_microphone_is_shown(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    remark = "left and right cancel each other: only the left channel is used"
    await peer.set_status(kitchen, status(notice=remark))
    for entity_id in ("sensor.kitchen_status", "binary_sensor.kitchen_problem"):
        await until(
            hass, lambda entity_id=entity_id: hass.states.get(entity_id).attributes["notice"] == remark
        )
