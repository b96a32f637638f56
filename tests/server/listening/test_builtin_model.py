"""The whole way from sound to event with the model that is shipped, on synthesised sounds."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clap_server import synthesis
from clap_server.clap.builtin import load_builtin
from clap_server.clap.model import ClapModel
from tests.server.listening.rig import MORNING, ArraySource, RememberingSink, Rig

RATE = synthesis.SAMPLE_RATE


@pytest.fixture(scope="module")
def model() -> ClapModel:
    return load_builtin("cpu")


async def hear(samples: NDArray[np.float32], model: ClapModel, folder: Path) -> RememberingSink:
    """Let a microphone hear all of the sound."""
    rig = Rig(ArraySource(samples), folder, model=model)
    async with rig.running():
        await rig.until_heard(len(samples) / RATE)
    return rig.sink


def room(duration_s: float) -> NDArray[np.float32]:
    rng = np.random.default_rng(1)
    return 0.003 * synthesis.noise(rng, RATE, kind="pink", duration_s=duration_s)


async def test_each_break_amid_the_sounds_of_a_home_is_heard(model: ClapModel, tmp_path: Path) -> None:
    scene = synthesis.demo_scene(np.random.default_rng(5), duration_s=40, breaks=3)
    sink = await hear(scene.samples, model, tmp_path)
    heard = [
        event.started_at.timestamp() - MORNING for event in sink.started if event.label_id == "glass_breaking"
    ]
    for break_s in scene.breaks_s:
        assert any(abs(at_s - break_s) < 0.5 for at_s in heard)
    assert len(sink.ended) == len(sink.started)


async def test_a_smoke_alarm_is_one_event(model: ClapModel, tmp_path: Path) -> None:
    samples = room(26)
    alarm = synthesis.t3_alarm(np.random.default_rng(2), RATE, cycles=4)
    samples[4 * RATE : 4 * RATE + len(alarm)] += np.float32(0.3) * alarm
    sink = await hear(samples, model, tmp_path)
    assert [event.label_id for event in sink.started].count("alarm") == 1


async def test_an_empty_room_is_no_event(model: ClapModel, tmp_path: Path) -> None:
    sink = await hear(room(30), model, tmp_path)
    assert sink.started == []
