"""A muted microphone hears nothing, keeps nothing and says so."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clap_server.audio.push import PushSource
from clap_server.audio.source import SourceState
from clap_server.clap.holder import ModelHolder
from clap_server.detection.library import load_library
from clap_server.errors import ConfigurationError
from clap_server.listening.config import FileSourceSettings, RecordingSettings
from clap_server.listening.diary import MomentNote
from clap_server.listening.events import ClipWithheld
from clap_server.listening.microphone import MicrophoneListener
from clap_server.listening.self_test import SelfTestError
from clap_server.listening.supervisor import Supervisor
from tests.server.listening.rig import RememberingSink, eventually, holder_of, microphone
from tests.server.listening.spectral import SpectralModel, crash, scene
from tests.server.listening.test_supervisor import PCM, push, state


@pytest.fixture
def sink() -> RememberingSink:
    return RememberingSink()


@pytest.fixture
def holder(tmp_path: Path) -> ModelHolder:
    return holder_of(SpectralModel(), tmp_path)


@pytest.fixture
async def supervisor(holder: ModelHolder, sink: RememberingSink) -> AsyncIterator[Supervisor]:
    made = Supervisor(holder, load_library(), sink, media_dir=None)
    await made.start()
    yield made
    await made.stop()


async def mute(supervisor: Supervisor, microphone_id: str = "kitchen") -> None:
    async with supervisor.lock(microphone_id):
        await supervisor.mute(microphone_id)


async def _breaking(supervisor: Supervisor, sink: RememberingSink) -> PushSource:
    """A microphone where an event is going on."""
    await supervisor.apply(microphone(recording=RecordingSettings(post_roll_s=10.0)))
    source = supervisor.push_source("kitchen")
    await push(source, scene(5, (3, crash())))
    await sink.until(lambda: bool(sink.started))
    return source


async def test_what_goes_on_ends_without_a_recording(supervisor: Supervisor, sink: RememberingSink) -> None:
    await _breaking(supervisor, sink)
    await mute(supervisor)
    ((event, recording),) = sink.ended
    assert event.ended_at is not None
    assert (event.clip_withheld, recording) == (ClipWithheld.MUTED, None)
    assert sink.clips == []
    snapshot = supervisor.snapshot("kitchen")
    assert snapshot.active == frozenset()
    assert snapshot.status.state is SourceState.MUTED
    assert "until it is unmuted" in snapshot.status.reason
    assert sink.statuses[-1] == ("kitchen", snapshot.status)
    moments = [note.words for note in supervisor.notes("kitchen", 60) if isinstance(note, MomentNote)]
    assert moments[-1] == snapshot.status.reason


async def test_the_sound_is_wiped_at_once_and_no_more_is_taken(
    supervisor: Supervisor, sink: RememberingSink
) -> None:
    source = await _breaking(supervisor, sink)
    listener = supervisor.listener("kitchen")
    stretch = listener._hearing._stretch
    assert stretch is not None
    ring = stretch.front.ring
    assert np.abs(ring.read(ring.first_sample, ring.total_samples)).max() > 0
    heard = ring.total_samples
    pusher = source._pusher
    assert pusher is not None
    pusher.feed(scene(0.2).tobytes())
    supervisor.silence("kitchen")
    levels, scores = len(sink.levels), len(sink.all_scores)
    assert not ring.read(ring.first_sample, ring.total_samples).any()
    assert not source.connected
    assert not source._queue
    with pytest.raises(ConfigurationError, match="muted and takes no sound"):
        supervisor.push_source("kitchen")
    await mute(supervisor)
    assert ring.total_samples == heard
    assert (len(sink.levels), len(sink.all_scores)) == (levels, scores)
    assert [status.state for _, status in sink.statuses][-1] is SourceState.MUTED
    with pytest.raises(SelfTestError, match="not listening: muted"):
        supervisor.listener("kitchen")


async def test_nothing_begins_to_listen_while_the_mute_waits_for_its_turn(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = 0

    async def run(_listener: MicrophoneListener) -> None:
        nonlocal begun
        begun += 1
        raise RuntimeError("a mistake")

    monkeypatch.setattr(MicrophoneListener, "run", run)
    monkeypatch.setattr("clap_server.listening.supervisor._FIRST_RETRY_S", 0.01)
    await supervisor.apply(microphone())
    # Its task has not begun, so there is no listener that could be told.
    supervisor.silence("kitchen")
    task = supervisor._entries["kitchen"].task
    assert task is not None
    await asyncio.wait_for(task, 10)
    assert begun == 0
    assert state(supervisor, "kitchen") is SourceState.MUTED
    await mute(supervisor)
    supervisor.unmute("kitchen")
    await eventually(lambda: begun > 0)
    # Now it is waiting to try again.
    supervisor.silence("kitchen")
    task = supervisor._entries["kitchen"].task
    assert task is not None
    before = begun
    await asyncio.wait_for(task, 10)
    assert begun == before
    assert state(supervisor, "kitchen") is SourceState.MUTED


async def test_one_that_is_changed_while_it_is_muted_does_not_listen(
    supervisor: Supervisor, sink: RememberingSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _breaking(supervisor, sink)
    waiting, go_on = asyncio.Event(), asyncio.Event()
    stop = supervisor._stop

    async def stop_slowly(entry: Any) -> None:
        await stop(entry)
        waiting.set()
        await go_on.wait()

    monkeypatch.setattr(supervisor, "_stop", stop_slowly)
    changing = asyncio.create_task(supervisor.apply(microphone(denoise=True)))
    await waiting.wait()
    supervisor.silence("kitchen")
    go_on.set()
    await changing
    assert supervisor._entries["kitchen"].task is None
    assert state(supervisor, "kitchen") is SourceState.MUTED


async def test_unmuted_it_listens_again_and_remembers_nothing(
    supervisor: Supervisor, sink: RememberingSink
) -> None:
    source = await _breaking(supervisor, sink)
    await mute(supervisor)
    await mute(supervisor)
    supervisor.unmute("kitchen")
    supervisor.unmute("kitchen")
    await eventually(lambda: supervisor.snapshot("kitchen").status.code == "waiting_for_client")
    assert supervisor.push_source("kitchen") is source
    source.connect(PCM)
    await push(source, scene(5, (3, crash())))
    await sink.until(lambda: len(sink.started) == 2)


async def test_no_settings_unmute(supervisor: Supervisor) -> None:
    await supervisor.apply(microphone())
    await mute(supervisor)
    for changed in (
        microphone(labels=("alarm",)),
        microphone(enabled=False),
        microphone(hop_s=1.0),
        microphone(denoise=True),
    ):
        await supervisor.apply(changed)
        assert state(supervisor, "kitchen") is SourceState.MUTED
        assert supervisor._entries["kitchen"].task is None
    await supervisor.apply(microphone(enabled=False))
    supervisor.unmute("kitchen")
    assert state(supervisor, "kitchen") is SourceState.DISABLED


async def test_it_is_muted_from_the_first_moment_after_a_restart(
    supervisor: Supervisor, sink: RememberingSink
) -> None:
    await supervisor.restore(microphone(), muted=True)
    assert [status.state for _, status in sink.statuses] == [SourceState.MUTED]
    await supervisor.restore(microphone("hall", source=FileSourceSettings(path="a.wav")), muted=True)
    assert state(supervisor, "hall") is SourceState.MUTED
    supervisor.unmute("hall")
    assert supervisor.snapshot("hall").status.code == "bad_settings"


async def test_one_that_is_removed_is_not_muted_when_it_comes_again(supervisor: Supervisor) -> None:
    await supervisor.apply(microphone())
    await mute(supervisor)
    await supervisor.remove("kitchen")
    await mute(supervisor, "nowhere")
    supervisor.unmute("nowhere")
    await supervisor.apply(microphone())
    assert state(supervisor, "kitchen") is SourceState.CONNECTING
