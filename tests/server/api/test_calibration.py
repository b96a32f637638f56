"""GET /api/microphones/{id}/calibration says what thresholds mean in this room."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from clap_server.clap import builtin
from clap_server.clap.everyday import EverydayBank, Piece
from clap_server.detection.everyday import found as found_module
from clap_server.detection.everyday.found import FILE
from clap_server.listening.room.sound import LEAST_KEPT_S, RoomSound
from tests.server.listening.spectral import GLASS_BANDS, SpectralModel
from tests.support.libraries import library_with
from tests.support.running_server import ReadyHolder, running
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.support.running_server import Client

PATH = "/api/microphones/hall/calibration"
HALL: dict[str, Any] = {
    "name": "Hall",
    "source": {"type": "push"},
    "labels": [{"label": "glass breaking", "threshold": 0.7}, {"label": "low battery chirp"}],
}


def everyday(seed: int, windows: int, breaks: int = 0) -> EverydayBank:
    """Sound about one band, with windows that are like breaking glass."""
    rng = np.random.default_rng(seed)
    rows = np.abs(rng.standard_normal((windows, SpectralModel().dimension))) * 0.2
    rows[:, 2] += 1
    at = np.linspace(50, windows - 50, breaks).astype(int)
    rows[at] = 0
    rows[at, GLASS_BANDS] = 1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ends_s = np.arange(1, windows + 1) * 0.5
    recordings = np.zeros(windows, np.intp)
    return EverydayBank.of(
        "spectral", rows.astype(np.float32), ends_s, recordings, [Piece()], hop_s=0.5, sources="a home"
    )


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    model = SpectralModel()
    model.everyday = everyday(1, 7200)
    async with running(tmp_path / "data", holder=ReadyHolder(tmp_path, model)) as client:
        yield client


async def listening(client: Client) -> None:
    await client.json("PUT", "/api/microphones/hall", status=201, json=HALL)
    supervisor = client.server.context.supervisor
    await until(lambda: supervisor._entries["hall"].listener is not None)


async def taught(client: Client) -> None:
    """As if the hall had been listened to for two days."""
    supervisor = client.server.context.supervisor
    room = supervisor.room("hall")
    assert room is not None
    await until(lambda: room._refreshed_at is not None)
    room.listened(48 * 3600, 12 * 3600)
    model = client.server.context.holder.model
    room.kept_hours = 1.0
    listener: Any = supervisor._entries["hall"].listener
    room._tell(listener._scoring, RoomSound(model, everyday(2, 7200, breaks=3), 6.0))
    await until(lambda: listener.scoring.room is room.sound)


async def test_while_too_little_was_heard_the_promise_is_told_and_the_count_refused(client: Client) -> None:
    await listening(client)
    answer = await client.json("GET", PATH)
    assert answer["microphone_id"] == "hall"
    assert answer["everyday"] == {"hours": 1.0, "sources": "a home"}
    room = answer["room"]
    assert not room["counts"]
    assert room["reason"] == (
        "too little was heard here: 0 minutes of sound above the noise floor, of the"
        f" {LEAST_KEPT_S / 60:.0f} that are needed"
        " (counted once an hour)"
    )
    assert (room["sounding_hours_a_day"], room["sounding_hours_known"]) == (4.0, False)
    glass, chirp = answer["labels"]
    assert glass["label_id"] == "glass_breaking"
    assert glass["meaning"].startswith("about one false alarm a day")
    assert glass["present"]["false_alarms_per_day"] == pytest.approx(1)
    assert glass["wished"] is None
    assert [point["threshold"] for point in glass["curve"]] == [n / 100 for n in range(30, 100, 5)]
    rates = [point["false_alarms_per_day"] for point in glass["curve"]]
    assert rates == sorted(rates, reverse=True)
    assert all(point["counted"] is None for point in glass["curve"])
    assert chirp["present"] is None
    assert chirp["curve"] == []
    assert chirp["meaning"] == "told by the pattern of its beeps alone, whatever the threshold"


@pytest.mark.parametrize("windows", [None, 400, 7200], ids=["no bank", "a small bank", "a bank"])
async def test_what_is_only_guessed_is_said_to_be(tmp_path: Path, windows: int | None) -> None:
    model = SpectralModel()
    model.everyday = None if windows is None else everyday(1, windows)
    guessed = "about one false alarm a day; not known yet: guessed, as too little everyday sound is known"
    expected = "about one false alarm a day" if windows == 7200 else guessed
    expected += "; what it finds is not known: this sound was not tested with this model"
    async with running(tmp_path / "data", holder=ReadyHolder(tmp_path, model)) as client:
        await listening(client)
        await until(lambda: client.server.context.supervisor.scorer("hall") is not None)
        hall = await client.json("GET", "/api/microphones/hall")
        checked = await client.json("POST", "/api/microphones/check", json={"settings": HALL})
        calibrated = await client.json("GET", PATH)
        for glass, chirp in (hall["labels"], checked["labels"], calibrated["labels"]):
            assert glass["meaning"] == expected
            assert "guessed" not in chirp["meaning"]
        for glass, chirp in (hall["labels"], checked["labels"]):
            assert (glass["guessed"], chirp["guessed"]) == (windows != 7200, False)
        listed = (await client.json("GET", "/api/labels"))["labels"]
    scored = [label["meaning"] for label in listed if label["id"] != "smoke_alarm_low_battery"]
    assert all(("guessed" in words) is (windows != 7200) for words in scored)
    assert {label["id"] for label in listed if not label["guessed"]} == (
        {label["id"] for label in listed} if windows == 7200 else {"smoke_alarm_low_battery"}
    )


async def test_while_the_labels_are_prepared_the_promise_is_told_and_the_count_refused(
    client: Client,
) -> None:
    await listening(client)
    supervisor = client.server.context.supervisor
    await client.json("PUT", "/api/microphones/hall/mute")
    async with supervisor.batcher.aside:
        await client.json("DELETE", "/api/microphones/hall/mute")
        await until(lambda: supervisor._entries["hall"].listener is not None)
        answer = await client.json("GET", PATH)
    assert not answer["room"]["counts"]
    assert answer["room"]["reason"] == "the labels are being prepared: ask again in a moment"
    assert answer["labels"][0]["present"]["false_alarms_per_day"] == pytest.approx(1)
    await until(lambda: supervisor.scorer("hall") is not None)
    assert "too little" in (await client.json("GET", PATH))["room"]["reason"]


async def test_a_room_that_taught_enough_is_counted_in(client: Client) -> None:
    await listening(client)
    await taught(client)
    answer = await client.json("GET", f"{PATH}?per_day=0.0333")
    room = answer["room"]
    assert room["counts"]
    assert room["reason"] is None
    assert (room["heard_hours"], room["sounding_hours"]) == (48, 12)
    assert (room["sounding_hours_a_day"], room["sounding_hours_known"]) == (6, True)
    glass, _ = answer["labels"]
    counted = glass["present"]["counted"]
    # Three in an hour, of which a day here has six.
    assert counted["events"] == 3
    assert counted["per_day"] == pytest.approx(18)
    assert counted["low"] < 18 < counted["high"]
    assert (
        "in 1.0 hours of this room's own sound 0.70 was reached 3 times: about one an hour"
        in glass["meaning"]
    )
    assert glass["wished"]["threshold"] == 0.91
    events = [point["counted"]["events"] for point in glass["curve"]]
    assert events == sorted(events, reverse=True)
    assert "codes" not in json.dumps(answer)


async def test_a_microphone_that_is_switched_off_says_so(client: Client) -> None:
    await client.json("PUT", "/api/microphones/hall", status=201, json=HALL | {"enabled": False})
    answer = await client.json("GET", PATH)
    assert answer["room"]["reason"] == "the microphone does not listen: switched off"
    assert answer["labels"][0]["present"]["false_alarms_per_day"] == pytest.approx(1)


@pytest.mark.parametrize(
    "per_day", ["0", "0.009", "1001", "-1", "many", "", "nan", "inf", "1e2", "1&per_day=2"]
)
async def test_a_rate_that_makes_no_sense_is_refused(client: Client, per_day: str) -> None:
    await listening(client)
    problem = await client.json("GET", f"{PATH}?per_day={per_day}", status=422)
    assert problem["detail"].startswith("per_day: ")


async def test_a_microphone_that_is_not_there_is_told(client: Client) -> None:
    problem = await client.json("GET", PATH, status=404)
    assert problem["type"] == "/problems/no_such_microphone"


async def test_five_thousand_labels_are_refused(client: Client) -> None:
    labels = [{"label": f"sound number {number}"} for number in range(5000)]
    problem = await client.json("PUT", "/api/microphones/hall", status=422, json=HALL | {"labels": labels})
    assert problem["detail"] == "labels: takes at most 200 items"


@pytest.fixture
def tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the built-in model found in tests."""
    folder = tmp_path / "builtin"
    folder.mkdir()
    scores = [0.95, 0.9, 0.8, 0.75, 0.5]
    (folder / FILE).write_text(json.dumps({"glass_breaking": {"events": 10, "scores": scores}}), "utf-8")
    monkeypatch.setattr(builtin, "FOLDER", folder)
    found_module._shipped.cache_clear()
    yield
    found_module._shipped.cache_clear()


