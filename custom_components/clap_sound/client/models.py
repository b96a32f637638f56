"""What the server sends, parsed. Unknown fields and unknown enumeration values are tolerated."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from .exceptions import ApiVersionError, UnexpectedAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

API_VERSION = 1

type Json = Mapping[str, Any]


def parse[T](parser: Callable[[Any], T], data: object) -> T:
    """Apply ``parser``.

    Raises:
        UnexpectedAnswerError: a field is missing or has another type.
    """
    try:
        return parser(data)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise UnexpectedAnswerError(f"Not an answer of a CLAP Sound server: {error!r}") from error


def utc_time(text: str) -> datetime:
    """Read a time; one without an offset is UTC."""
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def _share(found: Json | None) -> float | None:
    return None if found is None else float(found["share"])


def _optional_text(value: object) -> str | None:
    return None if value is None else str(value)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The model in use.

    Attributes:
        problem: why it is not the requested one.
        choice: why the server chose it, where it was left to the server; None from servers that say nothing.
        least_hop_s: between the windows of microphones that asked for less; 0 from servers that say nothing.
    """

    name: str
    requested: str
    builtin: bool
    device: str
    problem: str | None
    choice: str | None
    least_hop_s: float

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(
            name=str(data["name"]),
            requested=str(data["requested"]),
            builtin=bool(data["builtin"]),
            device=str(data["device"]),
            problem=_optional_text(data.get("problem")),
            choice=_optional_text(data.get("choice")),
            least_hop_s=float(data.get("least_hop_s", 0)),
        )


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Who the server is.

    Attributes:
        epoch: of the event database; with another one, sequence numbers begin anew.
        last_sequence: of the newest event change; 0 if it did not tell.
        storage_problem: trouble with storage, in words.
        overload: that it is too slow, in words.
    """

    server_id: str
    version: str
    model: ModelInfo
    epoch: str
    last_sequence: int
    storage_problem: str | None
    overload: str | None

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """Parse a greeting.

        Raises:
            ApiVersionError: the server speaks another version; nothing else is read then.
        """
        api_version = int(data["api_version"])
        if api_version != API_VERSION:
            raise ApiVersionError(api_version, API_VERSION)
        return cls(
            server_id=str(data["server_id"]),
            version=str(data["version"]),
            model=ModelInfo.from_json(data["model"]),
            epoch=str(data["epoch"]),
            last_sequence=number if isinstance(number := data.get("last_sequence"), int) else 0,
            storage_problem=_optional_text(data["storage"]["problem"]),
            overload=_optional_text(data.get("overload")),
        )


@dataclass(frozen=True, slots=True)
class LabelInfo:
    """A label of the library; ``names`` are by language tag, ``threshold`` is 0 to 1."""

    id: str
    names: Mapping[str, str]
    threshold: float
    icon: str

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(
            id=str(data["id"]),
            names=dict(data["names"]),
            threshold=float(data["threshold"]),
            icon=str(data["icon"]),
        )

    def name(self, language: str) -> str:
        """Return the name in ``language`` (a tag such as ``zh-Hans``), or else a related one, or English."""
        base = language.split("-", maxsplit=1)[0]
        for tag in (language, base, *(tag for tag in self.names if tag.startswith(base)), "en"):
            if tag in self.names:
                return self.names[tag]
        return self.id


@dataclass(frozen=True, slots=True)
class LoweredDefault:
    """A default threshold under 0.7; ``found_share``: what 0.7 found in tests, None if that is not known."""

    found_share: float | None

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(found_share=_share(data["found"]))


@dataclass(frozen=True, slots=True)
class WatchedLabel:
    """A label as a microphone watches it.

    Attributes:
        false_alarms_per_day: that the threshold promises; None where it decides nothing.
        found_share: of real sounds that the threshold found in tests, 0 to 1; None where it is not known.
        found_unknown: a code of why.
        guessed: everyday sound says too little of the label, so that its false alarms are guessed.
        lowered: the threshold is the default, which is under 0.7 for what would be missed there.
    """

    id: str
    name: str
    threshold: float
    icon: str
    library: bool
    active: bool
    false_alarms_per_day: float | None
    found_share: float | None
    found_unknown: str | None
    guessed: bool
    lowered: LoweredDefault | None

    @classmethod
    def from_json(cls, data: Json) -> Self:
        per_day = data.get("false_alarms_per_day")
        return cls(
            id=str(data["id"]),
            name=str(data["name"]),
            threshold=float(data["threshold"]),
            icon=str(data["icon"]),
            library=bool(data["library"]),
            active=bool(data["active"]),
            false_alarms_per_day=None if per_day is None else float(per_day),
            found_share=_share(data.get("found")),
            found_unknown=_optional_text(data.get("found_unknown")),
            guessed=bool(data.get("guessed", False)),
            lowered=None if (lowered := data.get("lowered")) is None else LoweredDefault.from_json(lowered),
        )


@dataclass(frozen=True, slots=True)
class MicrophoneStatus:
    """State with a reason in words; ``code`` is the reason for programs, ``notice`` a further remark."""

    state: str
    code: str
    reason: str
    notice: str | None
    since: datetime

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(
            state=str(data["state"]),
            code=str(data["code"]),
            reason=str(data["reason"]),
            notice=_optional_text(data.get("notice")),
            since=utc_time(data["since"]),
        )


@dataclass(frozen=True, slots=True)
class MicrophoneInfo:
    """A microphone as it is; secrets in ``source`` are redacted by the server.

    ``adopted``: it was the server's own before its owner took it, and becomes that again when released.
    ``recording``: what is kept of the sound around an event, by the names of the API; empty from servers that
    do not tell.
    """

    id: str
    name: str
    source: Mapping[str, Any]
    labels: tuple[WatchedLabel, ...]
    negatives: tuple[str, ...]
    hop_s: float
    enabled: bool
    owner: str
    adopted: bool
    muted: bool
    denoise: bool
    recording: Mapping[str, Any]
    status: MicrophoneStatus

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(
            id=str(data["id"]),
            name=str(data["name"]),
            source=dict(data["source"]),
            labels=tuple(WatchedLabel.from_json(label) for label in data["labels"]),
            negatives=tuple(str(text) for text in data["negatives"]),
            hop_s=float(data["hop_s"]),
            enabled=bool(data["enabled"]),
            owner=str(data["owner"]),
            adopted=bool(data["adopted"]),
            muted=bool(data.get("muted", False)),
            denoise=bool(data.get("denoise", False)),
            recording=dict(data.get("recording") or {}),
            status=MicrophoneStatus.from_json(data["status"]),
        )


def microphones_from_json(data: Json) -> tuple[MicrophoneInfo, ...]:
    return tuple(MicrophoneInfo.from_json(item) for item in data["microphones"])


def watched_labels_from_json(data: Json) -> tuple[WatchedLabel, ...]:
    return tuple(WatchedLabel.from_json(item) for item in data["labels"])


def labels_from_json(data: Json) -> tuple[LabelInfo, ...]:
    return tuple(LabelInfo.from_json(item) for item in data["labels"])


def events_from_json(data: Json) -> tuple[EventInfo, ...]:
    return tuple(EventInfo.from_json(item) for item in data["events"])


@dataclass(frozen=True, slots=True)
class CloseLabel:
    """The id of another label that a sound might have been, with its score, 0 to 1."""

    label: str
    score: float

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(str(data["label"]), float(data["score"]))


@dataclass(frozen=True, slots=True)
class EventGroup:
    """One sound at all microphones that heard it.

    Attributes:
        id: the same for all its events.
        nearest: id of the microphone at which it stood out most.
        margin_db: by how much more than at the next one; None if no other heard it.
        unsure: the margin is small, so either may be the nearest.
        microphones: ids, the nearest first.
    """

    id: str
    nearest: str
    margin_db: float | None
    unsure: bool
    microphones: tuple[str, ...]

    @classmethod
    def from_json(cls, data: Json) -> Self:
        margin_db = data["margin_db"]
        return cls(
            id=str(data["id"]),
            nearest=str(data["nearest"]),
            margin_db=None if margin_db is None else float(margin_db),
            unsure=bool(data["unsure"]),
            microphones=tuple(str(item["id"]) for item in data["microphones"]),
        )


@dataclass(frozen=True, slots=True)
class EventInfo:
    """A sound event; times are UTC, scores 0 to 1.

    Attributes:
        pattern: of an alarm's beeps, by which it was recognised; None if the model alone heard it.
        close: what else it might have been, the best first.
        replaced_by: id of the label by which the same sound was named better, with an event of its own.
        group: the same sound at all microphones; None if the server does not tell.
        clip_withheld: a code of why an event that is over has no recording.
        feedback: the user's verdict, ``correct`` or ``false_alarm``.
    """

    id: str
    sequence: int
    microphone_id: str
    microphone_name: str
    label_id: str
    label_name: str
    started_at: datetime
    detected_at: datetime
    ended_at: datetime | None
    threshold: float
    score: float
    peak_score: float
    peak_level_dbfs: float
    has_clip: bool
    pattern: str | None
    close: tuple[CloseLabel, ...]
    replaced_by: str | None
    group: EventGroup | None
    clip_withheld: str | None = None
    feedback: str | None = None

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(
            id=str(data["id"]),
            sequence=int(data["sequence"]),
            microphone_id=str(data["microphone_id"]),
            microphone_name=str(data["microphone_name"]),
            label_id=str(data["label_id"]),
            label_name=str(data["label_name"]),
            started_at=utc_time(data["started_at"]),
            detected_at=utc_time(data["detected_at"]),
            ended_at=None if data["ended_at"] is None else utc_time(data["ended_at"]),
            threshold=float(data["threshold"]),
            score=float(data["score"]),
            peak_score=float(data["peak_score"]),
            peak_level_dbfs=float(data["peak_level_dbfs"]),
            has_clip=bool(data["has_clip"]),
            pattern=_optional_text(data.get("pattern")),
            close=tuple(CloseLabel.from_json(item) for item in data.get("close", ())),
            replaced_by=_optional_text(data.get("replaced_by")),
            group=None if (group := data.get("group")) is None else EventGroup.from_json(group),
            clip_withheld=_optional_text(data.get("clip_withheld")),
            feedback=_optional_text(data.get("feedback")),
        )

    def was_over_before(self, moment: datetime) -> bool:
        """Whether it had ended by then; one that still sounds had not."""
        return self.ended_at is not None and self.ended_at < moment


@dataclass(frozen=True, slots=True)
class ListedEvents:
    """Events between two times, the newest first.

    ``complete_since``: there were too many to look further back than this.
    """

    events: tuple[EventInfo, ...]
    complete_since: datetime


@dataclass(frozen=True, slots=True)
class ExplainedWindow:
    """A window of sound and what became of it.

    Attributes:
        outcome: ``scored``, or why it was not, such as ``gated``.
        scores: 0 to 1, by label id; of at most ten labels, those nearest to their thresholds.
    """

    ended_at: datetime
    level_dbfs: float
    noise_floor_dbfs: float
    outcome: str
    scores: Mapping[str, float]

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(
            ended_at=utc_time(data["ended_at"]),
            level_dbfs=float(data["level_dbfs"]),
            noise_floor_dbfs=float(data["noise_floor_dbfs"]),
            outcome=str(data["outcome"]),
            scores={str(label["label_id"]): float(label["score"]) for label in data["labels"]},
        )


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a microphone heard last, oldest window first."""

    status: MicrophoneStatus
    windows: tuple[ExplainedWindow, ...]

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(
            status=MicrophoneStatus.from_json(data["status"]),
            windows=tuple(ExplainedWindow.from_json(item) for item in data["windows"]),
        )


