"""Why a window did or did not become an event, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clap_server.detection.detector import PATTERN_SCORE
from clap_server.detection.everyday.rate import rate_of_score
from clap_server.detection.everyday.words import rate_words
from clap_server.detection.gate import SILENCE_DBFS
from clap_server.detection.judgement import Decision
from clap_server.detection.library import NORMAL
from clap_server.listening.diary import Fate

if TYPE_CHECKING:
    from datetime import datetime

    from clap_server.detection.judgement import Judgement, Nearer
    from clap_server.detection.labels import WatchedLabel
    from clap_server.detection.scoring import NearerText
    from clap_server.listening.diary import WindowNote


def time_of_day(at: datetime) -> str:
    """On the server's clock."""
    return f"{at.astimezone():%H:%M:%S}"


def window_words(note: WindowNote) -> str:
    """What became of a window."""
    gate, level_dbfs = note.gate, note.window.level_dbfs
    match note.fate:
        case Fate.GATED if level_dbfs <= SILENCE_DBFS:
            return "not scored: digital silence"
        case Fate.GATED:
            margin_db = gate.opens_at_dbfs - gate.floor_dbfs
            return (
                f"gated: {level_dbfs:.0f} dBFS is under the noise floor"
                f" {gate.floor_dbfs:.0f} + {margin_db:.0f} dB"
            )
        case Fate.DROPPED:
            return "not scored: the computer was too slow"
        case Fate.FAILED:
            return f"not scored: {note.problem or 'the model failed'}"
        case Fate.SCORED:
            if level_dbfs >= gate.opens_at_dbfs:
                return f"scored: {level_dbfs:.0f} dBFS is above the noise floor {gate.floor_dbfs:.0f}"
            return (
                "scored: an event is going on" if gate.reporting else "scored: something in it rises suddenly"
            )


def nearness(note: WindowNote, watched: WatchedLabel) -> tuple[int, float, float]:
    """Sorts windows by how near a label came to an event; those that were not scored by level."""
    judged = [each.rank for each in note.judgements if each.watched.label.id == watched.label.id]
    rank = max(judged, default=(-1, 0.0))[0]
    score = note.score(watched.label.id)
    return rank, -1.0 if score is None else score, note.window.level_dbfs


def nearest_words(note: WindowNote, watched: WatchedLabel) -> str:
    """What became of a label in a window, whatever became of the window."""
    label = watched.label
    for judgement in note.judgements:
        if judgement.watched.label.id == label.id:
            return judgement_words(judgement, note)
    score = note.score(label.id)
    return window_words(note) if score is None else score_words(watched, score)


def judgement_words(judgement: Judgement, note: WindowNote) -> str:
    """What decided about a label in its window."""
    watched, progress = judgement.watched, judgement.progress
    scored = _against(watched.label.names["en"], judgement.score, watched.threshold)
    if judgement.decision in {Decision.STARTED, Decision.GOING_ON} and watched.label.id in note.tested:
        return f"{scored}: found by a self-test, so nobody else is told"
    match judgement.decision:
        case Decision.STARTED:
            return f"{scored}: an event started"
        case Decision.GOING_ON:
            return f"{scored}: its event is going on"
        case Decision.OUTDONE if (nearer := judgement.nearer) is not None:
            return _outdone_words(judgement, nearer)
        case Decision.HELD_OFF if judgement.held_until_s is not None:
            until = time_of_day(note.utc(judgement.held_until_s))
            return f"{scored}: held off until {until}, after the event before"
        case Decision.UNCONFIRMED:
            return f"{scored}: heard for {progress.have:.1f} s of the {progress.need:.1f} s that are needed"
        case _:
            words = score_words(watched, judgement.score)
            text = note.nearer.get(watched.label.id)
            return words if text is None else f"{words}; {_nearer_words(text)}"


def _outdone_words(judgement: Judgement, nearer: Nearer) -> str:
    """Why the sound has another label's name."""
    name, rival = judgement.watched.label.names["en"], nearer.watched.label.names["en"]
    score, its_score = _apart(judgement.score, nearer.score)
    if nearer.score > judgement.score:
        return f"{name} {score}, but {rival} was nearer: {its_score}"
    return f"{name} {score}, but the same sound was named {rival} before: {its_score}"


def _nearer_words(found: NearerText) -> str:
    """What the window is more like."""
    cosine, its_cosine = _apart(found.label_cosine, found.cosine)
    return f"{found.text!r} was nearer: {its_cosine} against {cosine}"


def score_words(watched: WatchedLabel, score: float) -> str:
    """A score against its threshold, and what it means as one: the one place that says so."""
    name, threshold = watched.label.names["en"], watched.threshold
    if score >= PATTERN_SCORE or watched.label.id == NORMAL.id:
        return _against(name, score, threshold)
    if not watched.label.prompts:
        return f"{name}: the pattern of its beeps was not heard"
    scored, _ = _apart(score, threshold)
    rate = rate_words(rate_of_score(score))
    return f"{_against(name, score, threshold)}: at {scored} you would have {rate}"


def _against(name: str, score: float, threshold: float) -> str:
    relation = "at or above" if score >= threshold else "under"
    scored, limit = _apart(score, threshold)
    return f"{name} {scored}, {relation} its threshold {limit}"


def _apart(one: float, other: float) -> tuple[str, str]:
    """Two scores with so many digits that rounding does not make them look the same."""
    digits = next((n for n in (2, 3, 4) if f"{one:.{n}f}" != f"{other:.{n}f}"), 4)
    return f"{one:.{digits}f}", f"{other:.{digits}f}"