@pytest.mark.usefixtures("tested")
async def test_what_a_threshold_finds_is_told_where_it_is_known(client: Client) -> None:
    model: Any = client.server.context.holder.model
    await listening(client)
    model.builtin = True
    answer = await client.json("GET", PATH)
    glass, _ = answer["labels"]
    assert glass["meaning"] == "about one false alarm a day; found 4 of 10 in tests"
    found = glass["present"]["found"]
    assert (found["found"], found["events"], found["share"]) == (4, 10, 0.4)
    assert 0 < found["low"] < 0.4 < found["high"] < 1
    (watched, _) = (await client.json("GET", "/api/microphones/hall"))["labels"]
    assert watched["meaning"] == glass["meaning"]
    assert watched["false_alarms_per_day"] == pytest.approx(1)
    labels = {each["id"]: each for each in (await client.json("GET", "/api/labels"))["labels"]}
    assert labels["glass_breaking"]["found"]["events"] == 10
    assert labels["alarm"]["found"] is None
    assert labels["alarm"]["found_unknown"] == "not_tested"
    chirp = labels["smoke_alarm_low_battery"]
    assert (chirp["false_alarms_per_day"], chirp["found_unknown"], chirp["lowered"]) == (None, None, None)


@pytest.mark.usefixtures("tested")
@pytest.mark.parametrize(
    ("settings", "why", "words"),
    [
        ({"negatives": ["dishes in the sink"]}, "negatives", "without the negatives of this microphone"),
        ({"denoise": True}, "denoise", "without noise suppression"),
        ({"hop_s": 0.25}, "hop", "with a window each 0.5 s"),
    ],
)
async def test_nothing_is_said_of_tests_that_were_made_otherwise_than_the_microphone_hears(
    client: Client, settings: dict[str, Any], why: str, words: str
) -> None:
    model: Any = client.server.context.holder.model
    model.builtin = True
    body = HALL | {"enabled": False} | settings
    await client.json("PUT", "/api/microphones/hall", status=201, json=body)
    glass, chirp = (await client.json("GET", f"{PATH}?per_day=1"))["labels"]
    assert glass["present"]["false_alarms_per_day"] == pytest.approx(1)
    assert {glass[point]["found"] for point in ("present", "wished")} == {None}
    assert [point["found"] for point in glass["curve"]] == [None] * len(glass["curve"])
    assert glass["found_unknown"] == why
    told = f"about one false alarm a day; what it finds is not known: the tests were made {words}"
    assert glass["meaning"] == told
    assert chirp["found_unknown"] is None
    checked = await client.json(
        "POST", "/api/microphones/check", json={"id": None, "settings": HALL | settings}
    )
    for watched in (checked["labels"][0], (await client.json("GET", "/api/microphones/hall"))["labels"][0]):
        assert (watched["found"], watched["found_unknown"], watched["meaning"]) == (None, why, told)


