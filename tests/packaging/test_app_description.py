"""addon/config.yaml and what lies beside it, by the rules of Home Assistant's Supervisor (2026.08)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from PIL import Image

from tests.packaging.support import ADDON, ROOT, load_yaml

# What the Supervisor's validation knows (developers.home-assistant.io/docs/apps/configuration), less what it
# ignores or wants gone: advanced, codenotary, build settings, watchdog.
KNOWN_KEYS = {
    "name", "version", "slug", "description", "arch", "machine", "url", "startup", "boot", "init",
    "stage", "ports", "ports_description", "webui", "ingress", "ingress_port",
    "ingress_entry", "ingress_stream", "panel_icon", "panel_title", "panel_admin", "homeassistant",
    "host_network", "host_pid", "host_ipc", "host_uts", "host_dbus", "devices", "udev", "tmpfs", "map",
    "environment", "privileged", "apparmor", "full_access", "audio", "video", "gpio", "usb", "uart",
    "devicetree", "kernel_modules", "realtime", "hassio_api", "hassio_role", "homeassistant_api",
    "stdin", "legacy", "docker_api", "auth_api", "services", "discovery", "backup_exclude",
    "backup_pre", "backup_post", "backup", "options", "schema", "image", "ulimits", "timeout",
    "journald", "breaking_versions",
}  # fmt: skip
REQUIRED_KEYS = {"name", "version", "slug", "description", "arch"}
# What the Supervisor takes a key for that is not there; the community's linter refuses to have it written.
DEFAULTS = {
    "apparmor": True, "backup": "hot", "boot": "auto", "full_access": False, "host_network": False,
    "hassio_api": False, "hassio_role": "default", "homeassistant_api": False, "ingress": False,
    "ingress_entry": "/", "ingress_port": 8099, "init": True, "panel_admin": True,
    "panel_icon": "mdi:puzzle", "stage": "stable", "startup": "application", "timeout": 10, "tmpfs": False,
}  # fmt: skip
# Types of `map` since Supervisor 2026.07; the addon_... names are deprecated.
MAP_TYPES = {
    "homeassistant_config",
    "app_config",
    "all_app_configs",
    "ssl",
    "local_apps",
    "backup",
    "share",
    "media",
}
# One element of `schema`, as the Supervisor's options parser takes it.
SCHEMA_ELEMENT = re.compile(
    r"^(?:bool|email|url|port|str(?:\(\d*,\d*\))?|password(?:\(\d*,\d*\))?|int(?:\(-?\d*,-?\d*\))?"
    r"|float(?:\(-?[\d.]*,-?[\d.]*\))?|match\(.+\)|list\(.+\)|device(?:\(.+\))?)\??$"
)


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    loaded: dict[str, Any] = load_yaml(ADDON / "config.yaml")
    return loaded


def test_every_key_is_one_that_the_supervisor_knows(config: dict[str, Any]) -> None:
    assert set(config) - KNOWN_KEYS == set()
    assert REQUIRED_KEYS - set(config) == set()


def test_supported_processors_are_those_that_home_assistant_still_supports(config: dict[str, Any]) -> None:
    assert set(config["arch"]) == {"amd64", "aarch64"}


def test_folders_are_mapped_by_their_current_names_and_no_more_than_read(config: dict[str, Any]) -> None:
    assert {entry["type"] for entry in config["map"]} <= MAP_TYPES
    assert all(entry["read_only"] is True for entry in config["map"])


def test_nothing_is_asked_for_that_lowers_the_security_rating(config: dict[str, Any]) -> None:
    dangerous = {
        "host_network", "host_pid", "host_ipc", "host_uts", "privileged", "full_access", "docker_api",
        "hassio_role", "hassio_api", "homeassistant_api", "kernel_modules", "auth_api",
    }  # fmt: skip
    assert dangerous & set(config) == set()
    assert config.get("apparmor", True) is True
    assert (ADDON / "apparmor.txt").is_file()


def test_server_may_start_python_and_signal_its_trials_and_nothing_else() -> None:
    (server,) = re.findall(
        r"^  profile server .*?^  }$", (ADDON / "apparmor.txt").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    starts = re.findall(r"^    ([/@]\S*) (\w*x)\b", server, re.IGNORECASE | re.MULTILINE)
    assert starts == [("/usr/bin/{,env,python3*}", "mrix")]
    sends = re.findall(r"^    signal \([^)]*send[^)]*\) (.*),$", server, re.MULTILINE)
    assert sends == ["peer=clap_sound//server"]


def test_docker_itself_asks_for_the_health_of_the_server() -> None:
    (check,) = re.findall(
        r"^HEALTHCHECK (?:.*\\\n)*.*$", (ADDON / "Dockerfile").read_text("utf-8"), re.MULTILINE
    )
    assert "'http://127.0.0.1:' + os.environ['CLAP_PORT'] + '/health'" in check


def test_no_key_says_what_holds_without_it(config: dict[str, Any]) -> None:
    assert {key for key, value in DEFAULTS.items() if config.get(key) == value} == set()


def test_no_port_is_open_to_the_network_until_the_user_opens_it(config: dict[str, Any]) -> None:
    assert config["ports"] == {"7860/tcp": None}


def test_every_option_has_a_type_a_default_and_a_name_in_every_language(config: dict[str, Any]) -> None:
    required = {name for name, element in config["schema"].items() if not element.endswith("?")}
    assert set(config["options"]) == required
    for element in config["schema"].values():
        assert SCHEMA_ELEMENT.match(element), element
    languages = sorted((ADDON / "translations").glob("*.yaml"))
    assert {"en", "zh-Hans"} <= {language.stem for language in languages}
    for language in languages:
        texts = load_yaml(language)
        assert set(texts) == {"configuration", "network"}, language.name
        assert set(texts["configuration"]) == set(config["schema"]), language.name
        assert set(texts["network"]) == set(config["ports"]), language.name
        for option in texts["configuration"].values():
            assert option["name"].strip(), language.name
            assert option["description"].strip(), language.name


def test_defaults_of_lists_are_among_their_choices(config: dict[str, Any]) -> None:
    for name, element in config["schema"].items():
        if element.startswith("list("):
            assert config["options"][name] in element.removeprefix("list(").rstrip("?)").split("|")


def test_repository_can_be_added_to_the_app_store() -> None:
    repository = load_yaml(ROOT / "repository.yaml")
    assert set(repository) == {"name", "url", "maintainer"}


@pytest.mark.parametrize("name", ["config.yaml", "DOCS.md", "README.md", "CHANGELOG.md", "Dockerfile"])
def test_the_apps_folder_is_complete(name: str) -> None:
    assert (ADDON / name).stat().st_size > 100


@pytest.mark.parametrize(("name", "width", "height"), [("icon.png", 128, 128), ("logo.png", 250, None)])
def test_pictures_of_the_app_have_the_size_of_the_store(name: str, width: int, height: int | None) -> None:
    with Image.open(ADDON / name) as picture:
        assert picture.format == "PNG"
        assert picture.width == width
        assert picture.height == (height or picture.height)
