"""Adding and changing microphones; every error can be mended in the form."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import probatio
import pytest
from homeassistant.components.camera import Camera, CameraEntityFeature
from homeassistant.config_entries import SOURCE_RECONFIGURE, SOURCE_USER
from homeassistant.data_entry_flow import FlowResultType, InvalidData, section
from homeassistant.helpers.entity_component import DATA_INSTANCES
from homeassistant.setup import async_setup_component

from clap_server.listening.config import KeepMode, MicrophoneSettings, RecordingSettings
from custom_components.clap_sound.client import ClapSoundConnectionError
from tests.integration.conftest import make_entry, microphone_data, state_of, until
from tests.support.libraries import library_with

if TYPE_CHECKING:
    from homeassistant.config_entries import SubentryFlowResult
    from homeassistant.core import HomeAssistant
    from pytest_homeassistant_custom_component.common import MockConfigEntry

    from tests.integration.server import Peer

URL = "rtsp://viewer:hunter2@192.0.2.7:554/stream?channel=1"


class FakeCamera(Camera):
    """A camera of another integration."""

    _attr_supported_features = CameraEntityFeature.STREAM

    def __init__(self, name: str, source: str | None) -> None:
        super().__init__()
        self._attr_name = name
        self.source = source

    async def stream_source(self) -> str | None:
        return self.source


@pytest.fixture
async def camera(hass: HomeAssistant) -> FakeCamera:
    assert await async_setup_component(hass, "camera", {})
    camera = FakeCamera("Door", "rtsp://door:secret@192.0.2.8/live")
    await hass.data[DATA_INSTANCES]["camera"].async_add_entities(
        [camera, FakeCamera("Still", None), FakeCamera("Strange", "ffmpeg:/dev/video0")]
    )
    return camera


@pytest.fixture
async def bare_entry(hass: HomeAssistant, peer: Peer) -> MockConfigEntry:
    """A server without microphones, set up."""
    peer.library = library_with({"glass_breaking": 0.61, "alarm": 0.6})
    entry = make_entry(hass, peer)
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    return entry


async def begin(hass: HomeAssistant, entry: MockConfigEntry, name: str, source: str) -> SubentryFlowResult:
    """Answer the first step."""
    result = await hass.config_entries.subentries.async_init(
        (entry.entry_id, "microphone"), context={"source": SOURCE_USER}
    )
    assert result["step_id"] == "user"
    return await answer(hass, result, name=name, source=source)


async def answer(hass: HomeAssistant, result: SubentryFlowResult, **entered: Any) -> SubentryFlowResult:
    return await hass.config_entries.subentries.async_configure(result["flow_id"], entered)


async def saved(hass: HomeAssistant, result: SubentryFlowResult) -> SubentryFlowResult:
    """Say yes to what other thresholds than the form's mean."""
    assert (result["type"], result["step_id"]) == (FlowResultType.MENU, "meaning")
    assert result["menu_options"] == ["save", "change"]
    return await answer(hass, result, next_step_id="save")


def shown(result: SubentryFlowResult, field: str) -> Any:
    """Return what a field of the form shows as already entered, or else its default."""
    for key, value in result["data_schema"].schema.items():
        if key == field:
            if isinstance(value, section):
                return {
                    str(inner): (inner.description or {}).get("suggested_value")
                    for inner in value.schema.schema
                }
            if key.description and "suggested_value" in key.description:
                return key.description["suggested_value"]
            return None if key.default is probatio.UNDEFINED else key.default()
    raise AssertionError(field)


async def test_url_with_default_labels_becomes_a_microphone_on_the_server(
    hass: HomeAssistant, peer: Peer, bare_entry: MockConfigEntry
) -> None:
    result = await begin(hass, bare_entry, "Hallway", "url")
    assert result["step_id"] == "url"
    assert shown(result, "labels") == [
        {"label": "Glass breaking", "threshold": 61},
        {"label": "Alarm", "threshold": 60},
    ]
    result = await answer(hass, result, url=f" {URL} ")
    assert result["type"] is FlowResultType.CREATE_ENTRY
    await until(hass, lambda: state_of(hass, "binary_sensor.hallway_glass_breaking") == "off")
    (subentry,) = bare_entry.subentries.values()
    assert peer.settings == {
        subentry.subentry_id: MicrophoneSettings.model_validate(
            {
                "name": "Hallway",
                "source": {"type": "url", "url": URL},
                "labels": [
                    {"label": "glass_breaking", "threshold": 0.61},
                    {"label": "alarm", "threshold": 0.6},
                ],
                "owner": f"home_assistant:{bare_entry.entry_id}",
            }
        )
    }


