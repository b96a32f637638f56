"""From the server's own objects to what crosses the wire."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from typing import TYPE_CHECKING

from clap_server import __version__
from clap_server.api.schemas import (
    Classification,
    CloseLabel,
    EngineInfo,
    EventGroupInfo,
    EventInfo,
    FoundInTests,
    HeardAtMicrophone,
    LabelInfo,
    LabelScore,
    Lowered,
    MicrophoneInfo,
    MicrophoneStatus,
    ModelInfo,
    PatternFound,
    ServerInfo,
    StorageInfo,
    WatchedLabelInfo,
    WindowScores,
)
from clap_server.audio.url import redact_url
from clap_server.detection.everyday.enough import is_guessed
from clap_server.detection.everyday.found import found_by, is_lowered
from clap_server.detection.everyday.rate import SCORE_OF_ONE_A_DAY, rate_of_score
from clap_server.detection.everyday.unknown import why_unknown
from clap_server.detection.everyday.words import promise_words
from clap_server.detection.library import NORMAL
from clap_server.detection.patterns import RAISED_BY
from clap_server.listening.config import UrlSourceSettings

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from clap_server.api.context import Context
    from clap_server.clap.model import ClapModel
    from clap_server.detection.classify import FileScores, Normalize
    from clap_server.detection.everyday.found import FoundScores
    from clap_server.detection.everyday.unknown import Unknown
    from clap_server.detection.labels import Label, WatchedLabel
    from clap_server.detection.library import LabelLibrary
    from clap_server.detection.scoring import LabelScorer
    from clap_server.listening.config import Microphone, MicrophoneSettings, SourceSettings
    from clap_server.listening.events import EventGroup
    from clap_server.listening.supervisor import MicrophoneSnapshot
    from clap_server.store.events import StoredEvent


def score(value: float) -> float:
    """A score within 0..1, whatever rounding did to it."""
    return min(1.0, max(0.0, float(value)))


def classification(found: FileScores, threshold: float, meanings: Mapping[str, str]) -> Classification:
    """What was found in a recording, labels sorted by score.

    Args:
        found: in it.
        threshold: from which a label counts as detected.
        meanings: of the threshold, by label.
    """
    best = {label: round(score(value), 6) for label, value in found.best.items()}
    top_label = next(iter(best))
    return Classification(
        top_label=top_label,
        top_score=best[top_label],
        labels=[
            LabelScore(label=label, score=value, detected=value >= threshold, meaning=meanings[label])
            for label, value in best.items()
        ],
        threshold=threshold,
        duration_s=round(found.duration_s, 3),
        windows=[
            WindowScores(
                start_s=round(window.start_s, 3),
                end_s=round(window.end_s, 3),
                scores={label: round(score(value), 6) for label, value in window.scores.items()},
                gated=window.gated,
            )
            for window in found.windows
        ],
        too_quiet=found.too_quiet,
        patterns=[
            PatternFound(
                pattern=alarm.pattern,
                label=RAISED_BY[alarm.pattern][0],
                onset_s=round(alarm.onset_s, 2),
                carrier_hz=round(alarm.carrier_hz),
            )
            for alarm in found.patterns
        ],
    )


def problem_codes(context: Context) -> list[str]:
    """What is wrong with the server as a whole, in words that a stranger may read."""
    trouble = context.store.trouble
    codes: list[str] = [trouble.code] if trouble is not None else []
    if context.ready and context.holder.problem is not None:
        codes.append("model")
    return codes


def server_info(context: Context) -> ServerInfo:
    """Who the server is."""
    holder = context.holder
    model = holder.model
    trouble = context.store.trouble
    return ServerInfo(
        server_id=context.store.server_id,
        version=__version__,
        model=ModelInfo(
            name=model.name,
            requested=holder.requested,
            builtin=model.builtin,
            device=model.device,
            dtype=model.dtype,
            sample_rate=model.sample_rate,
            window_s=model.window_s,
            problem=holder.problem,
            choice=holder.choice,
            least_hop_s=holder.least_hop_s,
            engine=getattr(model, "engine", "torch"),
            engines=[
                EngineInfo(
                    name=trial.engine,
                    ms_a_window=trial.ms_a_window,
                    cosine=trial.cosine,
                    problem=trial.problem,
                )
                for trial in getattr(model, "engine_trials", ())
            ],
        ),
        label_library_version=context.library.version,
        last_sequence=context.bus.last_sequence,
        overload=context.supervisor.overload,
        epoch=context.store.events.epoch,
        storage=StorageInfo(
            problem=trouble.problem if trouble is not None else None,
            code=trouble.code if trouble is not None else None,
        ),
    )


def found_in_tests(found: Mapping[str, FoundScores], label_id: str, threshold: float) -> FoundInTests | None:
    """What a threshold found of a label, as far as it is known."""
    if label_id not in found:
        return None
    share = found[label_id].at(threshold)
    return FoundInTests(
        found=share.found, events=share.events, share=share.share, low=share.low, high=share.high
    )


def promised(label: Label, threshold: float) -> float | None:
    """False alarms a day; None for a label that is told by its pattern alone."""
    return rate_of_score(threshold) if label.prompts else None


def meaning(
    label: Label,
    threshold: float,
    found: Mapping[str, FoundScores],
    unknown: Unknown | None,
    *,
    alone: bool = False,
    guessed: bool = False,
) -> str:
    """What a threshold buys, in words.

    Args:
        label: with the threshold.
        threshold: 0 to 1.
        found: by the model in tests.
        unknown: why they say nothing of it.
        alone: nothing that the model scores is watched beside it.
        guessed: everyday sound says too little of the label.
    """
    if label.id == NORMAL.id:
        others = "the library's security sounds leave" if alone else "all other labels leave"
        why = ", as no sound is watched beside it" if alone else ""
        return f"what {others}{why}: 1 less the highest of their scores"
    if not label.prompts:
        return "told by the pattern of its beeps alone, whatever the threshold"
    words = [promise_words(threshold)]
    if guessed:
        words.append("not known yet: guessed, as too little everyday sound is known")
    if label.lowered_because is not None and threshold == label.threshold:
        words.append(label.lowered_because)
    else:
        words.append(unknown.words if unknown else found[label.id].at(threshold).words)
    return "; ".join(words)


def meanings_of(
    texts: Sequence[str],
    library: LabelLibrary,
    model: ClapModel,
    threshold: float,
    normalize: Normalize | None = None,
) -> dict[str, str]:
    """What one threshold buys for each of the labels that a recording is scored for, in words."""
    if normalize is not None:
        return dict.fromkeys(texts, "a share of what all these labels have together, which promises nothing")
    found = found_by(model)
    labels = {text: library.resolve(text) for text in texts}
    alone = not any(label.prompts for label in labels.values())
    return {
        text: meaning(
            label,
            threshold,
            found,
            why_unknown(label, found),
            alone=alone,
            guessed=is_guessed(model, label),
        )
        for text, label in labels.items()
    }


def lowered(label: Label, threshold: float, found: Mapping[str, FoundScores]) -> Lowered | None:
    """Why a default is under 0.7; None where it is not, or where another threshold was chosen."""
    if threshold != label.threshold:
        return None
    if label.lowered_because is not None:
        return Lowered(found=None, words=label.lowered_because)
    if not is_lowered(label, found):
        return None
    there = found_in_tests(found, label.id, SCORE_OF_ONE_A_DAY)
    if there is None:
        words = "the default is under 0.7, one false alarm a day, so that less is missed"
    else:
        share = found[label.id].at(SCORE_OF_ONE_A_DAY).words
        words = f"the default is under 0.7, one false alarm a day, because there it {share}"
    return Lowered(found=there, words=words)


def label_info(label: Label, model: ClapModel) -> LabelInfo:
    """A label of the library, or a taught one, with what its default threshold means with a model."""
    found = found_by(model)
    unknown, guessed = why_unknown(label, found), bool(label.prompts) and is_guessed(model, label)
    return LabelInfo(
        id=label.id,
        names=dict(label.names),
        prompts=list(label.prompts),
        negatives=list(label.negatives),
        kind=label.kind,
        threshold=label.threshold,
        icon=label.icon,
        library=label.library,
        rivals=label.rivals,
        false_alarms_per_day=promised(label, label.threshold),
        found=None if unknown else found_in_tests(found, label.id, label.threshold),
        found_unknown=unknown if label.prompts else None,
        guessed=guessed,
        lowered=lowered(label, label.threshold, found),
        meaning=meaning(label, label.threshold, found, unknown, guessed=guessed),
        taught=label.taught is not None,
    )


def redacted(source: SourceSettings) -> SourceSettings:
    """A source without its secrets."""
    if isinstance(source, UrlSourceSettings):
        return source.model_copy(update={"url": redact_url(source.url)})
    return source


def microphone_info(context: Context, microphone: Microphone) -> MicrophoneInfo:
    """A microphone as it is now."""
    settings = microphone.settings
    snapshot = context.supervisor.snapshot(microphone.id)
    scorer, model = context.supervisor.scorer(microphone.id), context.holder.model
    return MicrophoneInfo(
        id=microphone.id,
        name=settings.name,
        source=redacted(settings.source),
        labels=watched_labels(
            snapshot.labels,
            settings,
            model,
            scorer,
            snapshot.active,
            least_hop_s=context.holder.least_hop_s,
        ),
        negatives=list(settings.negatives),
        hop_s=settings.hop_s,
        enabled=settings.enabled,
        muted=context.store.microphones.is_muted(microphone.id),
        recording=settings.recording,
        denoise=settings.denoise,
        owner=settings.owner,
        adopted=context.store.microphones.is_adopted(microphone.id),
        status=microphone_status(snapshot),
        windows_scored=snapshot.windows_scored,
        windows_gated=snapshot.windows_gated,
        windows_dropped=snapshot.windows_dropped,
    )


def microphone_status(snapshot: MicrophoneSnapshot) -> MicrophoneStatus:
    """How a microphone is."""
    status = snapshot.status
    return MicrophoneStatus(
        state=status.state,
        code=status.code,
        reason=status.reason,
        since=snapshot.since,
        notice=status.notice,
    )


def _guesses(label: Label, model: ClapModel, scorer: LabelScorer | None) -> bool:
    """Whether it is only guessed what a label's scores mean; a scorer of the label knows it best."""
    if scorer is not None and label.id in scorer.label_ids:
        return label.id in scorer.guessed
    return is_guessed(model, label)


