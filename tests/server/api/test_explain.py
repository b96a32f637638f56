"""GET /api/microphones/{id}/explain says in words why it did or did not fire."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from clap_server.api.explain import explanation
from clap_server.audio.push import PushFormat
from clap_server.detection.detector import Detector
from clap_server.detection.judgement import Decision
from clap_server.detection.labels import WatchedLabel
from clap_server.detection.library import load_library
from clap_server.detection.scoring import LabelScorer
from clap_server.detection.windows import Window
from clap_server.listening.condition import STARTING
from clap_server.listening.diary import Fate, GateView, WindowNote
from clap_server.listening.judging import texts_nearer
from clap_server.listening.supervisor import MicrophoneSnapshot
from tests.server.listening.spectral import RATE, SpectralModel, crash, scene, tone
from tests.support.waiting import until

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.support.running_server import Client

PUSHED = {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": "glass breaking"}]}


async def push(client: Client, samples: NDArray[np.float32]) -> None:
    supervisor = client.server.context.supervisor
    pusher = supervisor.push_source("hall").connect(PushFormat("f32le", RATE))
    for start in range(0, len(samples), RATE // 2):
        pusher.feed(samples[start : start + RATE // 2].tobytes())
        await until(lambda: not supervisor.push_source("hall")._queue)


async def test_it_tells_window_by_window_what_decided(client: Client) -> None:
    await client.json("PUT", "/api/microphones/hall", status=201, json=PUSHED)
    await push(client, scene(30, (24, crash())))
    supervisor = client.server.context.supervisor

    def judged(fate: Fate) -> int:
        notes = supervisor.notes("hall", 300)
        return sum(isinstance(note, WindowNote) and note.fate is fate for note in notes)

    await until(lambda: judged(Fate.SCORED) + judged(Fate.GATED) >= 61)
    before = judged(Fate.SCORED), judged(Fate.GATED)
    answer: dict[str, Any] = await client.json("GET", "/api/microphones/hall/explain?seconds=300")
    assert answer["microphone_id"] == "hall"
    assert answer["status"]["code"] == "listening"
    # The last window may be judged meanwhile.
    assert before[0] <= answer["windows_scored"] <= judged(Fate.SCORED)
    assert before[1] <= answer["windows_gated"] <= judged(Fate.GATED)
    assert len(answer["windows"]) == answer["windows_scored"] + answer["windows_gated"]
    gated, glass = answer["conclusions"]
    assert f"{answer['windows_gated']} of {len(answer['windows'])} windows gated: " in gated
    assert "dBFS is under the noise floor" in gated
    assert "Glass breaking" in glass
    assert glass.endswith("at or above its threshold 0.70: an event started")
    (label,) = answer["labels"]
    assert label["decision"] == "started"
    assert label["progress"] == {"have": 1, "need": 1, "unit": "windows"}
    window = next(each for each in answer["windows"] if each["ended_at"] == label["at"])
    assert window["labels"] == [{key: label[key] for key in window["labels"][0]}]
    assert window["level_dbfs"] > window["gate_opens_at_dbfs"] > window["noise_floor_dbfs"]
    assert window["onset_at"] is not None
    assert "waiting for the client" in " ".join(each["words"] for each in answer["moments"])


async def test_a_microphone_without_sound_says_why(client: Client) -> None:
    await client.json("PUT", "/api/microphones/hall", status=201, json=PUSHED)
    await until(lambda: client.server.context.supervisor.snapshot("hall").status.code == "waiting_for_client")
    answer = await client.json("GET", "/api/microphones/hall/explain")
    assert answer["seconds"] == 60
    assert answer["windows"] == answer["labels"] == []
    assert answer["conclusions"] == [
        "no sound to judge came in the last 60 s: waiting for the client to send sound"
    ]
    at = datetime.fromisoformat(answer["moments"][-1]["at"])
    assert datetime.now(UTC) - at < timedelta(minutes=1)


def test_a_label_that_lost_says_to_which() -> None:
    library = load_library()
    watched = tuple(WatchedLabel(library.resolve(id_), 0.7) for id_ in ("metal_impact", "glass_breaking"))
    scores = {"metal_impact": 0.81, "glass_breaking": 0.86}
    window = Window(8.0, 10.0, -20.0, 9.8, (), (9.8,))
    detector = Detector(watched, hop_s=0.5)
    detector.update(window, scores)
    note = WindowNote(
        window,
        datetime.now(UTC),
        GateView(-60.0, -54.0, reporting=False),
        Fate.SCORED,
        watched,
        tuple(scores),
        np.array([*scores.values()], np.float32),
        tuple(detector.judgements(window, scores)),
    )
    snapshot = MicrophoneSnapshot(STARTING, datetime.now(UTC), watched, frozenset(), 1, 0, 0)
    answer = explanation("hall", 60, [note], snapshot)
    glass, metal = answer.labels
    assert (glass.decision, glass.nearer) == ("started", None)
    assert (metal.decision, metal.near) == ("outdone", True)
    assert metal.nearer is not None
    assert (metal.nearer.label, metal.nearer.score) == ("glass_breaking", 0.86)
    assert metal.words == "Metal impact 0.81, but Glass breaking was nearer: 0.86"
    assert any(sentence.endswith(metal.words) for sentence in answer.conclusions)


def test_a_label_that_stayed_under_says_what_was_nearer() -> None:
    library, model = load_library(), SpectralModel()
    watched = (WatchedLabel(library.resolve("glass_breaking"), 0.9),)
    negative = "an alarm clock"
    scorer = LabelScorer(model, [watched[0].label], library.background, [negative])
    both = model.embed_text(["breaking glass", negative])
    embedding = (both[0] + 1.1 * both[1]) / np.linalg.norm(both[0] + 1.1 * both[1])
    window = Window(8.0, 10.0, -20.0, 9.8, (), (9.8,))
    scores = {"glass_breaking": 0.6}
    detector = Detector(watched, hop_s=0.5)
    detector.update(window, scores)
    judgements = tuple(detector.judgements(window, scores))
    nearer = texts_nearer(scorer, embedding, judgements)
    note = WindowNote(
        window,
        datetime.now(UTC),
        GateView(-60.0, -54.0, reporting=False),
        Fate.SCORED,
        watched,
        tuple(scores),
        np.array([*scores.values()], np.float32),
        judgements,
        nearer=nearer,
    )
    snapshot = MicrophoneSnapshot(STARTING, datetime.now(UTC), watched, frozenset(), 1, 0, 0)
    (glass,) = explanation("hall", 60, [note], snapshot).labels
    assert glass.nearer_text is not None
    assert (glass.nearer_text.text, glass.nearer_text.cosine) == (negative, 0.74)
    assert glass.nearer_text.label_cosine == 0.673
    assert glass.words.endswith("; 'an alarm clock' was nearer: 0.74 against 0.67")
    found = texts_nearer(scorer, both[0], judgements)
    assert found == {}
    for decision in set(Decision) - {Decision.UNDER_THRESHOLD}:
        reached = [replace(judgement, decision=decision) for judgement in judgements]
        assert texts_nearer(scorer, embedding, reached) == {}, decision


async def test_a_negative_that_was_nearer_is_told_of_the_windows_of_a_stream(client: Client) -> None:
    negative = "an alarm clock"
    labels = [{"label": "glass breaking", "threshold": 0.3}, {"label": "siren", "threshold": 0.9}]
    settings = PUSHED | {"labels": labels, "negatives": [negative]}
    await client.json("PUT", "/api/microphones/hall", status=201, json=settings)
    await push(client, scene(30, (24, crash()), (24, 0.37 * tone(0.3))))
    supervisor = client.server.context.supervisor
    await until(lambda: sum(isinstance(note, WindowNote) for note in supervisor.notes("hall", 300)) >= 61)
    answer = await client.json("GET", "/api/microphones/hall/explain?seconds=300")
    told = [label for window in answer["windows"] for label in window["labels"] if label["nearer_text"]]
    assert {label["label_id"] for label in told} == {"glass_breaking"}, "siren did not come near"
    for label in told:
        assert (label["decision"], label["nearer_text"]["text"]) == ("under_threshold", negative)
        assert 0.15 <= label["score"] < 0.3
        assert label["nearer_text"]["cosine"] > label["nearer_text"]["label_cosine"]
        assert f"; '{negative}' was nearer: " in label["words"]


@pytest.mark.parametrize("seconds", ["0", "301", "x", "1.5", ""])
async def test_a_time_that_is_not_kept_is_refused(client: Client, seconds: str) -> None:
    await client.json("PUT", "/api/microphones/hall", status=201, json=PUSHED)
    problem = await client.json("GET", f"/api/microphones/hall/explain?seconds={seconds}", status=422)
    assert "seconds: must be a whole number from 1 to 300" in problem["detail"]


async def test_a_microphone_that_is_not_there_is_told(client: Client) -> None:
    problem = await client.json("GET", "/api/microphones/hall/explain", status=404)
    assert problem["type"] == "/problems/no_such_microphone"
