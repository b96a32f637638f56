"""The Dockerfile and the files that it puts into the image, as far as they can be tested without Docker."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from clap_server.settings import ServerSettings, load_settings, variable
from tests.packaging.support import ADDON, ROOT, ROOTFS, load_yaml, tracked

if TYPE_CHECKING:
    from pathlib import Path

S6 = ROOTFS / "etc" / "s6-overlay" / "s6-rc.d"
RUN = S6 / "clap-server" / "run"
DOCKERFILE = (ADDON / "Dockerfile").read_text(encoding="utf-8")
# Lines of the Dockerfile with continuations joined and comments dropped
INSTRUCTIONS = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)).splitlines()
SCRIPTS = [path for path in tracked("addon/rootfs") if path.read_text(encoding="utf-8").startswith("#!")]


def of(instruction: str) -> list[str]:
    return [
        line.removeprefix(instruction).strip() for line in INSTRUCTIONS if line.startswith(instruction + " ")
    ]


def copied() -> list[str]:
    return [name for line in of("COPY") if "--from" not in line for name in line.split()[:-1]]


def environment() -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(of("ENV"))))


def test_everything_that_is_copied_exists_and_is_not_ignored() -> None:
    ignore = [line for line in (ADDON / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert ignore[0] == "*"
    kept = [line[1:] for line in ignore if line.startswith("!")]
    names = copied()
    assert names
    for name in names:
        assert (ADDON / name).exists(), name
        assert any(fnmatch.fnmatch(name, pattern) or name.startswith(pattern + "/") for pattern in kept), name
    assert {name.split("/")[0] for name in names} == set(kept), ".dockerignore keeps what nothing copies"


def test_image_installs_the_versions_that_are_tested() -> None:
    setup = (ROOT / "scripts" / "setup").read_text(encoding="utf-8")
    for name in ("server.txt", "denoise.txt", "devices.txt", "engines.txt", "torch.txt"):
        assert name.partition(".")[0] in setup
        assert f"requirements/{name}" in DOCKERFILE


def test_image_holds_neither_evaluation_nor_training() -> None:
    assert {name.split("/")[0] for name in copied()} == {
        "README.md",
        "clap_server",
        "pyproject.toml",
        "requirements",
        "rootfs",
    }
    locked = set(
        re.findall(r"^([\w-]+)==", (ADDON / "requirements" / "server.txt").read_text(), re.MULTILINE)
    )
    assert "transformers" in locked
    assert locked & {"matplotlib", "pandas", "scikit-learn", "sed-scores-eval", "pyroomacoustics"} == set()


def test_every_package_but_torch_has_its_hash_checked() -> None:
    assert "--no-deps --require-hashes --requirement requirements/server.txt" in DOCKERFILE
    assert '--torch-backend "${TORCH_BACKEND}"' in DOCKERFILE
    assert "TORCH_BACKEND=cpu" in of("ARG")


def test_base_images_are_named_with_a_version() -> None:
    bases = [line.split("=", 1)[1] for line in of("ARG") if line.startswith("BASE=")]
    bases += re.findall(r"--from=([\w./:-]*/[\w./:-]+)", DOCKERFILE)
    assert bases
    for base in bases:
        assert ":" in base, base
        assert not base.endswith(":latest"), base


def test_image_says_what_it_is_to_the_supervisor() -> None:
    labels = " ".join(of("LABEL"))
    for label in ("io.hass.version=", 'io.hass.type="app"', "io.hass.arch="):
        assert label in labels


def test_ports_agree_with_the_apps_description() -> None:
    config = load_yaml(ADDON / "config.yaml")
    port = environment()["CLAP_PORT"]
    assert of("EXPOSE") == [port]
    assert list(config["ports"]) == [f"{port}/tcp"]
    assert f"CLAP_INGRESS_PORT={config['ingress_port']}" in RUN.read_text(encoding="utf-8")


def test_scripts_are_found() -> None:
    assert {path.name for path in SCRIPTS} == {"init-clap-server", "run", "finish"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_of_the_image_are_executable_bash_that_stops_at_errors(script: Path) -> None:
    assert os.access(script, os.X_OK)
    lines = script.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/command/with-contenv bash"
    assert "set -euo pipefail" in lines
    subprocess.run(["bash", "-n", script], check=True)


def test_every_service_is_complete_and_enabled() -> None:
    services = {path.name for path in S6.iterdir()} - {"user"}
    assert {path.name for path in (S6 / "user" / "contents.d").iterdir()} == services
    for service in services:
        kind = (S6 / service / "type").read_text().strip()
        assert (S6 / service / {"longrun": "run", "oneshot": "up"}[kind]).is_file()
        for dependency in (S6 / service / "dependencies.d").iterdir():
            assert dependency.name == "base" or dependency.name in services
        if kind == "oneshot":
            script = (S6 / service / "up").read_text().strip()
            assert (ROOTFS / script.lstrip("/")).is_file(), "`up` is one command line: the path of a script"


def start(tmp_path: Path, options: dict[str, object] | None) -> dict[str, str]:
    """Run the start script with a stand-in for s6-setuidgid that prints what the server would get."""
    data, stand_in = tmp_path / "data", tmp_path / "bin"
    data.mkdir()
    stand_in.mkdir()
    if options is not None:
        (data / "options.json").write_text(json.dumps(options), encoding="utf-8")
    (stand_in / "s6-setuidgid").write_text('#!/bin/sh\necho "COMMAND=$*"\nexec env\n')
    (stand_in / "s6-setuidgid").chmod(0o755)
    variables = {
        "PATH": f"{stand_in}:{os.environ['PATH']}",
        "CLAP_DATA": str(data),
        "CLAP_MODEL": "from-docker",
    }
    result = subprocess.run(["bash", RUN], env=variables, check=True, capture_output=True, text=True)
    return dict(line.split("=", 1) for line in result.stdout.splitlines())


def test_app_starts_the_server_with_the_users_options(tmp_path: Path) -> None:
    options = {"model": "laion/clap-htsat-unfused", "clip_retention_days": 7, "token": "it's $HOME; `date`"}
    got = start(tmp_path, options)
    assert got["COMMAND"] == "clap /opt/clap-server/bin/clap-server serve"
    assert got["CLAP_MODEL"] == "laion/clap-htsat-unfused"
    assert got["CLAP_CLIP_RETENTION_DAYS"] == "7"
    assert got["CLAP_TOKEN"] == "it's $HOME; `date`"
    assert got["CLAP_INGRESS_PORT"] == "7861"


def test_an_option_that_was_cleared_means_the_default(tmp_path: Path) -> None:
    got = start(tmp_path, {"model": "", "log_level": "info"})
    assert got["CLAP_MODEL"] == "from-docker"
    assert got["CLAP_LOG_LEVEL"] == "info"


def test_every_option_of_the_app_is_a_setting_of_the_server_with_the_same_default() -> None:
    config = load_yaml(ADDON / "config.yaml")
    settings = load_settings(config["options"])
    defaults = load_settings({})
    for name in config["schema"]:
        assert getattr(settings, name) == getattr(defaults, name), name


def test_every_variable_of_the_image_is_a_setting_of_the_server() -> None:
    names = {name for name in environment() if name.startswith("CLAP_")} | {"CLAP_INGRESS_PORT"}
    assert names <= {variable(name) for name in ServerSettings.model_fields}


def test_plain_docker_keeps_its_variables_and_opens_no_ingress(tmp_path: Path) -> None:
    got = start(tmp_path, None)
    assert got["CLAP_MODEL"] == "from-docker"
    assert "CLAP_INGRESS_PORT" not in got


def test_options_that_are_no_json_stop_the_start(tmp_path: Path) -> None:
    (tmp_path / "options.json").write_text("{")
    variables = {"PATH": os.environ["PATH"], "CLAP_DATA": str(tmp_path)}
    result = subprocess.run(["bash", RUN], env=variables, check=False, capture_output=True, text=True)
    assert result.returncode != 0
    assert "JSONDecodeError" in result.stderr