@dataclass(frozen=True, slots=True)
class SelfTestResult:
    """What a self-test learnt; the figures are 0 where the server has none."""

    name: str
    outcome: str
    words: str
    score: float
    threshold: float
    delay_s: float
    level_dbfs: float
    noise_floor_dbfs: float

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(
            name=str(data["name"]),
            outcome=str(data["outcome"]),
            words=str(data["words"]),
            score=float(data["score"] or 0),
            threshold=float(data["threshold"]),
            delay_s=float(data["delay_s"] or 0),
            level_dbfs=float(data["level_dbfs"] or 0),
            noise_floor_dbfs=float(data["noise_floor_dbfs"]),
        )


@dataclass(frozen=True, slots=True)
class FeedbackTaken:
    """What came of a verdict on an event.

    Attributes:
        learnt: the microphone heeds it.
        words: what it changes, or why nothing could be learnt.
        score_now: what the same sound would score from now on; None where that cannot be said.
    """

    event_id: str
    learnt: bool
    words: str
    score_now: float | None

    @classmethod
    def from_json(cls, data: Json) -> Self:
        score = data.get("score_now")
        return cls(
            event_id=str(data["id"]),
            learnt=bool(data["learnt"]),
            words=str(data["learnt_words"]),
            score_now=None if score is None else float(score),
        )


