"""Asking an assistant what was heard: the tools that Assist offers, called as it calls them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import probatio
import pytest
from homeassistant.components.homeassistant.exposed_entities import async_expose_entity
from homeassistant.core import Context
from homeassistant.helpers import area_registry as ar
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers import llm
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util

from clap_server.api import schemas
from clap_server.detection.patterns import AlarmPattern
from clap_server.listening.diary import Fate
from custom_components.clap_sound.answer import MAX_GAPS
from custom_components.clap_sound.const import DOMAIN
from custom_components.clap_sound.llm import async_get_tools
from tests.integration.conftest import make_entry, microphone_data, until
from tests.integration.server import TOKEN, Peer, status

if TYPE_CHECKING:
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry

KITCHEN = "event.kitchen_sound_detected"
KITCHEN_GLASS = "binary_sensor.kitchen_glass_breaking"
NAMES = ["clap_sound__list_sounds", "clap_sound__listen_now"]


@pytest.fixture(autouse=True)
async def _assist(hass: HomeAssistant) -> None:
    assert await async_setup_component(hass, "homeassistant", {})
    assert await async_setup_component(hass, "llm", {})
    await hass.config.async_update(time_zone="Europe/Berlin")


@pytest.fixture(autouse=True)
def _it_goes_on_for_long(peer: Peer) -> None:
    """Let microphones listen since long ago; a test may say otherwise."""
    peer.since = datetime.now(UTC) - timedelta(days=30)


def expose(hass: HomeAssistant, *entity_ids: str, exposed: bool = True) -> None:
    for entity_id in entity_ids:
        assert er.async_get(hass).async_get(entity_id), entity_id
        async_expose_entity(hass, "conversation", entity_id, exposed)


def put_into(hass: HomeAssistant, entity_id: str, area: str) -> None:
    entity = er.async_get(hass).async_get(entity_id)
    assert entity is not None
    assert entity.device_id is not None
    area_id = ar.async_get(hass).async_get_or_create(area).id
    dr.async_get(hass).async_update_device(entity.device_id, area_id=area_id)


async def assist(hass: HomeAssistant, language: str = "en") -> llm.APIInstance:
    context = llm.LLMContext("test", Context(), language, "conversation", None)
    return await llm.async_get_api(hass, llm.LLM_API_ASSIST, context)


async def ours(hass: HomeAssistant) -> list[llm.Tool]:
    return [tool for tool in (await assist(hass)).tools if tool.integration == DOMAIN]


async def call(hass: HomeAssistant, tool: str, language: str = "en", **asked: Any) -> llm.ToolResult:
    api = await assist(hass, language)
    result = await api.async_call_tool(llm.ToolInput(f"clap_sound__{tool}", asked))
    assert not any(
        secret in json.dumps(result.data) for secret in ("127.0.0.1", "192.0.2.1", TOKEN, "hunter2")
    )
    return result


async def ask(hass: HomeAssistant, tool: str, language: str = "en", **asked: Any) -> dict[str, Any]:
    result = await call(hass, tool, language, **asked)
    assert not result.error, result.data
    return result.data


async def refusal(hass: HomeAssistant, tool: str, **asked: Any) -> str:
    result = await call(hass, tool, **asked)
    assert result.error
    return str(result.data["error"])


async def set_up(hass: HomeAssistant, peer: Peer, *microphones: Any) -> MockConfigEntry:
    entry = make_entry(hass, peer, *microphones)
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    return entry


@pytest.mark.usefixtures("entry")
async def test_assist_offers_the_tools_as_reading_only_once_something_is_exposed(hass: HomeAssistant) -> None:
    assert await ours(hass) == []
    assert "expose" in (await assist(hass)).api_prompt
    expose(hass, KITCHEN)
    tools = await ours(hass)
    assert [tool.name for tool in tools] == NAMES
    for tool in tools:
        assert tool.annotations == llm.ToolAnnotations(
            read_only=True, destructive=False, idempotent=True, open_world=False
        )
    assert NAMES[0] in (await assist(hass)).api_prompt
    context = llm.LLMContext("test", Context(), "en", "conversation", None)
    assert async_get_tools(hass, context, "another") is None
    schema = probatio.to_openapi(tools[0].parameters, custom_serializer=llm.selector_serializer)
    assert schema["properties"]["labels"]["type"] == "array"
    assert schema["properties"]["labels"]["items"] == {"type": "string"}
    assert "Alarm, Glass breaking" in schema["properties"]["labels"]["description"]
    assert schema["properties"]["limit"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 100,
        "default": 20,
        "description": "List at most so many sounds",
    }
    assert "area" not in schema["properties"]
    assert not schema.get("required")
    put_into(hass, KITCHEN, "Ground floor")
    assert "area" in probatio.to_openapi((await ours(hass))[1].parameters)["properties"]
    expose(hass, KITCHEN, exposed=False)
    assert await ours(hass) == []


@pytest.mark.usefixtures("entry")
async def test_the_switch_that_home_assistant_exposes_by_itself_tells_nothing(hass: HomeAssistant) -> None:
    expose(hass, "switch.kitchen_mute", "sensor.kitchen_status")
    assert await ours(hass) == []


async def test_did_any_glass_break_last_night(hass: HomeAssistant, peer: Peer) -> None:
    entry = await set_up(hass, peer, microphone_data("Kitchen"), microphone_data("Hall"))
    kitchen, hall = entry.subentries
    expose(hass, KITCHEN, "event.hall_sound_detected")
    put_into(hass, KITCHEN, "Downstairs")
    group = schemas.EventGroupInfo(
        id="one sound",
        nearest=hall,
        margin_db=9,
        unsure=False,
        microphones=[schemas.HeardAtMicrophone(id=each, level_above_l90_db=30) for each in (hall, kitchen)],
    )
    began = datetime.now(UTC) - timedelta(hours=6)
    for microphone in (kitchen, hall):
        event = await peer.start_event(microphone, age=timedelta(hours=6), group=group)
        await peer.end_event(event, ended_at=event.started_at + timedelta(seconds=4), peak_score=0.84)
    earlier = await peer.start_event(kitchen, age=timedelta(hours=7), score=0.7)
    await peer.end_event(earlier, ended_at=earlier.started_at + timedelta(seconds=4), peak_score=0.7)
    await peer.start_event(hall, "alarm", age=timedelta(hours=6))
    long_ago = await peer.start_event(kitchen, age=timedelta(hours=20))
    await peer.end_event(long_ago, ended_at=long_ago.started_at + timedelta(seconds=4))
    since = dt_util.as_local(began - timedelta(hours=3)).replace(tzinfo=None)
    answer = await ask(hass, "list_sounds", since=since.isoformat(), labels=["glass"])
    assert answer["result"] == "Detections: 3. See counts and sounds."
    assert answer["counts"] == [{"sound": "Glass breaking", "detections": 3, "different_sounds": 2}]
    newest, _, oldest = answer["sounds"]
    heard_at = datetime.fromisoformat(newest["started_at"])
    assert heard_at.utcoffset() == dt_util.as_local(began).utcoffset()
    assert abs(heard_at - began) < timedelta(seconds=5)
    assert newest | {"started_at": "", "ended_at": ""} == {
        "sound": "Glass breaking",
        "started_at": "",
        "ended_at": "",
        "microphone": "Hall",
        "score": 0.84,
        "false_alarms_at_this_score": "about 3 false alarms a month",
        "stood_out_most_at": "Hall",
    }
    assert (oldest["microphone"], oldest["area"]) == ("Kitchen", "Downstairs")
    assert oldest["false_alarms_at_this_score"] == "about one false alarm a day"
    assert "stood_out_most_at" not in oldest
    assert [(each["microphone"], each["state"], each["listened"]) for each in answer["microphones"]] == [
        ("Kitchen", "listening", "the whole time"),
        ("Hall", "listening", "the whole time"),
    ]


async def test_alarm_that_began_before_and_goes_on_is_told_and_so_are_pattern_verdict_and_better_name(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    expose(hass, KITCHEN)
    alarm = await peer.start_event(kitchen, "alarm", age=timedelta(hours=2), pattern=AlarmPattern.T3)
    glass = await peer.start_event(kitchen, age=timedelta(minutes=1))
    ended = await peer.end_event(glass)
    judged = ended.model_copy(update={"feedback": "false_alarm", "replaced_by": "metal_impact"})
    peer.changes[-1] = peer.changes[-1].model_copy(update={"event": judged})
    an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    answer = await ask(hass, "list_sounds", since=an_hour_ago, minimum_score=0.99)
    (told,) = answer["sounds"]
    assert told == {
        "sound": "Alarm",
        "started_at": dt_util.as_local(alarm.started_at).isoformat(timespec="seconds"),
        "ended_at": "it goes on",
        "microphone": "Kitchen",
        "recognised_by_its_beeps": "T3",
    }
    told, _ = (await ask(hass, "list_sounds", since=an_hour_ago))["sounds"]
    assert told["verdict_of_the_user"] == "false_alarm"
    assert told["rather_was"] == "Metal impact"


async def test_only_what_is_exposed_is_told(hass: HomeAssistant, peer: Peer) -> None:
    entry = await set_up(hass, peer, microphone_data("Kitchen"), microphone_data("Bedroom"))
    kitchen, bedroom = entry.subentries
    expose(hass, KITCHEN_GLASS)
    group = schemas.EventGroupInfo(
        id="one sound",
        nearest=bedroom,
        margin_db=9,
        unsure=False,
        microphones=[
            schemas.HeardAtMicrophone(id=each, level_above_l90_db=30) for each in (bedroom, kitchen)
        ],
    )
    for microphone in (kitchen, bedroom):
        await peer.start_event(microphone, "alarm")
        await peer.start_event(microphone, group=group)
    await until(hass, lambda: len(entry.runtime_data.data.active) == 4)
    peer.windows[kitchen] = [window(glass_breaking=0.4, alarm=0.9)]
    heard = await ask(hass, "list_sounds")
    now = await ask(hass, "listen_now")
    assert [(each["sound"], each["microphone"]) for each in heard["sounds"]] == [
        ("Glass breaking", "Kitchen")
    ]
    assert heard["microphones"][0]["listens_for"] == ["Glass breaking"]
    assert now["microphones"][0]["going_on"] == ["Glass breaking"]
    assert [each["sound"] for each in now["microphones"][0]["top_scores"]] == ["Glass breaking"]
    assert "Bedroom" not in json.dumps([heard, now])
    assert await refusal(hass, "list_sounds", microphone="Bedroom") == (
        "There is no microphone 'Bedroom' that you may ask. There are: Kitchen."
    )
    assert await refusal(hass, "listen_now", microphone="Bedroom") == (
        "There is no microphone 'Bedroom' that you may ask. There are: Kitchen."
    )
    for tool in await ours(hass):
        assert "Bedroom" not in str(tool.parameters.schema)
    api = await assist(hass)
    expose(hass, KITCHEN_GLASS, exposed=False)
    result = await api.async_call_tool(llm.ToolInput(NAMES[0], {}))
    assert result == llm.ToolResult({"error": "No microphone is exposed to this assistant."}, error=True)


@pytest.mark.usefixtures("entry")
async def test_disabled_entity_exposes_nothing(hass: HomeAssistant) -> None:
    expose(hass, KITCHEN)
    er.async_get(hass).async_update_entity(KITCHEN, disabled_by=er.RegistryEntryDisabler.USER)
    assert await ours(hass) == []


async def test_nothing_heard_by_microphones_that_listened_is_told_apart_from_nobody_listening(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    expose(hass, KITCHEN)
    answer = await ask(hass, "list_sounds")
    assert answer["result"] == "No sound was detected, and the microphones listened the whole time."
    assert answer["counts"] == answer["sounds"] == []
    hours_ago = [datetime.now(UTC) - timedelta(hours=hours) for hours in range(4)]
    for code, state, since in (
        ("unauthorized", "failed", hours_ago[3]),
        ("choppy", "listening", hours_ago[2]),
        ("too_slow", "listening", hours_ago[2] + timedelta(minutes=30)),
        ("listening", "listening", hours_ago[1]),
    ):
        await peer.set_status(kitchen, status(state, code, "rtsp://192.0.2.1", since=since))
    await until(hass, lambda: entry.runtime_data.data.microphones[kitchen].status.code == "listening")
    answer = await ask(hass, "list_sounds")
    assert answer["result"].startswith(
        "No sound was detected, but not all microphones are known to have listened"
    )
    (told,) = answer["microphones"]
    three, two, half, one = (
        dt_util.as_local(time).isoformat(timespec="seconds")
        for time in (hours_ago[3], hours_ago[2], hours_ago[2] + timedelta(minutes=30), hours_ago[1])
    )
    assert told["listened"] == "all the time but for the gaps"
    assert told["gaps"] == [
        {"from": three, "until": two, "why": "User name or password is wrong (401)"},
        {"from": two, "until": half, "why": "Sound is missing again and again"},
        {"from": half, "until": one, "why": "The computer is too slow"},
    ]
    answer = await ask(hass, "list_sounds", since=(hours_ago[1] + timedelta(minutes=1)).isoformat())
    assert answer["microphones"][0]["listened"] == "the whole time"


async def test_muted_microphone_is_told_as_one(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    expose(hass, KITCHEN)
    peer.since = datetime.now(UTC) - timedelta(days=2)
    peer.muted.add(kitchen)
    await peer.tell_microphone(kitchen)
    await until(hass, lambda: entry.runtime_data.data.microphones[kitchen].muted)
    (told,) = (await ask(hass, "list_sounds"))["microphones"]
    assert (told["state"], told["reason"]) == ("muted", "Muted")
    assert [gap["why"] for gap in told["gaps"]] == ["Muted"]
    (told,) = (await ask(hass, "listen_now"))["microphones"]
    assert told["reason"] == "Muted"
    assert "level_dbfs" not in told
    (told,) = (await ask(hass, "listen_now", "zh-Hans"))["microphones"]
    assert told["reason"] == "已静音"


async def test_what_nobody_saw_is_not_known(hass: HomeAssistant, peer: Peer, entry: MockConfigEntry) -> None:
    expose(hass, KITCHEN)
    await peer.stop()
    await until(hass, lambda: not entry.runtime_data.last_update_success)
    peer.since = datetime.now(UTC)
    await peer.start()
    await until(hass, lambda: entry.runtime_data.last_update_success)
    (told,) = (await ask(hass, "list_sounds"))["microphones"]
    assert [gap["why"] for gap in told["gaps"]] == ["not known"]
    assert datetime.fromisoformat(told["gaps"][0]["until"]) == peer.since.replace(microsecond=0)


async def test_break_of_the_connection_alone_is_no_gap(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry
) -> None:
    expose(hass, KITCHEN)
    await peer.stop()
    await until(hass, lambda: not entry.runtime_data.last_update_success)
    await peer.start()
    await until(hass, lambda: entry.runtime_data.last_update_success)
    (told,) = (await ask(hass, "list_sounds"))["microphones"]
    assert told["listened"] == "the whole time"


async def test_gap_whose_state_only_got_another_remark_is_one(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    expose(hass, KITCHEN)
    for state, notice, minutes in (("stalled", None, 30), ("stalled", "still", 20), ("listening", None, 10)):
        since = datetime.now(UTC) - timedelta(minutes=minutes)
        await peer.set_status(kitchen, status(state, state, notice=notice, since=since))
    await until(hass, lambda: entry.runtime_data.data.microphones[kitchen].status.since == since)
    (gap,) = (await ask(hass, "list_sounds"))["microphones"][0]["gaps"]
    assert gap["why"] == "No audio arrives"
    lasted = datetime.fromisoformat(gap["until"]) - datetime.fromisoformat(gap["from"])
    assert round(lasted.total_seconds() / 60) == 20


async def test_gap_is_known_after_a_restart_and_forgotten_with_the_server(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str, hass_storage: dict[str, Any]
) -> None:
    expose(hass, KITCHEN)
    for state, minutes in (("muted", 30), ("listening", 20), ("muted", 10), ("listening", 5)):
        since = datetime.now(UTC) - timedelta(minutes=minutes)
        await peer.set_status(kitchen, status(state, state, since=since))
    await until(hass, lambda: entry.runtime_data.data.microphones[kitchen].status.since == since)
    before = (await ask(hass, "list_sounds"))["microphones"]
    assert [gap["why"] for gap in before[0]["gaps"]] == ["Muted", "Muted"]
    assert await hass.config_entries.async_reload(entry.entry_id)
    assert (await ask(hass, "list_sounds"))["microphones"] == before
    key = f"clap_sound.{entry.entry_id}.listened"
    assert key in hass_storage
    assert await hass.config_entries.async_remove(entry.entry_id)
    assert key not in hass_storage


async def test_longest_gaps_are_told_of_many(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    expose(hass, KITCHEN)
    begin = datetime.now(UTC) - timedelta(hours=12)
    for number in range(MAX_GAPS + 3):
        at = begin + timedelta(minutes=10 * number)
        await peer.set_status(kitchen, status("stalled", "stalled", since=at))
        await peer.set_status(
            kitchen, status("listening", "listening", since=at + timedelta(seconds=20 if number % 5 else 300))
        )
    await until(hass, lambda: entry.runtime_data.data.microphones[kitchen].status.since > at)
    (told,) = (await ask(hass, "list_sounds"))["microphones"]
    assert len(told["gaps"]) == MAX_GAPS
    assert told["shorter_gaps_left_out"] == 3
    length = [
        datetime.fromisoformat(gap["until"]) - datetime.fromisoformat(gap["from"]) for gap in told["gaps"]
    ]
    assert sum(each > timedelta(minutes=4) for each in length) == 3


async def test_server_that_is_away_is_said_in_a_sentence(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry
) -> None:
    expose(hass, KITCHEN)
    await peer.stop()
    await until(hass, lambda: not entry.runtime_data.last_update_success)
    away = (
        "The CLAP Sound server of Kitchen does not answer, so what was heard cannot be told now."
        " It may go on listening; ask again later."
    )
    assert await refusal(hass, "list_sounds") == away
    now = {"microphone": "Kitchen", "state": "not known", "reason": "no connection to its server"}
    assert await ask(hass, "listen_now") == {"microphones": [now]}
    await hass.config_entries.async_unload(entry.entry_id)
    assert await refusal(hass, "list_sounds") == away
    assert await ask(hass, "listen_now") == {"microphones": [now]}


async def test_of_two_servers_the_one_that_answers_is_told_and_the_other_named(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    other = Peer()
    other.server_id = "00000000-0000-4000-8000-000000000002"
    await other.start()
    try:
        second = await set_up(hass, other, microphone_data("Hall"))
        expose(hass, KITCHEN, "event.hall_sound_detected")
        hall = next(iter(second.subentries))
        await other.start_event(hall, age=timedelta(minutes=2))
        await peer.start_event(kitchen, age=timedelta(minutes=1))
        answer = await ask(hass, "list_sounds")
        assert [each["microphone"] for each in answer["sounds"]] == ["Kitchen", "Hall"]
        assert "server_does_not_answer_for" not in answer
        await other.stop()
        answer = await ask(hass, "list_sounds", labels=["alarm"])
        assert (
            answer["result"] == "No such sound is known to have been detected, but not every server answers."
        )
        assert answer["server_does_not_answer_for"] == ["Hall"]
        assert await hass.config_entries.async_unload(second.entry_id)
    finally:
        await other.stop()


async def test_questions_are_narrowed_by_room_microphone_sound_and_score(
    hass: HomeAssistant, peer: Peer
) -> None:
    labels = [{"label": "glass_breaking"}, {"label": "car_horn"}, {"label": "a tap is dripping"}]
    entry = await set_up(
        hass, peer, *(microphone_data(name, labels) for name in ("Kitchen", "Kitchen window", "Hall"))
    )
    kitchen, window_microphone, hall = entry.subentries
    expose(hass, KITCHEN, "event.kitchen_window_sound_detected", "event.hall_sound_detected")
    put_into(hass, KITCHEN, "Kitchen")
    put_into(hass, "event.kitchen_window_sound_detected", "Kitchen")
    for microphone, score in ((kitchen, 0.6), (window_microphone, 0.7), (hall, 0.8)):
        await peer.start_event(microphone, score=score, age=timedelta(minutes=1))
    (tap,) = (label for label in peer.microphone(hall)["labels"] if not label["library"])
    await peer.start_event(hall, tap["id"])

    async def found(**asked: Any) -> list[str]:
        answer = await ask(hass, "list_sounds", **asked)
        return sorted(f"{each['sound']} in {each['microphone']}" for each in answer["sounds"])

    assert await found(area="kitchen") == ["Glass breaking in Kitchen", "Glass breaking in Kitchen window"]
    assert await found(microphone="kitchen") == ["Glass breaking in Kitchen"]
    assert await found(microphone="window", area="") == ["Glass breaking in Kitchen window"]
    assert await found(minimum_score=0.75, labels="glass_breaking") == ["Glass breaking in Hall"]
    assert await found(labels=["tap"]) == ["a tap is dripping in Hall"]
    answer = await ask(hass, "list_sounds", labels=["car", "dog bark"])
    assert answer["sounds"] == []
    assert answer["nobody_listens_for"] == ["dog bark"]
    assert answer["result"] == (
        "No such sound was detected, but no microphone listens for dog bark: that may have sounded."
    )
    answer = await ask(hass, "list_sounds", labels=["car horn"])
    assert answer["result"] == "No such sound was detected, and the microphones listened the whole time."
    assert await refusal(hass, "listen_now", area="Attic") == (
        "No microphone that you may ask is in 'Attic'. There are some in: Kitchen."
    )


@pytest.mark.usefixtures("entry")
async def test_room_of_the_entity_comes_before_that_of_the_device(hass: HomeAssistant) -> None:
    expose(hass, KITCHEN)
    put_into(hass, KITCHEN, "Downstairs")
    area = ar.async_get(hass).async_get_or_create("Pantry")
    er.async_get(hass).async_update_entity(KITCHEN, area_id=area.id)
    assert (await ask(hass, "listen_now"))["microphones"][0]["area"] == "Pantry"


@pytest.mark.usefixtures("entry")
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"since": "yesterday"}, "'since' is no time. Write it like 20"),
        ({"until": "25:00"}, "'until' is no time. Write it like 20"),
        ({"since": "2999-01-01T00:00:00"}, "'since' is in the future. It is 20"),
        ({"since": "2026-01-02", "until": "2026-01-01T00:00:00"}, "'since' has to be before 'until'."),
    ],
)
async def test_times_that_mean_nothing_are_refused_with_a_sentence(
    hass: HomeAssistant, asked: dict[str, str], words: str
) -> None:
    expose(hass, KITCHEN)
    assert (await refusal(hass, "list_sounds", **asked)).startswith(words)


@pytest.mark.usefixtures("entry")
async def test_day_is_meant_with_all_its_hours_in_local_time(hass: HomeAssistant) -> None:
    expose(hass, KITCHEN)
    answer = await ask(hass, "list_sounds", since="2026-01-30", until="2026-01-30")
    assert (answer["since"], answer["until"]) == ("2026-01-30T00:00:00+01:00", "2026-01-31T00:00:00+01:00")


async def test_answer_is_bounded_and_says_what_is_left_out(
    hass: HomeAssistant, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = await set_up(hass, peer, *(microphone_data(f"Room {number}") for number in range(22)))
    expose(hass, *(f"event.room_{number}_sound_detected" for number in range(22)))
    room = next(iter(entry.subentries))
    for minutes in range(30, 0, -1):
        event = await peer.start_event(room, age=timedelta(minutes=minutes))
        await peer.end_event(event, ended_at=event.started_at + timedelta(seconds=5))
    answer = await ask(hass, "list_sounds", limit=7)
    assert len(answer["sounds"]) == 7
    assert answer["sounds_left_out"] == 23
    assert answer["counts"][0]["detections"] == 30
    assert len(answer["microphones"]) == 20
    assert answer["microphones_left_out"] == 2
    now = await ask(hass, "listen_now")
    assert len(now["microphones"]) == 20
    assert now["microphones_left_out"] == 2
    monkeypatch.setattr("custom_components.clap_sound.client.client.EVENT_PAGE", 5)
    monkeypatch.setattr("custom_components.clap_sound.client.client.MAX_EVENT_PAGES", 2)
    answer = await ask(hass, "list_sounds")
    assert len(answer["sounds"]) == 10
    oldest = answer["sounds"][-1]["ended_at"]
    assert answer["too_much_to_look_further_back_than"] == oldest


def window(outcome: Fate = Fate.SCORED, **scores: float) -> schemas.ExplainedWindow:
    now = datetime.now(UTC)
    return schemas.ExplainedWindow(
        started_at=now - timedelta(seconds=2),
        ended_at=now,
        level_dbfs=-31.4,
        noise_floor_dbfs=-55.2,
        gate_opens_at_dbfs=-49,
        onset_at=None,
        outcome=outcome,
        words="in words",
        labels=[
            schemas.ExplainedLabel(
                label_id=label_id,
                name=label_id,
                score=score,
                threshold=0.7,
                decision=schemas.Decision.UNDER_THRESHOLD,
                progress=None,
                held_until=None,
                words="in words",
            )
            for label_id, score in scores.items()
        ],
    )


async def test_listening_now_tells_level_scores_and_what_goes_on(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    expose(hass, KITCHEN)
    peer.windows[kitchen] = [window(glass_breaking=0.9), window(glass_breaking=0.5, alarm=0.71)]
    await peer.start_event(kitchen, "alarm")
    await until(hass, lambda: entry.runtime_data.data.active)
    (told,) = (await ask(hass, "listen_now"))["microphones"]
    assert told["state"] == "listening"
    assert (told["level_dbfs"], told["noise_floor_dbfs"]) == (-31.4, -55.2)
    assert told["going_on"] == ["Alarm"]
    assert [(each["sound"], each["score"]) for each in told["top_scores"]] == [
        ("Alarm", 0.71),
        ("Glass breaking", 0.5),
    ]
    assert told["top_scores"][1]["false_alarms_at_this_score"] == "about one false alarm an hour"
    (told,) = (await ask(hass, "listen_now", "zh-Hans"))["microphones"]
    assert [each["sound"] for each in told["top_scores"]] == ["警报", "玻璃破碎"]
    answer = await ask(hass, "list_sounds", "zh-Hans", labels=["警"])
    assert [each["sound"] for each in answer["sounds"]] == ["警报"]


async def test_listening_now_says_why_there_are_no_scores(
    hass: HomeAssistant, peer: Peer, kitchen: str
) -> None:
    expose(hass, KITCHEN)

    async def heard() -> str:
        (told,) = (await ask(hass, "listen_now"))["microphones"]
        assert "top_scores" not in told
        return str(told["heard"])

    assert await heard() == "its server could not be asked"
    peer.windows[kitchen] = []
    assert await heard() == "no sound has come for some seconds"
    peer.windows[kitchen] = [window(Fate.GATED)]
    assert await heard() == "quiet: nothing rises above its own noise"
    peer.windows[kitchen] = [window(Fate.DROPPED)]
    assert await heard() == "not judged: dropped"
