"""One bang is one event, from the sound to what is told, and two bangs are two."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.detection.judgement import Decision, Judgement, Nearer, Progress
from clap_server.detection.labels import WatchedLabel
from clap_server.detection.windows import Window
from clap_server.listening.diary import Fate, GateView, WindowNote
from clap_server.listening.words import judgement_words, nearest_words
from tests.server.listening.rig import LIBRARY, MORNING, ArraySource, Rig
from tests.server.listening.spectral import GLASS_BANDS, SpectralModel, crash, everyday_noise, scene

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class MetallicModel(SpectralModel):
    """Takes a break for a blow on metal as well, of which there is more in everyday sound."""

    def __init__(self) -> None:
        super().__init__()
        self.everyday = everyday_noise(0.06, of_glass=9)

    def _read(self, text: str) -> NDArray[np.float32]:
        if text not in LIBRARY.resolve("metal impact").prompts:
            return super()._read(text)
        vector = np.zeros(self.dimension, np.float32)
        vector[GLASS_BANDS] = 1
        vector[0] = 0.5
        return vector / np.linalg.norm(vector)


async def test_one_bang_that_two_labels_heard_is_one_event(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(14, (5, crash()))), tmp_path, model=MetallicModel())
    rig.listen_for("metal impact", "glass breaking")
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.ended))
        await rig.until_heard(14)
    (started,) = rig.sink.started
    ((ended, _),) = rig.sink.ended
    assert started.label_id == "glass_breaking"
    assert [close.label for close in ended.close] == ["metal_impact"]
    assert 0.6 < ended.close[0].score < ended.peak_score
    assert ended.replaced_by is None
    metal = WatchedLabel(LIBRARY.resolve("metal impact"), 0.7)
    words = {
        nearest_words(noted, metal)
        for noted in rig.diary.last(60)
        if isinstance(noted, WindowNote) and noted.fate is Fate.SCORED
    }
    assert any("but Glass breaking was nearer: " in sentence for sentence in words)


async def test_alone_the_label_that_comes_second_is_an_event(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(14, (5, crash()))), tmp_path, model=MetallicModel())
    rig.listen_for("metal impact")
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.ended))
    (started,) = rig.sink.started
    assert (started.label_id, started.close) == ("metal_impact", ())


async def test_two_breaks_within_the_time_of_one_event_are_two(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(18, (5, crash()), (8, crash()))), tmp_path)
    async with rig.running():
        await rig.sink.until(lambda: len(rig.sink.ended) == 2)
        await rig.until_heard(18)
        await rig.sink.until(lambda: bool(rig.sink.clips))
    begun = [event.started_at.timestamp() - MORNING for event in rig.sink.started]
    assert begun == pytest.approx([5, 8], abs=0.05)
    (first, _), (second, _) = rig.sink.ended
    assert first.ended_at == second.started_at
    # The second began before the first one's post-roll had come.
    ((recorded, recording),) = rig.sink.clips
    assert (recorded.id, recording is not None) == (first.id, True)
    assert first.id != second.id


async def test_the_level_of_an_event_is_told_with_the_noise_that_was_before_it(tmp_path: Path) -> None:
    rig = Rig(ArraySource(scene(24, (15, crash()))), tmp_path)
    async with rig.running():
        await rig.sink.until(lambda: bool(rig.sink.ended))
    ((event, _),) = rig.sink.ended
    assert event.noise_floor_dbfs == pytest.approx(-60, abs=1)
    assert event.group is None, "the server has not put it into one"


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (0.81, "Metal impact 0.81, but Glass breaking was nearer: 0.86"),
        (0.856, "Metal impact 0.856, but Glass breaking was nearer: 0.860"),
        (0.9, "Metal impact 0.90, but the same sound was named Glass breaking before: 0.86"),
    ],
)
def test_why_a_label_lost_is_said_in_words(score: float, words: str) -> None:
    metal, glass = (WatchedLabel(LIBRARY.resolve(text), 0.7) for text in ("metal impact", "glass breaking"))
    judgement = Judgement(
        metal, score, Decision.OUTDONE, Progress(2, 2, "windows"), nearer=Nearer(glass, 0.86)
    )
    window = Window(8.0, 10.0, -20.0, 9.8)
    note = WindowNote(window, datetime.now(UTC), GateView(-60.0, -54.0, False), Fate.SCORED, (metal, glass))
    assert judgement_words(judgement, note) == words