def watched_labels(
    labels: Collection[WatchedLabel],
    settings: MicrophoneSettings,
    model: ClapModel,
    scorer: LabelScorer | None = None,
    active: Collection[str] = (),
    *,
    least_hop_s: float = 0.0,
) -> list[WatchedLabelInfo]:
    """Labels of a microphone with their thresholds.

    Args:
        labels: that it watches.
        settings: of the microphone.
        model: that runs.
        scorer: of the microphone, if there is one.
        active: ids of the labels of which an event is going on.
        least_hop_s: between the windows of any microphone, for the model's sake.
    """
    found = found_by(model)
    alone = not any(watched.label.prompts for watched in labels)
    infos = []
    for watched in labels:
        label, threshold = watched.label, watched.threshold
        unknown = why_unknown(
            label,
            found,
            negatives=bool(settings.negatives),
            denoise=settings.denoise,
            hop_s=max(settings.hop_s, least_hop_s),
        )
        guessed = bool(label.prompts) and _guesses(label, model, scorer)
        infos.append(
            WatchedLabelInfo(
                id=label.id,
                name=label.names["en"],
                kind=label.kind,
                threshold=threshold,
                icon=label.icon,
                library=label.library,
                active=label.id in active,
                false_alarms_per_day=promised(label, threshold),
                found=None if unknown else found_in_tests(found, label.id, threshold),
                found_unknown=unknown if label.prompts else None,
                guessed=guessed,
                lowered=lowered(label, threshold, found),
                meaning=meaning(label, threshold, found, unknown, alone=alone, guessed=guessed),
            )
        )
    return infos