async def test_labels_from_library_and_own_words_with_advanced_settings(
    hass: HomeAssistant, peer: Peer, bare_entry: MockConfigEntry
) -> None:
    result = await begin(hass, bare_entry, "Hallway", "url")
    result = await answer(
        hass,
        result,
        url=URL,
        labels=[{"label": "Dog barking"}, {"label": "  hammer on  an anvil ", "threshold": 35}],
        advanced={"negatives": ["dishes in the sink", " "], "hop_s": 1.5},
    )
    result = await saved(hass, result)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    await until(hass, lambda: state_of(hass, "binary_sensor.hallway_hammer_on_an_anvil") == "off")
    (settings,) = peer.settings.values()
    assert [(choice.label, choice.threshold) for choice in settings.labels] == [
        ("dog_bark", None),
        ("hammer on an anvil", 0.35),
    ]
    assert settings.negatives == ("dishes in the sink",)
    assert settings.hop_s == 1.5


async def test_what_is_kept_of_the_sound_is_chosen_and_shown_again(
    hass: HomeAssistant, peer: Peer, bare_entry: MockConfigEntry
) -> None:
    result = await begin(hass, bare_entry, "Hallway", "url")
    before = {"keep": "clip", "pre_roll_s": 3.0, "post_roll_s": 1.0}
    assert shown(result, "recording") == before | dict.fromkeys(("clip_days", "max_clips", "max_mb"))
    wanted = {"keep": "no_speech", "pre_roll_s": 0.5, "post_roll_s": 1.0, "clip_days": 7.0, "max_clips": 20.0}
    advanced = {"hop_s": 0.5, "denoise": True}
    result = await answer(hass, result, url=URL, recording=wanted, advanced=advanced)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    await until(hass, lambda: bool(peer.settings))
    (settings,) = peer.settings.values()
    assert settings.denoise is True
    assert settings.recording == RecordingSettings(
        keep=KeepMode.NO_SPEECH, pre_roll_s=0.5, clip_days=7, max_clips=20
    )
    (subentry,) = bare_entry.subentries.values()
    assert subentry.data["recording"] == {
        "keep": "no_speech",
        "pre_roll_s": 0.5,
        "clip_days": 7.0,
        "max_clips": 20,
    }
    result = await bare_entry.start_subentry_reconfigure_flow(hass, subentry.subentry_id)
    result = await answer(hass, result, name="Hallway", source="url")
    assert shown(result, "recording") == wanted | {"max_mb": None}
    assert shown(result, "advanced")["denoise"] is True
    result = await answer(hass, result, recording=before, advanced={"hop_s": 0.5, "denoise": False})
    assert result["reason"] == "reconfigure_successful"
    await until(hass, lambda: not next(iter(peer.settings.values())).denoise)
    (subentry,) = bare_entry.subentries.values()
    assert not {"recording", "denoise"} & subentry.data.keys()
    assert next(iter(peer.settings.values())).recording == RecordingSettings()


async def test_label_names_are_offered_in_the_language_of_home_assistant(
    hass: HomeAssistant, bare_entry: MockConfigEntry
) -> None:
    hass.config.language = "de"
    result = await begin(hass, bare_entry, "Hallway", "url")
    (selector,) = [value for key, value in result["data_schema"].schema.items() if key == "labels"]
    options = selector.serialize()["selector"]["object"]["fields"]["label"]["selector"]["select"]["options"]
    assert options[0] == {"value": "Glasbruch", "label": "Glasbruch"}
    assert shown(result, "labels")[0]["label"] == "Glasbruch"
    result = await answer(hass, result, url=URL)
    (subentry,) = bare_entry.subentries.values()
    assert subentry.data["labels"][0]["label"] == "glass_breaking"


