"""Which engine is taken, with trials in real processes; and what is kept of them."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.clap.engines import choosing, trials
from clap_server.clap.engines.engine import EngineError
from clap_server.clap.engines.kinds import EAGER, Kind
from clap_server.clap.engines.trials import Trial, TrialStore
from clap_server.errors import ConfigurationError
from tests.server.clap.engines import bad, hanging
from tests.server.clap.engines.bad import kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from clap_server.clap.engines.choosing import Choice
    from clap_server.clap.huggingface import HuggingFaceClap

LONG_S = 120.0
"""Far longer than a trial takes here; only reached when something is broken."""


@dataclass
class Chooser:
    """Chooses for the tiny model, again and again, as a server does that is restarted."""

    model: HuggingFaceClap
    cache_dir: Path
    eager_ms: float | None = 1000.0
    """What is known of PyTorch beforehand; else it is tried like the others."""
    told: list[str] = field(default_factory=list)

    def __call__(self, *kinds: Kind, wanted: str = "auto", timeout_s: float = LONG_S) -> Choice:
        self._know_eager()
        return choosing.choose(
            self.model.subject,
            wanted,
            self.cache_dir,
            self._tell,
            kinds=(EAGER, *kinds),
            timeout_s=timeout_s,
        )

    def _know_eager(self) -> None:
        subject = self.model.subject
        store = TrialStore(
            self.cache_dir, subject.identity, "cpu", choosing.device_name("cpu"), subject.threads
        )
        if self.eager_ms is not None and store.read(EAGER, graphs=False) is None:
            store.emptied(EAGER)
            store.write(EAGER, Trial("torch", self.eager_ms, 1.0, 0.0))

    def _tell(self, line: str) -> None:
        self.told.append(line)

    @property
    def tried(self) -> list[str]:
        """Engines of which a trial began."""
        return [line.removeprefix("Trying the engine ") for line in self.told if "(" not in line]

    def file(self, engine: str, name: str) -> Path:
        [found] = self.cache_dir.glob(f"engines/*/{engine}/{name}")
        return found


@pytest.fixture
def choose(model: HuggingFaceClap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chooser:
    here = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))
    sounds = choosing._Sounds(model.subject)
    np.savez(tmp_path / "answers.npz", features=sounds.checks.numpy(), embeddings=sounds.expected)
    monkeypatch.setenv(bad.ANSWERS, str(tmp_path / "answers.npz"))
    return Chooser(model, tmp_path / "models")


def problem_of(choice: Choice, engine: str) -> str | None:
    [trial] = [trial for trial in choice.trials if trial.engine == engine]
    return trial.problem


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_fastest_engine_is_taken_and_known_at_the_next_start(
    choose: Chooser, windows: list[NDArray[np.float32]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    choose.eager_ms = None
    first = choose(kind("good"))
    assert first.engine.name == "good"
    assert [trial.engine for trial in first.trials] == ["good", "torch"]
    assert all(trial.cosine is not None and trial.cosine > 0.9999 for trial in first.trials)
    assert "The engine good is used; a window takes good" in caplog.text
    assert warnings(caplog) == []
    assert choose.tried == ["torch", "good"]
    found = first.engine.embed(choose.model.features(windows))
    np.testing.assert_allclose(found, choose.model.embed_audio(windows), atol=1e-5)

    second = choose(kind("good"))
    assert (second.engine.name, second.trials) == ("good", first.trials)
    assert choose.tried == ["torch", "good"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("crashing", r"it crashed \(SIGSEGV\)"),
        ("exiting", "it ended with status 3"),
        ("raising", "the library says no$"),
        ("deaf", r"its embeddings are not those of float32: cosine -?0\.\d+, not 0\.99"),
        ("mixing", "its embeddings "),
        ("not-finite", "its embeddings are not those of float32"),
    ],
)
def test_a_bad_engine_is_refused_loudly_and_another_one_taken(
    choose: Chooser, caplog: pytest.LogCaptureFixture, name: str, problem: str
) -> None:
    choice = choose(kind(name), wanted=name)
    assert choice.engine.name == "torch"
    found = problem_of(choice, name) or ""
    assert re.match(problem, found)
    assert warnings(caplog) == [f"The engine {name} is not used: {found}"]
    assert "Traceback" not in caplog.text


def test_the_next_best_is_taken_when_the_fastest_hears_something_else(choose: Chooser) -> None:
    choice = choose(kind("deaf"), kind("good"))
    assert choice.engine.name == "good"
    assert problem_of(choice, "deaf") is not None


def test_an_engine_that_hangs_is_given_up_and_its_process_ended(
    choose: Chooser, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    choice = choose(hanging.KIND, wanted="hanging", timeout_s=5.0)
    assert (choice.engine.name, problem_of(choice, "hanging")) == ("torch", "it was not done within 5 s")
    assert_hung_and_ended(caplog)
    assert any(re.fullmatch(r"Trying the engine hanging \(\d+ s\)", line) for line in choose.told)


def age(path: Path, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(path, (at, at))


def test_a_failure_that_may_pass_counts_for_a_day(choose: Chooser, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise EngineError("it was not done within 300 s")

    with monkeypatch.context() as busy:
        busy.setattr(choosing, "probe", fail)
        assert choose(kind("good")).engine.name == "torch"
    age(choose.file("good", "trial.json"), 23 * 3600)
    again = choose(kind("good"))
    assert (again.engine.name, problem_of(again, "good")) == ("torch", "it was not done within 300 s")
    age(choose.file("good", "trial.json"), 25 * 3600)
    later = choose(kind("good"))
    assert (later.engine.name, problem_of(later, "good")) == ("good", None)
    assert choose.tried == ["good", "good"]


def test_what_was_measured_counts_for_longer(choose: Chooser) -> None:
    for _ in range(2):
        assert choose(kind("deaf"), kind("good")).engine.name == "good"
        for name in ("deaf", "good"):
            age(choose.file(name, "trial.json"), 100 * 86400)
    assert choose.tried == ["deaf", "good"]


def test_a_server_that_stops_ends_the_trial(
    choose: Chooser, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)

    class StoppedError(Exception):
        pass

    def tell(_self: Chooser, line: str) -> None:
        if "(3 s)" in line:
            raise StoppedError

    monkeypatch.setattr(Chooser, "_tell", tell)
    with pytest.raises(StoppedError):
        choose(hanging.KIND, wanted="hanging")
    assert_hung_and_ended(caplog)


def assert_hung_and_ended(caplog: pytest.LogCaptureFixture) -> None:
    hung = re.search(r"process (\d+) hangs", caplog.text)
    assert hung is not None
    with pytest.raises(ProcessLookupError):
        os.kill(int(hung[1]), 0)


def test_an_engine_that_is_missing_costs_no_trial(choose: Chooser, caplog: pytest.LogCaptureFixture) -> None:
    missing = kind("good", libraries=("torch", "no_such_library"))
    choice = choose(missing)
    assert choice.engine.name == "torch"
    assert problem_of(choice, "good") == "the library no_such_library is not installed"
    assert warnings(caplog) == []
    assert choose.told == []
    assert choose(missing, wanted="good").engine.name == "torch"
    assert warnings(caplog) == ["The engine good is not used: the library no_such_library is not installed"]


def test_an_engine_for_another_device_is_not_tried(choose: Chooser) -> None:
    choice = choose(replace(kind("good"), device="cuda"))
    assert problem_of(choice, "good") == "it does not run on cpu"
    assert choose.told == []


def test_a_certain_engine_is_used_though_it_is_not_the_fastest(choose: Chooser) -> None:
    assert choose(kind("good"), wanted="torch").engine.name == "torch"
    assert choose.told == []
    choose.eager_ms = 1e-9
    assert choose(kind("good"), kind("better"), wanted="good").engine.name == "good"
    assert choose.tried == ["good"]


def test_an_unknown_engine_is_refused_with_the_names_of_all(model: HuggingFaceClap, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'warp' is not known: use auto, torch, openvino, "):
        model.use_engine("warp", tmp_path, print)


def change_trial(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text())
    content["trial"] |= changes
    path.write_text(json.dumps(content))


def test_a_more_exact_engine_is_kept_unless_another_is_worth_it(choose: Chooser) -> None:
    choose(kind("good"))
    for name, ms in (("torch", 10.5), ("good", 10.0)):
        change_trial(choose.file(name, "trial.json"), ms_a_window=ms)
    assert choose(kind("good")).engine.name == "torch"
    change_trial(choose.file("torch", "trial.json"), ms_a_window=11.5)
    assert choose(kind("good")).engine.name == "good"


DAMAGE: dict[str, Callable[[Path], object]] = {
    "graph changed": lambda folder: (folder / "graph").write_text("noise"),
    "graph gone": lambda folder: (folder / "graph").unlink(),
    "record cut short": lambda folder: os.truncate(folder / "trial.json", 30),
    "record is a list": lambda folder: (folder / "trial.json").write_text("[]"),
    "record without a trial": lambda folder: (folder / "trial.json").write_text('{"key": {}}'),
    "no speed": lambda folder: change_trial(folder / "trial.json", ms_a_window=None),
    "speed is a word": lambda folder: change_trial(folder / "trial.json", ms_a_window="good"),
    "more than a trial": lambda folder: change_trial(folder / "trial.json", colour="red"),
    "folder gone": shutil.rmtree,
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_damaged_is_made_again(choose: Chooser, what: str) -> None:
    choose(kind("good"), wanted="good")
    DAMAGE[what](choose.file("good", "trial.json").parent)
    choice = choose(kind("good"), wanted="good")
    assert (choice.engine.name, problem_of(choice, "good")) == ("good", None)
    assert choose.tried == ["good", "good"]
    assert choose.file("good", "graph").read_text() == "a graph"


def test_a_damaged_graph_of_the_fastest_is_made_again(choose: Chooser) -> None:
    choose(kind("good"))
    choose.file("good", "graph").write_text("noise")
    assert choose(kind("good")).engine.name == "good"
    assert choose.tried == ["good", "good"]


@pytest.mark.parametrize("what", ["library", "processor", "weights", "threads"])
def test_what_was_measured_elsewhere_does_not_count(
    choose: Chooser, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    choose(kind("good"), wanted="good")
    if what == "library":
        monkeypatch.setattr(Kind, "versions", lambda _: {"torch": "99"})
    elif what == "processor":
        monkeypatch.setattr(trials, "device_name", lambda _: "another processor")
        monkeypatch.setattr(choosing, "device_name", lambda _: "another processor")
    else:
        subject = choose.model.subject
        changed = {"identity": "others"} if what == "weights" else {"threads": subject.threads + 1}
        monkeypatch.setattr(type(choose.model), "subject", replace(subject, **changed))
    assert choose(kind("good"), wanted="good").engine.name == "good"
    assert choose.tried == ["good", "good"]


def test_what_the_losers_exported_is_not_kept(choose: Chooser) -> None:
    choose(kind("good"))
    change_trial(choose.file("good", "trial.json"), ms_a_window=1e9)
    assert choose(kind("good")).engine.name == "torch"
    assert not (choose.file("good", "trial.json").parent / "graph").exists()
    assert choose.tried == ["good"]
    assert choose(kind("good"), wanted="good").engine.name == "good"


def test_a_folder_that_cannot_be_written_leaves_pytorch(
    choose: Chooser, caplog: pytest.LogCaptureFixture
) -> None:
    choose.eager_ms = None
    choose.cache_dir.write_text("a file where the folder should be")
    choice = choose(kind("good"))
    assert choice.engine.name == "torch"
    assert "its trial cannot be stored" in (problem_of(choice, "good") or "")
    assert "cannot be kept" in "\n".join(warnings(caplog))