async def microphones(context: Context) -> list[MicrophoneInfo]:
    """All microphones as they are now; many take their time, for which nobody else waits."""
    found = []
    for microphone in context.store.microphones.all():
        found.append(microphone_info(context, microphone))
        await asyncio.sleep(0)
    return found


def _group(group: EventGroup) -> EventGroupInfo:
    return EventGroupInfo(
        id=group.id,
        nearest=group.nearest,
        margin_db=None if group.margin_db is None else round(group.margin_db, 1),
        unsure=group.unsure,
        microphones=[
            HeardAtMicrophone(id=heard.id, level_above_l90_db=round(heard.level_above_l90_db, 1))
            for heard in group.microphones
        ],
    )


def event_info(stored: StoredEvent) -> EventInfo:
    """A sound event."""
    event = {field.name: getattr(stored.event, field.name) for field in fields(stored.event)}
    del event["clip_starts_at"]
    for name in ("threshold", "score", "peak_score"):
        event[name] = score(event[name])
    event["peak_level_dbfs"] = float(event["peak_level_dbfs"])
    event["close"] = [CloseLabel(label=close.label, score=score(close.score)) for close in stored.event.close]
    event["group"] = None if stored.event.group is None else _group(stored.event.group)
    return EventInfo(
        **event,
        sequence=stored.sequence,
        microphone_name=stored.microphone_name,
        feedback=stored.feedback,
    )
