"""Every text exists in every language, and every label of the library has its texts and icons."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from clap_server.detection.library import NORMAL, load_library
from custom_components.clap_sound.const import TRANSLATED_LABELS
from custom_components.clap_sound.sensor import NOTHING, STATES

FOLDER = Path(__file__).parents[2] / "custom_components" / "clap_sound"
LANGUAGES = sorted(path.stem for path in (FOLDER / "translations").glob("*.json"))


def load(name: str) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return tree


def texts(tree: dict[str, Any], path: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in tree.items():
        found |= texts(value, f"{path}/{key}") if isinstance(value, dict) else {f"{path}/{key}": value}
    return found


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


def test_english_and_chinese_are_there() -> None:
    assert {"en", "zh-Hans"} <= set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_the_same_texts_with_the_same_placeholders(language: str) -> None:
    english, other = texts(load("translations/en.json")), texts(load(f"translations/{language}.json"))
    assert other.keys() == english.keys()
    for key, text in english.items():
        assert other[key].strip() == other[key] != "", key
        assert placeholders(other[key]) == placeholders(text), key


def test_every_label_of_the_library_is_translated_and_has_its_icon() -> None:
    library = {label.id: label for label in (*load_library().labels, NORMAL)}
    assert set(library) == TRANSLATED_LABELS
    icons = load("icons.json")["entity"]
    for language in LANGUAGES:
        entity = load(f"translations/{language}.json")["entity"]
        for label in library.values():
            name = label.names[language]
            assert entity["binary_sensor"][label.id]["name"] == name
            assert (
                entity["event"]["sound_detected"]["state_attributes"]["event_type"]["state"][label.id] == name
            )
            assert entity["sensor"]["top_sound"]["state"][label.id] == name
            assert icons["binary_sensor"][label.id]["default"] == label.icon


def test_every_state_is_translated() -> None:
    sensor = load("translations/en.json")["entity"]["sensor"]
    assert set(sensor["status"]["state"]) == set(STATES)
    assert set(sensor["top_sound"]["state"]) == TRANSLATED_LABELS | {NOTHING}


def codes() -> set[str]:
    """Every code that the status of a microphone can have, read in the server's own code."""
    server = FOLDER.parents[1] / "addon" / "clap_server"
    found: set[str] = set()
    for folder in ("audio", "listening"):
        for path in (server / folder).glob("*.py"):
            code = path.read_text(encoding="utf-8")
            found |= set(re.findall(r'SourceError\(\s*"(\w+)"', code))
            found |= set(re.findall(r'(?:SourceStatus|_report)\(\s*SourceState\.\w+,\s*"(\w+)"', code))
            # The table of FFmpeg's errors: kinds, code, words.
            found |= set(re.findall(r'Error,?\s*\),\s*"(\w+)",\s*"', code))
    return found


def test_every_code_of_a_microphones_status_is_translated() -> None:
    entity = load("translations/en.json")["entity"]
    # These two are told to the client that pushes sound, and are no status.
    wanted = (codes() - {"push_busy", "push_closed"}) | {"too_slow"}
    assert {"no_audio_track", "unauthorized", "refused", "ended", "stalled", "disabled"} <= wanted
    for texts_of in (entity["sensor"]["status"], entity["binary_sensor"]["microphone_problem"]):
        assert set(texts_of["state_attributes"]["code"]["state"]) == wanted


def test_every_error_and_reason_of_the_flows_is_translated() -> None:
    english = load("translations/en.json")
    code = "".join((FOLDER / name).read_text() for name in ("microphone_flow.py", "label_choices.py"))
    microphone = english["config_subentries"]["microphone"]
    used = set(re.findall(r'_errors\[\S+\] = "(\w+)"', code)) | set(
        re.findall(r'LabelChoiceError\("(\w+)"', code)
    )
    used |= set(re.findall(r'"(stream_\w+)"', code))
    cameras = set(re.findall(r'CameraError\("(\w+)"', (FOLDER / "desired.py").read_text()))
    assert used | cameras == set(microphone["error"])
    server = set(re.findall(r'_errors\[\S+\] = "(\w+)"', (FOLDER / "config_flow.py").read_text()))
    assert server == set(english["config"]["error"])
    assert cameras <= set(english["issues"])
