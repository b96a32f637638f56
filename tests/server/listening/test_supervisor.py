"""Microphones live side by side; what is wrong with one never disturbs another."""

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clap_server.audio.encode import encode
from clap_server.audio.push import PushFormat, PushSource
from clap_server.audio.source import SourceError, SourceState, SourceStatus
from clap_server.clap.holder import ModelHolder
from clap_server.detection.library import load_library
from clap_server.errors import ConfigurationError, LabelError, ModelError
from clap_server.listening import config
from clap_server.listening import supervisor as supervisor_module
from clap_server.listening.supervisor import Supervisor
from tests.server.listening.rig import RememberingSink, eventually, holder_of, microphone
from tests.server.listening.spectral import RATE, SpectralModel, crash, room, scene, tone

PCM = PushFormat("f32le", RATE)


@pytest.fixture
def sink() -> RememberingSink:
    return RememberingSink()


@pytest.fixture
def holder(tmp_path: Path) -> ModelHolder:
    return holder_of(SpectralModel(), tmp_path)


@pytest.fixture
async def supervisor(tmp_path: Path, sink: RememberingSink, holder: ModelHolder) -> AsyncIterator[Supervisor]:
    media = tmp_path / "media"
    media.mkdir()
    made = Supervisor(holder, load_library(), sink, media_dir=media)
    await made.start()
    yield made
    await made.stop()


