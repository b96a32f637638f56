"""The model at hand: the wanted one, or the built-in one with the reason in words."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, cast

import pytest

from clap_server.clap import automatic
from clap_server.clap import builtin as builtin_package
from clap_server.clap import holder as holding
from clap_server.clap.automatic import MEANWHILE
from clap_server.clap.deciding import Speed
from clap_server.clap.holder import ModelHolder
from clap_server.clap.huggingface import HuggingFaceClap
from clap_server.clap.loader import FULL
from clap_server.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from clap_server.clap.model import ClapModel
    from tests.server.clap.hub import Hub

NAME = "someone/tiny-clap"
LONG_S = 60.0
"""Far longer than anything here takes; only reached when something is broken."""


@pytest.fixture(autouse=True)
def small_builtin(monkeypatch: pytest.MonkeyPatch, unfused_checkpoint: Path, tmp_path: Path) -> None:
    """A built-in model that loads at once: what it computes does not matter here."""

    def load_builtin(device: str) -> ClapModel:
        model = HuggingFaceClap(unfused_checkpoint, name="builtin", device=device, cache_dir=tmp_path)
        model.builtin = True
        return model

    monkeypatch.setattr(builtin_package, "load_builtin", load_builtin)


class Watch:
    """Waits for a change of a holder."""

    def __init__(self, holder: ModelHolder) -> None:
        self.holder = holder
        self.changes = 0
        self._changed = asyncio.Event()
        self.unsubscribe = holder.subscribe(self._on_change)

    def _on_change(self) -> None:
        self.changes += 1
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(LONG_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Holders:
    """Makes holders and stops them at the end."""

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._made: list[ModelHolder] = []

    def __call__(
        self,
        requested: str,
        *,
        patience_s: float = LONG_S,
        retry_first_s: float = 0.05,
        device: str = "cpu",
        prepare: Callable[[ClapModel, Callable[[str], None]], ClapModel] | None = None,
    ) -> ModelHolder:
        holder = ModelHolder(
            requested,
            device=device,
            cache_dir=self._cache_dir,
            patience_s=patience_s,
            retry_first_s=retry_first_s,
            prepare=prepare,
        )
        self._made.append(holder)
        return holder

    async def stop(self) -> None:
        for holder in self._made:
            await holder.stop()


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Holders]:
    holders = Holders(tmp_path)
    yield holders
    await holders.stop()


async def test_the_builtin_model_is_there_at_once(make: Holders) -> None:
    holder = make("builtin")
    with pytest.raises(RuntimeError, match="has not finished"):
        _ = holder.model
    await holder.start()
    assert holder.model.builtin
    assert holder.problem is None
    assert holder.requested == "builtin"


async def test_a_model_that_loads_in_time_is_used_from_the_start(
    make: Holders, fused_checkpoint: Path
) -> None:
    holder = make(str(fused_checkpoint))
    await holder.start()
    assert holder.model.name == str(fused_checkpoint)
    assert holder.problem is None


async def test_the_builtin_model_runs_while_the_wanted_one_downloads(
    make: Holders, hub: Hub, fused_checkpoint: Path
) -> None:
    hub.models[NAME] = fused_checkpoint
    hub.hold.clear()
    holder = make(NAME, patience_s=0.0)
    watch = Watch(holder)
    await holder.start()
    assert holder.model.builtin
    assert holder.problem is not None
    assert "the built-in model runs meanwhile" in holder.problem
    hub.hold.set()
    await watch.until(lambda: not holder.model.builtin)
    assert holder.model.name == NAME
    assert holder.problem is None


async def test_the_problem_shows_how_far_the_download_is(
    make: Holders, hub: Hub, fused_checkpoint: Path
) -> None:
    hub.models[NAME] = fused_checkpoint
    hub.hold.clear()
    holder = make(NAME, patience_s=0.0)
    seen: list[str] = []
    holder.subscribe(lambda: seen.append(holder.problem or ""))
    watch = Watch(holder)
    await holder.start()
    hub.hold.set()
    await watch.until(lambda: not holder.model.builtin)
    assert any(f"Downloading {NAME}" in problem and "MB" in problem for problem in seen)
    assert seen[-1] == ""


async def test_a_model_that_cannot_be_had_is_told_loudly_and_tried_again_until_it_can(
    make: Holders, hub: Hub, fused_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.down = True
    holder = make(NAME)
    watch = Watch(holder)
    with caplog.at_level(logging.WARNING):
        await holder.start()
    assert holder.model.builtin
    assert "cannot be reached" in (holder.problem or "")
    assert "The built-in model runs instead, and the server goes on trying." in (holder.problem or "")
    assert any("cannot be reached" in record.message for record in caplog.records)
    hub.models[NAME] = fused_checkpoint
    hub.down = False
    await watch.until(lambda: not holder.model.builtin)
    assert holder.problem is None


async def test_the_same_failure_is_told_once(
    make: Holders, hub: Hub, fused_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    holder = make(NAME, retry_first_s=0.01)
    watch = Watch(holder)
    await holder.start()
    async with asyncio.timeout(LONG_S):
        while len(hub.requests) < 4:
            await asyncio.sleep(0.01)
    hub.models[NAME] = fused_checkpoint
    await watch.until(lambda: not holder.model.builtin)
    assert sum("has no model" in record.message for record in caplog.records) == 1


async def test_an_error_that_nobody_foresaw_does_not_end_the_attempts(
    make: Holders, fused_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failures = iter([True, True, False])

    def prepare(model: ClapModel, _: Callable[[str], None]) -> ClapModel:
        if not model.builtin and next(failures):
            raise ZeroDivisionError("surprise")
        return model

    holder = make(str(fused_checkpoint), prepare=prepare)
    watch = Watch(holder)
    await holder.start()
    assert "surprise" in (holder.problem or "")
    await watch.until(lambda: not holder.model.builtin)
    assert any(record.exc_info for record in caplog.records)


async def test_each_model_is_prepared_and_what_that_tells_is_shown(
    make: Holders, fused_checkpoint: Path
) -> None:
    release = asyncio.Event()
    loop = asyncio.get_running_loop()
    prepared = []

    def prepare(model: ClapModel, tell: Callable[[str], None]) -> ClapModel:
        prepared.append(model.builtin)
        if not model.builtin:
            tell("Calibrating")
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(LONG_S)
            tell("Calibrated")
        return model

    holder = make(str(fused_checkpoint), patience_s=0.0, prepare=prepare)
    watch = Watch(holder)
    await holder.start()
    await watch.until(lambda: "Calibrating" in (holder.problem or "") or "loaded" in (holder.problem or ""))
    release.set()
    await watch.until(lambda: not holder.model.builtin)
    assert sorted(prepared) == [False, True]
    assert holder.problem is None


async def test_if_the_builtin_model_is_damaged_the_wanted_one_is_waited_for(
    make: Holders, hub: Hub, fused_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(_: str) -> ClapModel:
        hub.hold.set()
        raise ModelError("The built-in model is damaged.")

    monkeypatch.setattr(builtin_package, "load_builtin", damaged)
    hub.models[NAME] = fused_checkpoint
    hub.hold.clear()
    holder = make(NAME, patience_s=0.0)
    await holder.start()
    assert holder.model.name == NAME


async def test_no_model_at_all_is_an_error(
    make: Holders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(_: str) -> ClapModel:
        raise ModelError("The built-in model is damaged.")

    monkeypatch.setattr(builtin_package, "load_builtin", damaged)
    with pytest.raises(ModelError, match="damaged"):
        await make(str(tmp_path / "nowhere")).start()
    with pytest.raises(ModelError, match="damaged"):
        await make("builtin").start()


async def test_a_device_that_is_not_there_is_told_and_the_cpu_runs(make: Holders) -> None:
    holder = make("builtin", device="tpu")
    await holder.start()
    assert holder.model.device == "cpu"
    assert "use auto, cpu" in (holder.problem or "")
    assert "Running on the CPU" in (holder.problem or "")


async def test_stop_ends_a_download(make: Holders, hub: Hub, fused_checkpoint: Path) -> None:
    hub.models[NAME] = fused_checkpoint
    hub.hold.clear()
    holder = make(NAME, patience_s=0.0)
    await holder.start()
    await holder.stop()
    hub.hold.set()
    assert holder.model.builtin
    assert asyncio.all_tasks() == {asyncio.current_task()}
    async with asyncio.timeout(LONG_S):
        await asyncio.get_running_loop().shutdown_default_executor()  # its thread ends too


async def test_a_subscriber_that_fails_or_leaves_disturbs_nobody(
    make: Holders, caplog: pytest.LogCaptureFixture
) -> None:
    holder = make("builtin")

    def fail() -> None:
        raise ZeroDivisionError

    holder.subscribe(fail)
    gone = Watch(holder)
    gone.unsubscribe()
    gone.unsubscribe()
    watch = Watch(holder)
    await holder.start()
    assert (watch.changes, gone.changes) == (1, 0)
    assert "A subscriber of the model failed" in caplog.text


@pytest.fixture
def full(hub: Hub, unfused_checkpoint: Path) -> Hub:
    """A hub that has the full model, of no size to speak of."""
    hub.models[FULL] = unfused_checkpoint
    return hub


async def test_auto_begins_with_the_builtin_model_and_brings_the_full_one(
    make: Holders, full: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    full.hold.clear()
    holder = make("auto")
    told: list[str] = []
    holder.subscribe(lambda: told.append(holder.choice or ""))
    watch = Watch(holder)
    with caplog.at_level(logging.INFO):
        await holder.start()
        assert holder.model.builtin
        assert holder.choice == f"The full model, {FULL}, is being looked for; {MEANWHILE}."
        full.hold.set()
        await watch.until(lambda: not holder.model.builtin and "listens: a window" in (holder.choice or ""))
    assert holder.model.name == FULL
    assert holder.problem is None
    assert any(line.startswith(f"Downloading {FULL}: ") and line.endswith(f"; {MEANWHILE}.") for line in told)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    assert holder.choice in caplog.text


async def test_auto_without_a_network_stays_with_the_builtin_model_and_has_no_problem(
    make: Holders, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    hub.down = True
    holder = make("auto", retry_first_s=30.0)
    watch = Watch(holder)
    with caplog.at_level(logging.INFO):
        await holder.start()
        await watch.until(lambda: "next try" in (holder.choice or ""))
    assert holder.model.builtin
    assert holder.problem is None
    assert re.fullmatch(
        "The full model is not here yet: the hub cannot be reached; the built-in model listens; next try in "
        r"\d+ seconds\.",
        holder.choice or "",
    )
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_auto_goes_on_trying_and_once_the_files_are_there_asks_nobody(make: Holders, full: Hub) -> None:
    full.down = True
    holder = make("auto", retry_first_s=0.05)
    watch = Watch(holder)
    await holder.start()
    await watch.until(lambda: "next try" in (holder.choice or ""))
    full.down = False
    await watch.until(lambda: not holder.model.builtin)
    await holder.stop()
    asked = len(full.requests)
    full.down = True
    again = make("auto")
    watch = Watch(again)
    await again.start()
    await watch.until(lambda: not again.model.builtin)
    assert len(full.requests) == asked


async def test_auto_with_too_little_memory_fetches_nothing(
    make: Holders, full: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "available_bytes", lambda: 1000)
    holder = make("auto", retry_first_s=30.0)
    watch = Watch(holder)
    await holder.start()
    await watch.until(lambda: "next try" in (holder.choice or ""))
    assert "MB of free memory" in (holder.choice or "")
    assert (holder.model.builtin, holder.problem, full.weights) == (True, None, [])


async def test_auto_follows_the_microphones(
    make: Holders, full: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "measure", lambda _: Speed(45.0, 45.0))
    monkeypatch.setattr(automatic, "_SETTLE_S", 0.0)
    assert full.models
    holder = make("auto")
    holder.microphones_are([0.5] * 8)
    watch = Watch(holder)
    await holder.start()
    await watch.until(lambda: not holder.model.builtin)
    assert holder.least_hop_s == 1.0
    holder.microphones_are([0.5] * 30)
    await watch.until(lambda: holder.model.builtin)
    assert holder.least_hop_s == 0.0
    assert "30 microphones would keep 135 %" in (holder.choice or "")


async def test_what_was_asked_for_by_name_is_no_choice(make: Holders) -> None:
    holder = make("builtin")
    await holder.start()
    holder.microphones_are([0.5])
    holder.overload_is(present=True)
    assert (holder.choice, holder.least_hop_s) == (None, 0.0)


async def test_a_full_model_that_fails_gives_way_and_comes_back(make: Holders, full: Hub) -> None:
    assert full.models
    holder = make("auto", retry_first_s=0.05)
    watch = Watch(holder)
    await holder.start()
    await watch.until(lambda: not holder.model.builtin)
    failing = holder.model
    holder.failed(failing, "CUDA error")
    await watch.until(lambda: holder.model.builtin)
    assert holder.problem == (
        f"The model {FULL} failed on cpu while it listened (CUDA error). The built-in model listens instead."
    )
    assert holder.choice == (
        f"The model {FULL} failed on cpu while it listened (CUDA error); the built-in model listens; "
        "next try in 1 second."
    )
    await watch.until(lambda: not holder.model.builtin)
    assert holder.model is not failing
    assert holder.problem is None
    holder.failed(failing, "told late")
    await asyncio.sleep(0)
    assert not holder.model.builtin


async def test_a_failure_is_no_problem_any_more_once_the_builtin_model_is_chosen(
    make: Holders, full: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert full.models
    holder = make("auto", retry_first_s=0.05)
    holder.microphones_are([0.5])
    problems: list[str] = []
    holder.subscribe(lambda: problems.append(holder.problem or ""))
    monkeypatch.setattr(holding, "measure", lambda _: Speed(40.0, 40.0))
    monkeypatch.setattr(automatic, "_SETTLE_S", 0.0)
    watch = Watch(holder)
    await holder.start()
    await watch.until(lambda: not holder.model.builtin)
    monkeypatch.setattr(holding, "measure", lambda _: Speed(900.0, 900.0))
    holder.failed(holder.model, "CUDA error")
    await watch.until(lambda: "would keep 90 % (more than half)" in (holder.choice or ""))
    assert any("CUDA error" in problem for problem in problems)
    assert (holder.model.builtin, holder.problem) == (True, None)


async def test_a_model_that_was_asked_for_and_fails_gives_way_and_comes_back(
    make: Holders, fused_checkpoint: Path
) -> None:
    holder = make(str(fused_checkpoint))
    watch = Watch(holder)
    await holder.start()
    holder.failed(holder.model, "out of memory")
    holder.failed(holder.model, "out of memory")
    await watch.until(lambda: holder.model.builtin)
    assert "failed on cpu while it listened (out of memory)" in (holder.problem or "")
    await watch.until(lambda: not holder.model.builtin)
    assert holder.problem is None


async def test_a_builtin_model_that_fails_on_a_gpu_gives_way_to_one_on_the_cpu(make: Holders) -> None:
    holder = make("builtin")
    watch = Watch(holder)
    await holder.start()
    on_gpu = cast("HuggingFaceClap", holder.model)
    on_gpu.device = "cuda:0"
    holder.failed(on_gpu, "the GPU has fallen off the bus")
    await watch.until(lambda: holder.model is not on_gpu)
    assert (holder.model.builtin, holder.model.device) == (True, "cpu")
    assert "failed on cuda:0" in (holder.problem or "")
    await watch.until(lambda: holder.problem is None)


async def test_a_builtin_model_that_fails_on_the_cpu_is_the_last_resort(make: Holders) -> None:
    holder = make("builtin")
    await holder.start()
    last = holder.model
    holder.failed(last, "no idea")
    await asyncio.sleep(0)
    assert (holder.model, holder.problem) == (last, None)
