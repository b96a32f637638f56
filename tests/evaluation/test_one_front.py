"""A recording is heard alike by live listening, evaluation, and whoever asks for the scores of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_evaluation.detecting import detect
from clap_evaluation.streaming import score_recording
from clap_server.api.present import classification
from clap_server.detection.classify import classify
from clap_server.detection.detector import Detector
from clap_server.detection.labels import WatchedLabel
from clap_server.detection.recording import judge
from clap_server.detection.scoring import LabelScorer
from tests.server.listening.rig import LIBRARY, MORNING, ArraySource, Rig, eventually
from tests.server.listening.spectral import SpectralModel, crash, scene, tone
from tests.server.listening.test_alarm_patterns import t3

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from clap_server.audio.block import AudioBlock

LABELS = [LIBRARY.resolve("glass_breaking"), LIBRARY.resolve("alarm")]
# Long enough for the gate to learn the room, and with an alarm that it would take for the room.
SCENE = scene(70, (16.3, crash()), (20.0, tone(30)), (61.0, crash()))


class PacedSource(ArraySource):
    """Sends a block when all before it is judged, as if the model took no time."""

    rig: Rig

    async def blocks(self, sample_rate: int) -> AsyncIterator[AudioBlock]:
        async for block in super().blocks(sample_rate):
            yield block
            await eventually(self._is_judged)

    def _is_judged(self) -> bool:
        listener = self.rig.listener
        return not listener._judging._queue.qsize() and all(
            future.done() for future in listener._hearing._under_way
        )


@pytest.mark.parametrize("block_s", [0.02, 0.37])
async def test_a_recording_gets_the_scores_of_live_sound_everywhere(tmp_path: Path, block_s: float) -> None:
    source = PacedSource(SCENE, block_s=block_s)
    rig = source.rig = Rig(source, tmp_path)
    async with rig.running():
        await rig.until_heard(69.5)
        await eventually(lambda: len(rig.sink.levels) >= 70)
    live = {round(at.timestamp() - MORNING, 2): scores for _, at, scores in rig.sink.all_scores if scores}

    model = SpectralModel()
    scorer = LabelScorer(model, LABELS, LIBRARY.background)
    scored = score_recording(model, scorer, SCENE, hop_s=0.5)
    watched = [WatchedLabel(label, label.threshold) for label in LABELS]
    rows = [dict(zip(scored.label_ids, row, strict=True)) for row in scored.scores.tolist()]
    judged = judge(scored.windows(), rows, Detector(watched, hop_s=0.5))
    evaluated = {
        round(end_s, 2): row
        for end_s, row, (admitted, _) in zip(scored.ends_s, rows, judged, strict=True)
        if admitted
    }
    assert 40 < len(evaluated) < len(rows) - 20
    assert live.keys() == evaluated.keys()
    for end_s, row in evaluated.items():
        assert live[end_s] == pytest.approx(row, abs=1e-5)
    assert len(detect(scored, watched)) == len(rig.sink.started) == 3

    found = classify(model, LIBRARY, np.array_split(SCENE, 7), ["glass_breaking", "alarm"])
    answer = classification(found, 0.5, dict.fromkeys(found.best, "in words"))
    assert [window.end_s for window in answer.windows] == pytest.approx(scored.ends_s, abs=1e-3)
    asked = {round(window.end_s, 2): window.scores for window in answer.windows if not window.gated}
    assert asked.keys() == evaluated.keys()
    for end_s, row in evaluated.items():
        assert asked[end_s] == pytest.approx(row, abs=1e-5)
    assert all(set(window.scores.values()) == {0} for window in answer.windows if window.gated)


@pytest.mark.parametrize("block_s", [0.02, 0.37])
async def test_an_alarm_is_decoded_alike_live_and_in_a_recording(tmp_path: Path, block_s: float) -> None:
    samples = scene(40, (3.0, t3(5)), (28.3, crash()))
    source = PacedSource(samples, block_s=block_s)
    rig = source.rig = Rig(source, tmp_path)
    rig.listen_for("smoke alarm", "glass breaking")
    async with rig.running():
        await rig.until_heard(40)
        await rig.sink.until(lambda: len(rig.sink.ended) == 2)

    model = SpectralModel()
    labels = LIBRARY.resolve_all(["smoke_alarm", "glass_breaking"])
    watched = [WatchedLabel(label, label.threshold) for label in labels]
    scorer = LabelScorer(model, labels, LIBRARY.background)
    found = detect(score_recording(model, scorer, samples, hop_s=0.5), watched)
    live = [event for event, _ in rig.sink.ended]
    assert [(each.watched.label.id, each.pattern, each.score) for each in found] == [
        (event.label_id, event.pattern, event.score) for event in live
    ]
    assert [each.onset_s for each in found] == pytest.approx(
        [event.started_at.timestamp() - MORNING for event in live], abs=0.001
    )
    assert [event.pattern for event in live] == ["T3", None]

    (decoded,) = classify(model, LIBRARY, np.array_split(samples, 7), ["smoke_alarm"]).patterns
    assert decoded.onset_s == pytest.approx(found[0].onset_s)
    assert decoded.known_s == pytest.approx(found[0].detected_s)
