"""GET /api/microphones/{id}/calibration: what thresholds mean in this room."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from clap_server.api.context import context, json_response
from clap_server.api.microphones import existing
from clap_server.api.present import found_in_tests, watched_labels
from clap_server.api.problems import read_decimal
from clap_server.api.route import Parameter, Route
from clap_server.api.schemas import (
    CalibratedLabel,
    Calibration,
    CountedHere,
    CurvePoint,
    EverydayInfo,
    RoomHeard,
)
from clap_server.detection.everyday.counted import reached
from clap_server.detection.everyday.found import found_by
from clap_server.detection.everyday.rate import rate_of_score, score_of_rate
from clap_server.detection.everyday.words import count_words
from clap_server.errors import ModelError
from clap_server.listening.room.hours import Hours
from clap_server.listening.room.sound import LEAST_KEPT_S
from clap_server.listening.shared_model import run_aside

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from clap_server.api.schemas import WatchedLabelInfo
    from clap_server.detection.everyday.counted import Reached
    from clap_server.detection.everyday.found import FoundScores
    from clap_server.detection.labels import WatchedLabel
    from clap_server.listening.room.room import Room
    from clap_server.listening.scoring import Scoring

THRESHOLDS = tuple(percent / 100 for percent in range(30, 100, 5))
_LEAST_PER_DAY, _MOST_PER_DAY = 0.01, 1000.0
_HOUR_S = 3600.0


async def calibration(request: web.Request) -> web.Response:
    """Tell what thresholds promise, what was counted here, and what they found in tests."""
    shared = context(request)
    microphone = existing(shared, request.match_info["id"])
    microphone_id = microphone.id
    per_day = read_decimal(request, "per_day", _LEAST_PER_DAY, _MOST_PER_DAY)
    snapshot = shared.supervisor.snapshot(microphone_id)
    try:
        scoring, no_scores = shared.supervisor.scoring(microphone_id), None
    except ModelError:
        scoring, no_scores = None, "the labels are being prepared: ask again in a moment"
    if scoring is None and no_scores is None:
        no_scores = f"the microphone does not listen: {snapshot.status.reason}"
    model = shared.holder.model
    counted: dict[str, Reached] = {}
    if scoring is not None and (bank := scoring.room.bank_of(scoring.model)) is not None:
        scorer, labels = scoring.scorer, [watched.label for watched in snapshot.labels]
        a_day = scoring.room.sounding_hours
        counted = await run_aside(
            scoring.model, shared.supervisor.batcher, lambda _: reached(scorer, labels, bank, a_day)
        )
    found, bank_of_all = found_by(model), model.everyday

    def answer() -> str:
        return Calibration(
            microphone_id=microphone_id,
            model=model.name,
            everyday=None
            if bank_of_all is None
            else EverydayInfo(hours=round(bank_of_all.hours, 3), sources=bank_of_all.sources),
            room=_room(shared.supervisor.room(microphone_id), scoring, no_scores),
            labels=[
                _label(watched, info, counted, found, per_day)
                for watched, info in zip(
                    snapshot.labels,
                    watched_labels(
                        snapshot.labels,
                        microphone.settings,
                        model,
                        None if scoring is None else scoring.scorer,
                        least_hop_s=shared.holder.least_hop_s,
                    ),
                    strict=True,
                )
            ],
        ).model_dump_json()

    # In a thread: there may be 200 labels.
    return json_response(await asyncio.to_thread(answer))


def _room(room: Room | None, scoring: Scoring | None, no_scores: str | None) -> RoomHeard:
    hours, kept_hours = (Hours(), 0.0) if room is None else (room.hours, room.kept_hours)
    reason = no_scores
    if scoring is not None and scoring.room.bank_of(scoring.model) is None:
        reason = (
            f"too little was heard here: {60 * kept_hours:.0f} minutes of sound above the noise floor, of the"
            f" {LEAST_KEPT_S / 60:.0f} that are needed (counted once an hour)"
        )
    return RoomHeard(
        heard_hours=round(hours.heard_hours, 3),
        sounding_hours=round(hours.sounding_hours, 3),
        sounding_hours_a_day=round(hours.a_day, 3),
        sounding_hours_known=hours.known,
        kept_hours=round(kept_hours, 3),
        needed_hours=round(LEAST_KEPT_S / _HOUR_S, 3),
        counts=reason is None,
        reason=reason,
    )


def _label(
    watched: WatchedLabel,
    info: WatchedLabelInfo,
    counted: Mapping[str, Reached],
    found: Mapping[str, FoundScores],
    per_day: float | None,
) -> CalibratedLabel:
    label, here = watched.label, counted.get(watched.label.id)

    def point(threshold: float) -> CurvePoint:
        return CurvePoint(
            threshold=threshold,
            false_alarms_per_day=rate_of_score(threshold),
            counted=None if here is None else _counted(here, threshold),
            found=None if info.found_unknown else found_in_tests(found, label.id, threshold),
        )

    words = info.meaning
    if here is not None:
        words += f"; {count_words(watched.threshold, here.at(watched.threshold), here.hours)}"
    scored = bool(label.prompts)
    wished = None if per_day is None else round(float(score_of_rate(np.array(per_day))), 2)
    return CalibratedLabel(
        label_id=label.id,
        name=label.names["en"],
        threshold=watched.threshold,
        meaning=words,
        found_unknown=info.found_unknown,
        present=point(watched.threshold) if scored else None,
        wished=point(wished) if scored and wished is not None else None,
        curve=[point(threshold) for threshold in THRESHOLDS] if scored else [],
    )


def _counted(here: Reached, threshold: float) -> CountedHere:
    count = here.at(threshold)
    return CountedHere(events=count.events, per_day=count.per_day, low=count.low, high=count.high)


ROUTES = (
    Route(
        "GET",
        "/api/microphones/{id}/calibration",
        calibration,
        "What thresholds mean in this room",
        "Microphones",
        description=(
            "For each label what thresholds promise (by definition: 0.7 is one false alarm a day, 0.5 about"
            " one an hour, 0.9 about one a month), what was counted in the room's own everyday sound of the"
            " last two weeks, with exact 95 % bounds, and what share of real events they found in tests"
            " (not where the microphone differs from those: negatives, noise suppression, another hop,"
            " reported false alarms; `found_unknown` says which)."
            " The room's sound has had its part in the scores, so the count is no test of them on something"
            " new. While too little was heard here, or the labels are being prepared, `room.reason` says so"
            " and nothing is counted; the promise holds all the same, by the everyday sound that came with"
            " the model. No sound is kept for this, only embeddings, and none of those is told."
        ),
        answer=Calibration,
        query=(
            Parameter(
                "per_day",
                {"type": "number", "minimum": _LEAST_PER_DAY, "maximum": _MOST_PER_DAY},
                "a rate of false alarms a day that you would accept: `wished` says the threshold for it",
            ),
        ),
        errors=(404, 422),
    ),
)
