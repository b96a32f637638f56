"""GET /api/microphones/{id}/explain: why a sound was, or was not, an event."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from clap_server.api.context import context, json_response
from clap_server.api.microphones import existing
from clap_server.api.present import microphone_status, score
from clap_server.api.problems import read_number
from clap_server.api.route import Parameter, Route
from clap_server.api.schemas import (
    CloseLabel,
    ExplainedLabel,
    ExplainedMoment,
    ExplainedWindow,
    Explanation,
    NearerText,
    NearestWindow,
    RuleProgress,
)
from clap_server.detection.judgement import Decision, Judgement
from clap_server.listening.diary import MEMORY_S, Fate, MomentNote, WindowNote
from clap_server.listening.words import nearest_words, time_of_day, window_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from clap_server.detection.labels import WatchedLabel
    from clap_server.listening.supervisor import MicrophoneSnapshot

DEFAULT_S = 60
# Of each window.
MOST_LABELS = 10


async def explain(request: web.Request) -> web.Response:
    """Tell what was heard and what decided, window by window."""
    shared = context(request)
    microphone_id = existing(shared, request.match_info["id"]).id
    asked = read_number(request, "seconds", 1, int(MEMORY_S))
    seconds = DEFAULT_S if asked is None else asked
    notes = shared.supervisor.notes(microphone_id, seconds)
    snapshot = shared.supervisor.snapshot(microphone_id)

    def answer() -> str:
        return explanation(microphone_id, seconds, notes, snapshot).model_dump_json()

    # In a thread: five minutes may be thousands of windows.
    return json_response(await asyncio.to_thread(answer))


def explanation(
    microphone_id: str,
    seconds: int,
    notes: Sequence[WindowNote | MomentNote],
    snapshot: MicrophoneSnapshot,
) -> Explanation:
    """Put what was noted into words."""
    windows = [note for note in notes if isinstance(note, WindowNote)]
    count = {fate: sum(note.fate is fate for note in windows) for fate in Fate}
    nearest = _nearest(windows)
    return Explanation(
        microphone_id=microphone_id,
        seconds=seconds,
        status=microphone_status(snapshot),
        conclusions=[
            *_overall(seconds, windows, snapshot),
            *(f"{time_of_day(label.at)} {label.words}" for label in nearest if label.near),
        ],
        windows_scored=count[Fate.SCORED],
        windows_gated=count[Fate.GATED],
        windows_dropped=count[Fate.DROPPED],
        windows_failed=count[Fate.FAILED],
        labels=nearest,
        moments=[
            ExplainedMoment(at=note.at, kind=note.kind, words=note.words)
            for note in notes
            if isinstance(note, MomentNote)
        ],
        windows=[_window(note) for note in windows],
    )


def _overall(seconds: int, windows: list[WindowNote], snapshot: MicrophoneSnapshot) -> list[str]:
    """What holds for all labels."""
    if not windows:
        return [f"no sound to judge came in the last {seconds} s: {snapshot.status.reason}"]
    told = []
    for fate in (Fate.GATED, Fate.DROPPED, Fate.FAILED):
        notes = [note for note in windows if note.fate is fate]
        if notes:
            loudest = max(notes, key=lambda note: note.window.level_dbfs)
            told.append(f"{len(notes)} of {len(windows)} windows {window_words(loudest)}")
    return told


def _nearest(windows: list[WindowNote]) -> list[NearestWindow]:
    """The window in which each label came nearest to an event; those that came nearest first."""
    best: dict[str, tuple[WindowNote, Judgement | None, float]] = {}
    watched: dict[str, WatchedLabel] = {}
    for note in windows:
        watched |= {each.label.id: each for each in note.watched}
        judged = {judgement.watched.label.id: judgement for judgement in note.judgements}
        for label_id in note.label_ids:
            value, judgement = note.score(label_id) or 0.0, judged.get(label_id)
            before = best.get(label_id)
            if before is None or _rank(judgement, value) > _rank(*before[1:]):
                best[label_id] = (note, judgement, value)
    order = sorted(best.items(), key=lambda item: _rank(*item[1][1:]), reverse=True)
    return [
        NearestWindow(
            at=note.ended_at,
            near=judgement is not None,
            **_label(watched[label_id], value, judgement, note).model_dump(),
        )
        for label_id, (note, judgement, value) in order
        if label_id in watched
    ]


def _rank(judgement: Judgement | None, value: float) -> tuple[int, float]:
    return (-1, value) if judgement is None else judgement.rank


def _window(note: WindowNote) -> ExplainedWindow:
    judged = {judgement.watched.label.id: judgement for judgement in note.judgements}
    labels = [
        (watched, value, judged.get(watched.label.id))
        for watched in note.watched
        if (value := note.score(watched.label.id)) is not None
    ]
    labels.sort(key=lambda label: (label[2] is not None, label[1] / label[0].threshold), reverse=True)
    return ExplainedWindow(
        started_at=note.utc(note.window.start_s),
        ended_at=note.ended_at,
        level_dbfs=round(note.window.level_dbfs, 1),
        noise_floor_dbfs=round(note.gate.floor_dbfs, 1),
        gate_opens_at_dbfs=round(note.gate.opens_at_dbfs, 1),
        onset_at=None if note.window.onset_s is None else note.utc(note.window.onset_s),
        outcome=note.fate,
        words=window_words(note),
        labels=[_label(*label, note) for label in labels[:MOST_LABELS]],
    )


def _label(
    watched: WatchedLabel, value: float, judgement: Judgement | None, note: WindowNote
) -> ExplainedLabel:
    progress = held_until = nearer = None
    if judgement is not None:
        made = judgement.progress
        progress = RuleProgress(have=round(made.have, 3), need=round(made.need, 3), unit=made.unit)
        if judgement.held_until_s is not None:
            held_until = note.utc(judgement.held_until_s)
        if judgement.nearer is not None:
            nearer = CloseLabel(label=judgement.nearer.watched.label.id, score=score(judgement.nearer.score))
    return ExplainedLabel(
        label_id=watched.label.id,
        name=watched.label.names["en"],
        score=score(value),
        threshold=watched.threshold,
        decision=Decision.UNDER_THRESHOLD if judgement is None else judgement.decision,
        progress=progress,
        held_until=held_until,
        words=nearest_words(note, watched),
        nearer=nearer,
        nearer_text=_nearer_text(note, watched),
    )


def _nearer_text(note: WindowNote, watched: WatchedLabel) -> NearerText | None:
    found = note.nearer.get(watched.label.id)
    if found is None:
        return None
    return NearerText(
        text=found.text, cosine=round(found.cosine, 3), label_cosine=round(found.label_cosine, 3)
    )


ROUTES = (
    Route(
        "GET",
        "/api/microphones/{id}/explain",
        explain,
        "Why it did, or did not, fire",
        "Microphones",
        description=(
            "What was heard in the last seconds, window by window: level, noise floor and gate, the best"
            " scores against their thresholds, and what decided, in words. The last five minutes are kept,"
            " in memory only, and none of the sound."
        ),
        answer=Explanation,
        query=(
            Parameter(
                "seconds",
                {"type": "integer", "minimum": 1, "maximum": int(MEMORY_S), "default": DEFAULT_S},
                "how far back",
            ),
        ),
        errors=(404, 422),
    ),
)