async def push(source: PushSource, samples: NDArray[np.float32]) -> None:
    """Send sound as fast as it is taken; the client stays connected."""
    pusher = source._pusher or source.connect(PCM)
    for start in range(0, len(samples), RATE // 2):
        pusher.feed(samples[start : start + RATE // 2].tobytes())
        await eventually(lambda: not source._queue)


def state(supervisor: Supervisor, microphone_id: str) -> SourceState:
    return supervisor.snapshot(microphone_id).status.state


async def test_pushed_sound_becomes_an_event_and_the_snapshot_shows_it(
    supervisor: Supervisor, sink: RememberingSink
) -> None:
    await supervisor.apply(microphone())
    await push(supervisor.push_source("kitchen"), scene(5, (3, crash())))
    await sink.until(lambda: bool(sink.started))
    snapshot = supervisor.snapshot("kitchen")
    assert snapshot.status.state is SourceState.LISTENING
    assert snapshot.active == {"glass_breaking"}
    assert [watched.label.id for watched in snapshot.labels] == ["glass_breaking", "alarm"]
    assert snapshot.windows_scored > 0
    assert snapshot.windows_dropped == 0
    assert sink.statuses[-1][0] == "kitchen"


async def test_a_client_that_leaves_ends_the_event(supervisor: Supervisor, sink: RememberingSink) -> None:
    await supervisor.apply(microphone())
    source = supervisor.push_source("kitchen")
    await push(source, scene(5, (3, crash())))
    await sink.until(lambda: bool(sink.started))
    source.disconnect()
    await sink.until(lambda: bool(sink.ended))
    assert supervisor.snapshot("kitchen").status.code == "waiting_for_client"


async def test_a_file_of_the_media_folder_is_heard(
    supervisor: Supervisor, sink: RememberingSink, tmp_path: Path
) -> None:
    (tmp_path / "media" / "break.flac").write_bytes(encode(scene(3, (1, crash())), RATE, "flac"))
    await supervisor.apply(microphone(source=config.FileSourceSettings(path="break.flac")))
    await sink.until(lambda: bool(sink.started))
    assert sink.started[0].label_id == "glass_breaking"


async def test_a_recording_that_is_not_repeated_ends_with_its_event(
    supervisor: Supervisor, sink: RememberingSink, tmp_path: Path
) -> None:
    (tmp_path / "media" / "break.flac").write_bytes(encode(scene(2, (1, crash())), RATE, "flac"))
    await supervisor.apply(microphone(source=config.FileSourceSettings(path="break.flac", loop=False)))
    await sink.until(lambda: bool(sink.ended))
    await sink.until(lambda: sink.statuses[-1][1].code == "finished")
    assert supervisor.snapshot("kitchen").active == frozenset()


async def test_the_same_settings_again_change_nothing(supervisor: Supervisor, sink: RememberingSink) -> None:
    await supervisor.apply(microphone())
    source = supervisor.push_source("kitchen")
    await push(source, scene(5, (3, crash())))
    await sink.until(lambda: bool(sink.started))
    statuses = len(sink.statuses)
    await supervisor.apply(microphone())
    await supervisor.apply(microphone(name="Another name"))
    assert supervisor.push_source("kitchen") is source
    assert len(sink.statuses) == statuses
    assert supervisor.snapshot("kitchen").active == {"glass_breaking"}


async def test_other_labels_keep_the_connection(supervisor: Supervisor, sink: RememberingSink) -> None:
    await supervisor.apply(microphone(labels=("glass breaking",)))
    source = supervisor.push_source("kitchen")
    await push(source, room(1))
    await supervisor.apply(microphone(labels=(("alarm", 0.4),), negatives=("a piano",), hop_s=0.25))
    await push(source, scene(5, (1, tone(4))))
    await sink.until(lambda: bool(sink.started))
    assert sink.started[0].label_id == "alarm"
    assert sink.started[0].threshold == 0.4
    assert supervisor.push_source("kitchen") is source


async def test_another_source_replaces_the_old_one_and_counts_on(
    supervisor: Supervisor, sink: RememberingSink
) -> None:
    await supervisor.apply(microphone())
    await push(supervisor.push_source("kitchen"), scene(3, (1, tone(2))))
    await sink.until(lambda: bool(sink.started))
    scored = supervisor.snapshot("kitchen").windows_scored
    await supervisor.apply(microphone(source=config.FileSourceSettings(path="not-there.flac")))
    assert len(sink.ended) == 1
    await sink.until(lambda: sink.statuses[-1][1].code == "not_found")
    assert supervisor.snapshot("kitchen").windows_scored >= scored
    with pytest.raises(ConfigurationError, match="type 'push'"):
        supervisor.push_source("kitchen")


async def test_a_microphone_can_be_switched_off_and_on(supervisor: Supervisor, sink: RememberingSink) -> None:
    await supervisor.apply(microphone(enabled=False))
    assert state(supervisor, "kitchen") is SourceState.DISABLED
    with pytest.raises(ConfigurationError, match="switched off"):
        supervisor.push_source("kitchen")
    await supervisor.apply(microphone())
    await sink.until(lambda: sink.statuses[-1][1].code == "waiting_for_client")
    await supervisor.apply(microphone(enabled=False))
    assert state(supervisor, "kitchen") is SourceState.DISABLED


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (microphone(labels=("!!!",)), LabelError, "no words"),
        (microphone(labels=("alarm", "Alarm")), LabelError, "name each sound once"),
        (microphone(source=config.UrlSourceSettings(url="ftp://camera/x")), SourceError, "rtsp://"),
        (
            microphone(source=config.FileSourceSettings(path="../secret.wav")),
            SourceError,
            "outside the media folder",
        ),
    ],
)
async def test_bad_settings_are_refused_and_disturb_nothing(
    supervisor: Supervisor,
    sink: RememberingSink,
    wrong: config.Microphone,
    error: type[Exception],
    words: str,
) -> None:
    await supervisor.apply(microphone())
    source = supervisor.push_source("kitchen")
    await push(source, scene(5, (3, crash())))
    await sink.until(lambda: bool(sink.started))
    for microphone_id in ("kitchen", "new"):
        with pytest.raises(error, match=words):
            await supervisor.apply(config.Microphone(id=microphone_id, settings=wrong.settings))
    assert supervisor.push_source("kitchen") is source
    assert supervisor.snapshot("kitchen").active == {"glass_breaking"}
    assert supervisor.snapshot("new").labels == ()


async def test_labels_that_the_model_refuses_are_refused_for_a_new_microphone_too(
    supervisor: Supervisor, holder: ModelHolder, sink: RememberingSink
) -> None:
    class Mute(SpectralModel):
        def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
            raise ModelError(f"cannot say {texts[0]}")

    await supervisor.apply(microphone("off", enabled=False))
    told = len(sink.statuses)
    holder._use(Mute())
    for wrong in (microphone("new"), microphone("new", enabled=False), microphone("off", enabled=True)):
        with pytest.raises(ModelError, match="cannot say"):
            await supervisor.apply(wrong)
    assert len(sink.statuses) == told
    assert supervisor.snapshot("new").labels == ()
    assert state(supervisor, "off") is SourceState.DISABLED
    # What needs no texts is not refused.
    await supervisor.apply(microphone("off", enabled=False, name="Another name"))


async def test_without_a_media_folder_a_file_is_refused_with_what_to_do(
    sink: RememberingSink, holder: ModelHolder
) -> None:
    made = Supervisor(holder, load_library(), sink, media_dir=None)
    await made.start()
    try:
        with pytest.raises(ConfigurationError, match="--media DIR"):
            await made.apply(microphone(source=config.FileSourceSettings(path="x.wav")))
        await made.restore(microphone(source=config.FileSourceSettings(path="x.wav")))
        snapshot = made.snapshot("kitchen")
        assert snapshot.status.state is SourceState.FAILED
        assert "--media DIR" in snapshot.status.reason
        # It can be mended.
        await made.apply(microphone())
        await sink.until(lambda: sink.statuses[-1][1].code == "waiting_for_client")
    finally:
        await made.stop()


async def test_a_microphone_that_breaks_is_started_again_with_the_reason_shown_and_logged_once(
    supervisor: Supervisor,
    holder: ModelHolder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(supervisor_module, "_FIRST_RETRY_S", 0.01)
    good = holder.model

    class Mute(SpectralModel):
        calls = 0

        def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
            Mute.calls += 1
            raise RuntimeError(f"rtsp://user:secret@camera/ cannot say {texts[0]}")

    holder._use(Mute())
    await supervisor.restore(microphone())
    await supervisor.restore(microphone("hall", source=config.PushSourceSettings()))
    await eventually(lambda: Mute.calls >= 6)
    status = supervisor.snapshot("kitchen").status
    assert status.code == "broke_off"
    assert "cannot say" in status.reason
    assert "secret" not in status.reason
    holder._use(good)
    await eventually(lambda: supervisor.snapshot("kitchen").status.code == "waiting_for_client")
    assert caplog.text.count("Microphone kitchen broke off") == 1


async def test_removing_ends_the_event_and_forgets_the_microphone(
    supervisor: Supervisor, sink: RememberingSink
) -> None:
    await supervisor.apply(microphone())
    await push(supervisor.push_source("kitchen"), scene(5, (3, crash())))
    await sink.until(lambda: bool(sink.started))
    await supervisor.remove("kitchen")
    await supervisor.remove("kitchen")
    assert len(sink.ended) == 1
    assert state(supervisor, "kitchen") is SourceState.CONNECTING
    with pytest.raises(ConfigurationError):
        supervisor.push_source("kitchen")


async def test_many_microphones_are_heard_at_once(supervisor: Supervisor, sink: RememberingSink) -> None:
    ids = [f"room{number}" for number in range(8)]
    for microphone_id in ids:
        await supervisor.apply(microphone(microphone_id))
    await asyncio.gather(
        *(push(supervisor.push_source(microphone_id), scene(4, (2, crash()))) for microphone_id in ids)
    )
    await sink.until(lambda: len(sink.started) == len(ids))
    assert {event.microphone_id for event in sink.started} == set(ids)


async def test_when_the_model_is_too_slow_windows_are_dropped_and_counted_and_all_are_heard_in_turn(
    supervisor: Supervisor, holder: ModelHolder
) -> None:
    class Slow(SpectralModel):
        def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
            time.sleep(0.1 * len(windows))
            return super().embed_audio(windows)

    holder._use(Slow())
    ids = [f"room{number}" for number in range(3)]
    for microphone_id in ids:
        await supervisor.apply(microphone(microphone_id, hop_s=0.1))

    def is_both(microphone_id: str) -> bool:
        snapshot = supervisor.snapshot(microphone_id)
        return snapshot.windows_dropped > 0 and snapshot.windows_scored > 0

    async def shout(microphone_id: str) -> None:
        pusher = supervisor.push_source(microphone_id).connect(PCM)
        # Some are lost at the source already, which is not what is tested.
        while not (all(map(is_both, ids)) and supervisor.batcher.metrics.dropped):
            pusher.feed(tone(0.5).tobytes())
            await asyncio.sleep(0.02)

    async with asyncio.timeout(60):
        await asyncio.gather(*map(shout, ids))
    assert supervisor.batcher.metrics.dropped


async def test_after_the_stop_nothing_is_embedded(sink: RememberingSink, holder: ModelHolder) -> None:
    made = Supervisor(holder, load_library(), sink, media_dir=None)
    await made.start()
    await made.apply(microphone())
    await made.stop()
    with pytest.raises(ModelError, match="stops"):
        await made.batcher.run(lambda: None)


async def test_a_microphone_that_does_not_end_is_left_behind(
    supervisor: Supervisor,
    sink: RememberingSink,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(supervisor_module, "STOP_TIMEOUT_S", 0.05)
    release = asyncio.Event()

    async def slow(*_: object) -> None:
        await release.wait()

    monkeypatch.setattr(sink, "event_ended", slow)
    await supervisor.apply(microphone())
    await push(supervisor.push_source("kitchen"), scene(5, (3, crash())))
    await sink.until(lambda: bool(sink.started))
    await supervisor.remove("kitchen")
    assert "does not end" in caplog.text
    release.set()


async def test_a_stop_that_is_broken_off_at_a_slow_microphone_still_stops_the_model(
    sink: RememberingSink, holder: ModelHolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Supervisor(holder, load_library(), sink, media_dir=None)
    await made.start()
    release = asyncio.Event()

    async def slow(*_: object) -> None:
        await release.wait()

    monkeypatch.setattr(sink, "event_ended", slow)
    await made.apply(microphone())
    await push(made.push_source("kitchen"), scene(5, (3, crash())))
    await sink.until(lambda: bool(sink.started))
    stopping = asyncio.create_task(made.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    try:
        with pytest.raises(asyncio.CancelledError):
            await stopping
        with pytest.raises(ModelError, match="stops"):
            await made.batcher.run(lambda: None)
    finally:
        release.set()


async def test_a_task_that_nothing_restarts_is_told(
    supervisor: Supervisor,
    sink: RememberingSink,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_microphone_id: str, status: SourceStatus) -> None:
        if status.code != "connecting":
            raise ZeroDivisionError("a bug")

    monkeypatch.setattr(sink, "status", broken)
    await supervisor.apply(microphone())
    await eventually(lambda: "'microphone kitchen' is dead" in caplog.text)
    monkeypatch.undo()
    await supervisor.apply(microphone(source=config.FileSourceSettings(path="not-there.flac")))
    await sink.until(lambda: bool(sink.statuses) and sink.statuses[-1][1].code == "not_found")


class Broken(SpectralModel):
    def embed_audio(self, _windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        raise ModelError("out of memory")


async def test_the_sound_of_a_removed_microphone_is_freed_at_once_though_the_model_failed(
    supervisor: Supervisor, holder: ModelHolder
) -> None:
    holder._use(Broken())
    await supervisor.apply(microphone())
    await push(supervisor.push_source("kitchen"), tone(3))
    await eventually(lambda: supervisor.snapshot("kitchen").windows_dropped > 2)
    listener = supervisor._entries["kitchen"].listener
    assert listener is not None
    assert listener._hearing._stretch is not None
    kept = weakref.ref(listener._hearing._stretch.front.ring)
    del listener
    gc.disable()
    try:
        await supervisor.remove("kitchen")
        await eventually(lambda: kept() is None)
    finally:
        gc.enable()


async def test_the_sound_of_a_removed_microphone_is_freed_at_once(
    supervisor: Supervisor, sink: RememberingSink
) -> None:
    """Without waiting for the garbage collector, which may come much later."""
    await supervisor.apply(microphone())
    await push(supervisor.push_source("kitchen"), scene(5, (3, crash())))
    await sink.until(lambda: bool(sink.started))
    listener = supervisor._entries["kitchen"].listener
    assert listener is not None
    assert listener._hearing._stretch is not None
    kept = [
        weakref.ref(listener._hearing._stretch),
        weakref.ref(listener._hearing._stretch.front.ring),
    ]
    del listener
    gc.collect()
    gc.disable()
    try:
        await supervisor.remove("kitchen")
        # The model may be at a window of it still.
        await eventually(lambda: not any(reference() for reference in kept))
    finally:
        gc.enable()


async def test_memory_is_given_back_after_a_microphone_was_removed(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, given = asyncio.get_running_loop(), asyncio.Event()
    monkeypatch.setattr(supervisor_module, "_GIVE_BACK_AFTER_S", 0.0)
    monkeypatch.setattr(supervisor_module, "give_back", lambda: loop.call_soon_threadsafe(given.set))
    await supervisor.apply(microphone())
    await supervisor.remove("kitchen")
    async with asyncio.timeout(10):
        await given.wait()