async def test_another_sound_begins_empty_and_without_a_threshold(
    hass: HomeAssistant, bare_entry: MockConfigEntry
) -> None:
    result = await begin(hass, bare_entry, "Hallway", "url")
    (selector,) = [value for key, value in result["data_schema"].schema.items() if key == "labels"]
    fields = selector.serialize()["selector"]["object"]["fields"]
    assert fields["label"]["default"] == ""
    assert "default" not in fields["threshold"]
    assert fields["threshold"]["selector"]["number"]["mode"] == "box"


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        ([], "no_labels"),
        ("glass", "no_labels"),
        ([{"label": f"sound {number}"} for number in range(10_000)], "too_many_labels"),
        ([{"label": "alarm", "threshold": 700}], "threshold_out_of_range"),
        ([{"label": "alarm", "threshold": -1}], "threshold_out_of_range"),
        ([{"label": "alarm", "threshold": "7"}], "threshold_out_of_range"),
        ([{"label": "alarm", "threshold": math.nan}], "threshold_out_of_range"),
        ([{"label": "alarm", "threshold": True}], "threshold_out_of_range"),
        ([{"label": " "}], "invalid_label"),
        ([{}], "invalid_label"),
        ([{"label": "x" * 201}], "invalid_label"),
        ([{"label": "glass_breaking"}, {"label": "Glass  Breaking"}], "duplicate_label"),
        ([{"label": "glass_breaking"}, {"label": "Glasbruch"}], "duplicate_label"),
        (["my own", "My Own"], "duplicate_label"),
    ],
)
async def test_unusable_labels_are_explained_and_can_be_mended(
    hass: HomeAssistant, bare_entry: MockConfigEntry, labels: Any, error: str
) -> None:
    result = await begin(hass, bare_entry, "Hallway", "url")
    result = await answer(hass, result, url=URL, labels=labels)
    assert result["errors"] == {"labels": error}
    assert shown(result, "labels") == labels
    assert shown(result, "url") == URL
    result = await answer(hass, result, url=URL, labels=[{"label": "alarm"}])
    assert result["type"] is FlowResultType.CREATE_ENTRY


@pytest.mark.parametrize("url", ["file:///etc/passwd", "camera", "rtsp://", "", "ftp://host/a", "http://[::"])
async def test_url_that_is_no_stream_is_explained(
    hass: HomeAssistant, peer: Peer, bare_entry: MockConfigEntry, url: str
) -> None:
    result = await begin(hass, bare_entry, "Hallway", "url")
    result = await answer(hass, result, url=url)
    assert result["errors"] == {"url": "invalid_url"}
    assert not peer.settings


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("no_audio_track", "stream_no_audio"),
        ("not_audio", "stream_not_audio"),
        ("unauthorized", "stream_unauthorized"),
        ("not_found", "stream_not_found"),
        ("timeout", "stream_no_answer"),
        ("not_usable", "stream_unusable"),
    ],
)
async def test_url_without_sound_is_explained_and_taken_when_entered_again(
    hass: HomeAssistant, peer: Peer, bare_entry: MockConfigEntry, code: str, error: str
) -> None:
    peer.silent[URL] = (code, "it is like this")
    result = await begin(hass, bare_entry, "Hallway", "url")
    result = await answer(hass, result, url=URL)
    assert result["errors"] == {"url": error}
    assert result["description_placeholders"]["detail"] == "source: it is like this"
    assert shown(result, "url") == URL
    assert not peer.settings
    result = await answer(hass, result, url=URL, labels=[])
    assert result["errors"] == {"labels": "no_labels"}
    result = await answer(hass, result, url=URL)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert peer.checked == [URL]


async def test_url_without_sound_can_be_mended(
    hass: HomeAssistant, peer: Peer, bare_entry: MockConfigEntry
) -> None:
    peer.silent = {URL: ("not_found", "404"), f"{URL}2": ("no_audio_track", "none")}
    result = await begin(hass, bare_entry, "Hallway", "url")
    for url, error in ((URL, "stream_not_found"), (f"{URL}2", "stream_no_audio")):
        result = await answer(hass, result, url=url)
        assert result["errors"] == {"url": error}
    result = await answer(hass, result, url=f"{URL}3")
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_camera_without_sound_is_explained(
    hass: HomeAssistant, peer: Peer, bare_entry: MockConfigEntry, camera: FakeCamera
) -> None:
    assert camera.source is not None
    peer.silent[camera.source] = ("no_audio_track", "camera has no audio track")
    result = await begin(hass, bare_entry, "Door", "camera")
    result = await answer(hass, result, camera="camera.door")
    assert result["errors"] == {"camera": "stream_no_audio"}
    assert "secret" not in str(result["description_placeholders"])