@dataclass(frozen=True, slots=True)
class LabelScore:
    """What a recording scores for a label, 0 to 1."""

    label: str
    score: float
    detected: bool

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(str(data["label"]), float(data["score"]), bool(data["detected"]))


@dataclass(frozen=True, slots=True)
class AlarmFound:
    """An alarm in a recording, told by the rhythm of its beeps; ``onset_s`` is that of the first."""

    pattern: str
    label: str
    onset_s: float

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(str(data["pattern"]), str(data["label"]), float(data["onset_s"]))


@dataclass(frozen=True, slots=True)
class Classification:
    """What a recording is like.

    Attributes:
        labels: the best first, as they were given.
        too_quiet: live nothing of it would be scored.
    """

    labels: tuple[LabelScore, ...]
    threshold: float
    duration_s: float
    too_quiet: bool
    patterns: tuple[AlarmFound, ...]

    @classmethod
    def from_json(cls, data: Json) -> Self:
        return cls(
            labels=tuple(LabelScore.from_json(item) for item in data["labels"]),
            threshold=float(data["threshold"]),
            duration_s=float(data["duration_s"]),
            too_quiet=bool(data.get("too_quiet", False)),
            patterns=tuple(AlarmFound.from_json(item) for item in data.get("patterns", ())),
        )