@pytest.mark.usefixtures("tested")
async def test_settings_that_are_checked_are_told_with_what_their_thresholds_mean(client: Client) -> None:
    model: Any = client.server.context.holder.model
    model.builtin = True
    for name, threshold, words, found in (
        ("Glasbruch", 0.9, "about one false alarm a month; found 2 of 10 in tests", 2),
        ("glass breaking", 0.5, "about one false alarm an hour; found 5 of 10 in tests", 5),
    ):
        choice = {"label": name, "threshold": threshold}
        body = {"id": None, "settings": HALL | {"labels": [choice, {"label": "an anvil"}]}}
        glass, own = (await client.json("POST", "/api/microphones/check", json=body))["labels"]
        assert glass["id"] == "glass_breaking"
        assert (glass["meaning"], glass["found"]["found"], glass["lowered"]) == (words, found, None)
        assert own["found_unknown"] == "own_words"
        assert own["meaning"] == (
            "about one false alarm an hour; what it finds is not known: your own words were not tested"
        )


@pytest.fixture
def low_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults of glass and two others that were lowered, whatever those of the library are."""
    library = library_with({"glass_breaking": 0.61, "alarm": 0.6, "siren": 0.6, "scream": 0.5})
    monkeypatch.setattr("clap_server.api.server.read_library", lambda: library)


@pytest.mark.usefixtures("low_defaults", "tested")
async def test_why_a_default_is_low_is_told_with_it_and_with_nothing_else(
    client: Client, tmp_path: Path
) -> None:
    model: Any = client.server.context.holder.model
    model.builtin = True
    (tmp_path / "builtin" / FILE).write_text(
        json.dumps(
            {
                "glass_breaking": {"events": 10, "scores": [0.65, 0.65, 0.7]},
                "scream": {"events": 10, "scores": [0.7] * 4},
            }
        ),
        "utf-8",
    )
    labels = {each["id"]: each for each in (await client.json("GET", "/api/labels"))["labels"]}
    glass = labels["glass_breaking"]["lowered"]
    assert glass["words"] == (
        "the default is under 0.7, one false alarm a day, because there it found 1 of 10 in tests"
    )
    assert (glass["found"]["found"], glass["found"]["events"]) == (1, 10)
    assert labels["siren"]["lowered"] == {
        "words": "the default is under 0.7, one false alarm a day, so that less is missed",
        "found": None,
    }
    assert labels["scream"]["lowered"] is None
    body = HALL | {"labels": [{"label": "glass breaking"}, {"label": "siren", "threshold": 0.55}]}
    glass, siren = (await client.json("PUT", "/api/microphones/hall", status=201, json=body))["labels"]
    assert glass["lowered"]["found"]["found"] == 1
    assert siren["lowered"] is None