async def test_server_gone_while_it_tries_the_stream_is_said(
    hass: HomeAssistant, bare_entry: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(_source: Any) -> None:
        raise ClapSoundConnectionError("no answer in time")

    result = await begin(hass, bare_entry, "Hallway", "url")
    monkeypatch.setattr(bare_entry.runtime_data.client, "check_source", gone)
    result = await answer(hass, result, url=URL)
    assert result["errors"] == {"base": "cannot_connect"}


async def test_stream_that_stays_the_same_is_not_tried_again(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    result = await entry.start_subentry_reconfigure_flow(hass, kitchen)
    result = await answer(hass, result, name="Kitchen", source="url")
    result = await answer(hass, result, labels=[{"label": "scream"}])
    result = await saved(hass, result)
    assert result["reason"] == "reconfigure_successful"
    assert peer.checked == []


async def test_names_must_be_usable(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    result = await begin(hass, entry, " ", "url")
    assert result["errors"] == {"name": "name_required"}
    result = await answer(hass, result, name="x" * 101, source="url")
    assert result["errors"] == {"name": "name_too_long"}
    result = await answer(hass, result, name="kitchen", source="url")
    assert result["errors"] == {"name": "name_taken"}
    assert shown(result, "name") == "kitchen"
    result = await answer(hass, result, name="Pantry", source="url")
    assert result["step_id"] == "url"


async def test_refusal_of_the_server_is_shown_in_its_words_and_leaves_nothing_behind(
    hass: HomeAssistant, peer: Peer, bare_entry: MockConfigEntry
) -> None:
    peer.refuse["Hallway"] = "Only 4 microphones are allowed: remove one."
    result = await begin(hass, bare_entry, "Hallway", "url")
    result = await answer(hass, result, url=URL)
    assert result["errors"] == {"base": "refused"}
    assert result["description_placeholders"]["detail"] == "Only 4 microphones are allowed: remove one."
    result = await answer(hass, result, url=URL, advanced={"negatives": ["x" * 201]})
    assert "negatives: String should have at most 200" in result["description_placeholders"]["detail"]
    assert not peer.settings
    peer.refuse.clear()
    result = await answer(hass, result, url=URL)
    result = await saved(hass, result)
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_server_gone_in_the_middle_is_said_and_nothing_is_lost(
    hass: HomeAssistant, peer: Peer, bare_entry: MockConfigEntry
) -> None:
    result = await begin(hass, bare_entry, "Hallway", "url")
    await peer.stop()
    labels = [{"label": "alarm", "threshold": 55}]
    result = await answer(hass, result, url=URL, labels=labels)
    assert result["errors"] == {"base": "cannot_connect"}
    assert shown(result, "labels") == labels
    assert shown(result, "url") == URL
    await peer.start()
    result = await answer(hass, result, url=URL, labels=labels)
    result = await saved(hass, result)
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_server_gone_from_the_beginning_is_said(
    hass: HomeAssistant, peer: Peer, bare_entry: MockConfigEntry
) -> None:
    await peer.stop()
    result = await begin(hass, bare_entry, "Hallway", "server")
    assert result["errors"] == {"base": "cannot_connect"}
    result = await answer(hass, result, name="Hallway", source="url")
    assert result["errors"] == {"base": "cannot_connect"}
    assert shown(result, "labels") == [{"label": "glass_breaking"}, {"label": "alarm"}]
    await hass.config_entries.async_unload(bare_entry.entry_id)
    result = await hass.config_entries.subentries.async_init(
        (bare_entry.entry_id, "microphone"), context={"source": SOURCE_USER}
    )
    assert result["reason"] == "not_connected"


async def test_token_refused_in_the_middle_is_said(
    hass: HomeAssistant, peer: Peer, bare_entry: MockConfigEntry
) -> None:
    peer.token = "another"
    result = await begin(hass, bare_entry, "Hallway", "server")
    assert result["errors"] == {"base": "invalid_auth"}


async def test_camera_gives_its_own_address(
    hass: HomeAssistant, peer: Peer, bare_entry: MockConfigEntry, camera: FakeCamera
) -> None:
    result = await begin(hass, bare_entry, "Door", "camera")
    assert result["step_id"] == "camera"
    for entity_id, error in (
        ("camera.still", "camera_no_stream"),
        ("camera.strange", "camera_no_stream"),
        ("camera.gone", "camera_unavailable"),
    ):
        result = await answer(hass, result, camera=entity_id)
        assert result["errors"] == {"camera": error}
        assert shown(result, "camera") == entity_id
    result = await answer(hass, result, camera="camera.door")
    assert result["type"] is FlowResultType.CREATE_ENTRY
    await until(hass, lambda: state_of(hass, "binary_sensor.door_glass_breaking") == "off")
    (settings,) = peer.settings.values()
    assert settings.source.url == camera.source
    (subentry,) = bare_entry.subentries.values()
    assert "secret" not in str(subentry.data)


async def test_microphone_of_the_server_is_adopted_with_its_source(
    hass: HomeAssistant, peer: Peer, bare_entry: MockConfigEntry
) -> None:
    result = await begin(hass, bare_entry, "Workshop", "server")
    assert result["errors"] == {"source": "no_server_microphones"}
    before = MicrophoneSettings.model_validate(
        {
            "name": "USB",
            "source": {"type": "url", "url": "rtsp://user:secret@192.0.2.5/a?token=secret2"},
            "labels": [{"label": "siren", "threshold": 0.42}, {"label": "my own words"}],
            "negatives": ["a saw"],
            "hop_s": 0.25,
        }
    )
    peer.settings["usb"] = before
    result = await answer(hass, result, name="Workshop", source="server")
    assert result["step_id"] == "server"
    with pytest.raises(InvalidData):
        await answer(hass, result, microphone="none of these")
    result = await answer(hass, result, microphone="usb")
    assert result["step_id"] == "labels"
    assert shown(result, "labels") == [
        {"label": "Siren", "threshold": 42},
        {"label": "my own words", "threshold": 50},
    ]
    assert shown(result, "advanced") == {"negatives": ["a saw"], "hop_s": 0.25, "denoise": False}
    result = await answer(hass, result, labels=[])
    assert result["errors"] == {"labels": "no_labels"}
    result = await answer(
        hass, result, labels=[{"label": "siren", "threshold": 60}], advanced={"hop_s": 0.25}
    )
    result = await saved(hass, result)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    await until(hass, lambda: state_of(hass, "binary_sensor.workshop_siren") == "off")
    after = peer.settings["usb"]
    assert after.source == before.source
    assert after.name == "Workshop"
    assert after.labels[0].threshold == 0.6
    assert after.owner == f"home_assistant:{bare_entry.entry_id}"
    assert list(peer.settings) == ["usb"]


async def test_adopted_microphone_that_is_removed_goes_back_to_the_server(
    hass: HomeAssistant, peer: Peer
) -> None:
    peer.settings["usb"] = MicrophoneSettings.model_validate(
        {"name": "USB", "source": {"type": "push"}, "labels": [{"label": "siren"}]}
    )
    adopted = microphone_data(
        "Workshop",
        [{"label": "alarm"}, {"label": "my own words"}],
        source="server",
        microphone="usb",
        server_source={"type": "push"},
    )
    entry = make_entry(hass, peer, adopted)
    assert await hass.config_entries.async_setup(entry.entry_id)
    assert peer.settings["usb"].owner == f"home_assistant:{entry.entry_id}"
    (subentry_id,) = entry.subentries
    hass.config_entries.async_remove_subentry(entry, subentry_id)
    await until(hass, lambda: peer.settings["usb"].owner == "server")
    assert [choice.label for choice in peer.settings["usb"].labels] == ["alarm", "my own words"]


async def test_adopted_microphone_that_vanished_is_declared_again(hass: HomeAssistant, peer: Peer) -> None:
    adopted = microphone_data(
        "Workshop", source="server", microphone="usb", server_source={"type": "device", "device": "hw:1"}
    )
    entry = make_entry(hass, peer, adopted)
    assert await hass.config_entries.async_setup(entry.entry_id)
    assert peer.settings["usb"].source.device == "hw:1"


async def test_reconfigure_changes_name_address_and_labels_and_hides_the_password(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    result = await entry.start_subentry_reconfigure_flow(hass, kitchen)
    assert shown(result, "name") == "Kitchen"
    assert shown(result, "source") == "url"
    result = await answer(hass, result, name="Kitchen", source="url")
    assert result["step_id"] == "change_url"
    assert shown(result, "url") is None
    assert result["description_placeholders"]["address"] == "rtsp://camera:***@192.0.2.1/audio"
    assert shown(result, "labels") == [
        {"label": "Glass breaking", "threshold": 70},
        {"label": "Alarm", "threshold": 60},
    ]
    assert shown(result, "advanced") == {"negatives": [], "hop_s": 0.5, "denoise": False}
    result = await answer(hass, result, url="rtsp://camera:***@192.0.2.1/other")
    assert result["errors"] == {"url": "hidden_password"}
    result = await answer(
        hass,
        result,
        url="rtsp://camera:hunter3@192.0.2.1/other",
        labels=[{"label": "scream", "threshold": 80}],
    )
    result = await saved(hass, result)
    assert result["reason"] == "reconfigure_successful"
    await until(hass, lambda: state_of(hass, "binary_sensor.kitchen_scream") == "off")
    assert peer.settings[kitchen].source.url == "rtsp://camera:hunter3@192.0.2.1/other"
    assert list(peer.settings) == [kitchen]
    assert state_of(hass, "binary_sensor.kitchen_glass_breaking") is None


async def test_empty_address_keeps_the_old_one(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str
) -> None:
    peer.settings.clear()
    result = await entry.start_subentry_reconfigure_flow(hass, kitchen)
    result = await answer(hass, result, name="Pantry", source="url")
    result = await answer(hass, result, url="", labels=[{"label": "alarm"}])
    assert result["reason"] == "reconfigure_successful"
    await until(hass, lambda: kitchen in peer.settings and peer.settings[kitchen].name == "Pantry")
    assert peer.settings[kitchen].source.url == "rtsp://camera:hunter2@192.0.2.1/audio"


async def test_threshold_of_own_words_is_shown_too(
    hass: HomeAssistant, entry: MockConfigEntry, kitchen: str
) -> None:
    subentry = entry.subentries[kitchen]
    data = {**subentry.data, "labels": [{"label": "玻璃破碎的声音"}, {"label": "siren"}]}
    hass.config_entries.async_update_subentry(entry, subentry, data=data)
    result = await entry.start_subentry_reconfigure_flow(hass, kitchen)
    result = await answer(hass, result, name="Kitchen", source="url")
    assert shown(result, "labels") == [
        {"label": "玻璃破碎的声音", "threshold": 50},
        {"label": "Siren", "threshold": 60},
    ]


async def test_reconfigure_turns_a_url_into_a_camera_and_renames(
    hass: HomeAssistant, peer: Peer, entry: MockConfigEntry, kitchen: str, camera: FakeCamera
) -> None:
    result = await entry.start_subentry_reconfigure_flow(hass, kitchen)
    result = await answer(hass, result, name="Door", source="camera")
    result = await answer(hass, result, camera="camera.door")
    assert result["reason"] == "reconfigure_successful"
    await until(hass, lambda: peer.settings[kitchen].name == "Door")
    assert peer.settings[kitchen].source.url == camera.source
    assert entry.subentries[kitchen].title == "Door"
    assert "url" not in entry.subentries[kitchen].data
    result = await entry.start_subentry_reconfigure_flow(hass, kitchen)
    result = await answer(hass, result, name="Door", source="camera")
    assert shown(result, "camera") == "camera.door"


async def test_reconfigure_of_an_adopted_microphone_leaves_its_source_alone(
    hass: HomeAssistant, peer: Peer
) -> None:
    source = {"type": "device", "device": "hw:1"}
    entry = make_entry(
        hass, peer, microphone_data("Workshop", source="server", microphone="usb", server_source=source)
    )
    assert await hass.config_entries.async_setup(entry.entry_id)
    (subentry_id,) = entry.subentries
    result = await entry.start_subentry_reconfigure_flow(hass, subentry_id)
    result = await answer(hass, result, name="Shed")
    assert result["step_id"] == "labels"
    result = await answer(hass, result, labels=[{"label": "alarm"}])
    assert result["reason"] == "reconfigure_successful"
    await until(hass, lambda: peer.settings["usb"].name == "Shed")
    assert peer.settings["usb"].source.device == "hw:1"


async def test_reconfigure_needs_the_server(
    hass: HomeAssistant, entry: MockConfigEntry, kitchen: str
) -> None:
    await hass.config_entries.async_unload(entry.entry_id)
    result = await hass.config_entries.subentries.async_init(
        (entry.entry_id, "microphone"), context={"source": SOURCE_RECONFIGURE, "subentry_id": kitchen}
    )
    assert result["reason"] == "not_connected"
