"""Everything that crosses the wire, version 1. OpenAPI and docs/api.md are generated from here."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from clap_server.audio.source import SourceState
from clap_server.detection.everyday.unknown import Unknown
from clap_server.detection.judgement import Decision
from clap_server.detection.labels import LabelKind
from clap_server.detection.patterns import AlarmPattern
from clap_server.detection.separation import Verdict
from clap_server.errors import StorageCode
from clap_server.listening.config import MicrophoneSettings, RecordingSettings, SourceSettings
from clap_server.listening.diary import Fate, MomentKind
from clap_server.listening.events import ClipWithheld
from clap_server.listening.self_test import Outcome

API_VERSION = 1
MAX_SEQUENCE = 2**63 - 1
Score = Annotated[float, Field(ge=0, le=1)]
_PROMISED = (
    "that the threshold promises, by the definition of scores;"
    " null for sounds that are told by a pattern alone"
)
_FOUND = "what the threshold found in tests; null where that is not known, or decides nothing"
_UNKNOWN = "why `found` is not known; null where it is, or where the threshold decides nothing"


class Schema(BaseModel):
    """Base of what the server sends."""

    model_config = ConfigDict(frozen=True)


class Received(BaseModel):
    """Base of what a client sends: nothing unknown, and no text where a number is due."""

    model_config = ConfigDict(extra="forbid", strict=True)


class EngineInfo(Schema):
    """What came out of trying an engine on this machine."""

    name: str
    ms_a_window: float | None = Field(description="milliseconds a window in small batches")
    cosine: float | None = Field(description="with the embeddings in float32, the least of all check sounds")
    problem: str | None = Field(description="why it is not used, in words; null where it can be")


class ModelInfo(Schema):
    """The model in use."""

    name: str = Field(description="the model that runs")
    requested: str = Field(description="the model that was asked for")
    builtin: bool
    device: str
    dtype: str
    sample_rate: int = Field(description="Hz")
    window_s: float
    problem: str | None = Field(description="why the requested model is not the one that runs, in words")
    choice: str | None = Field(
        default=None,
        description="what 'auto' chose and why, or what it waits for, in a sentence; none for other requests",
    )
    least_hop_s: float = Field(
        default=0,
        description="seconds between the windows of microphones that asked for less, for the model's sake",
    )
    engine: str = Field(default="torch", description="what runs the model's audio tower")
    engines: list[EngineInfo] = Field(
        default=[],
        description="engines that came into question, the fastest first; none where there was no choice",
    )


class StorageInfo(Schema):
    """Whether events and clips can be stored."""

    problem: str | None = Field(description="what cannot be stored and what to do, in words")
    code: StorageCode | None


class ServerInfo(Schema):
    """Who the server is; first message of /api/ws and answer of GET /api/info."""

    type: Literal["info"] = "info"
    server_id: str = Field(description="UUID that never changes")
    version: str
    api_version: int = API_VERSION
    model: ModelInfo
    label_library_version: int
    last_sequence: int = Field(description="of the newest event change")
    epoch: str = Field(description="UUID of the event numbering: in another one the numbers began anew")
    storage: StorageInfo
    overload: str | None = Field(
        default=None, description="for how many microphones the computer is too slow, in words"
    )


class FoundInTests(Schema):
    """How many real events the model found in tests on recordings that it had not learnt from."""

    found: int
    events: int
    share: float = Field(description="found of events, 0 to 1")
    low: float = Field(description="of the exact 95 % interval of the share")
    high: float


class Lowered(Schema):
    """Why a default threshold is under 0.7."""

    found: FoundInTests | None = Field(description="what 0.7 found in tests; null where it is not known")
    words: str


class LabelInfo(Schema):
    """A label of the library, or a taught sound."""

    id: str
    names: dict[str, str] = Field(description="by language tag")
    prompts: list[str]
    negatives: list[str]
    kind: LabelKind
    threshold: Score
    icon: str
    library: bool
    rivals: str | None = Field(
        default=None, description="labels with the same name here compete for each bang; null: with none"
    )
    false_alarms_per_day: float | None = Field(description=_PROMISED)
    found: FoundInTests | None = Field(description=_FOUND)
    found_unknown: Unknown | None = Field(description=_UNKNOWN)
    guessed: bool = Field(
        description="everyday sound says too little of the label, so that its false alarms are guessed"
    )
    lowered: Lowered | None = Field(description="why the default is under 0.7; null where it is not")
    meaning: str = Field(description="of the threshold, in words")
    taught: bool = Field(default=False, description="a sound that the user taught; see GET /api/sounds")


class LabelLibrary(Schema):
    """GET /api/labels: the library, then the taught sounds."""

    version: int
    labels: list[LabelInfo]


class SeparationInfo(Schema):
    """How well a taught sound is told from everyday sound: each clip was looked for with the others' help."""

    clips: int
    found_at_one_a_day: int = Field(description="clips that are found at one false alarm a day")
    found_at_one_an_hour: int
    verdict: Verdict
    words: str


class SoundInfo(Schema):
    """A sound that the user taught."""

    id: str = Field(description="also the label's")
    name: str
    kind: LabelKind
    created_at: datetime
    threshold: Score = Field(description="default of the label")
    meaning: str = Field(description="of that threshold, in words, and why it was lowered if it was")
    clips: int
    clips_kept: bool = Field(description="another model can learn it from them")
    problem: str | None = Field(description="why it cannot be heard now, in words")
    separation: SeparationInfo


class SoundList(Schema):
    """GET /api/sounds."""

    sounds: list[SoundInfo]


class WatchedLabelInfo(Schema):
    """A label as a microphone watches it."""

    id: str
    name: str = Field(description="English name or the user's own words")
    kind: LabelKind
    threshold: Score
    icon: str
    library: bool
    active: bool = Field(description="an event of it is going on")
    false_alarms_per_day: float | None = Field(description=_PROMISED)
    found: FoundInTests | None = Field(description=_FOUND)
    found_unknown: Unknown | None = Field(description=_UNKNOWN)
    guessed: bool = Field(
        description="everyday sound says too little of the label, so that its false alarms are guessed"
    )
    lowered: Lowered | None = Field(
        description="why the default is under 0.7; null where another threshold was chosen"
    )
    meaning: str = Field(description="of the threshold, in words")


class MicrophoneStatus(Schema):
    """State with a reason in words."""

    state: SourceState
    code: str
    reason: str
    since: datetime
    notice: str | None = Field(default=None, description="a remark besides, in words")


class MicrophoneInfo(Schema):
    """A microphone as it is: settings (secrets redacted), labels resolved, status."""

    id: str
    name: str
    source: SourceSettings
    labels: list[WatchedLabelInfo]
    negatives: list[str]
    hop_s: float
    enabled: bool
    muted: bool = Field(description="nothing is listened to until it is unmuted")
    recording: RecordingSettings
    denoise: bool
    owner: str
    adopted: bool = Field(description="the server's own before its owner took it; a release gives it back")
    status: MicrophoneStatus
    windows_scored: int
    windows_gated: int
    windows_dropped: int


class MicrophoneList(Schema):
    """GET /api/microphones."""

    microphones: list[MicrophoneInfo]


class MicrophoneCheck(Received):
    """POST /api/microphones/check."""

    id: str | None = Field(default=None, description="of the microphone to change, if there is one")
    settings: MicrophoneSettings


class CheckedMicrophone(Schema):
    """What settings mean that were found usable."""

    labels: list[WatchedLabelInfo]
    source: SourceSettings = Field(description="secrets redacted")


class Release(Received):
    """POST /api/microphones/{id}/release."""

    owner: str = Field(max_length=100, description="who lets it go; must be its present owner")


class RuleProgress(Schema):
    """How much a label's rule has of what it needs to start an event."""

    have: float
    need: float
    unit: Literal["windows", "s"] = Field(description="windows, or seconds of the sound")


class CloseLabel(Schema):
    """Another label that an impulsive sound might have been."""

    label: str = Field(description="id of the label")
    score: Score = Field(description="its highest in the windows of the sound")


class NearerText(Schema):
    """A text of the background, or a negative, that a window is more like than the label."""

    text: str
    cosine: float = Field(description="of the window to it, -1 to 1")
    label_cosine: float = Field(description="of the window to the nearest prompt of the label")


class ExplainedLabel(Schema):
    """What became of a label in a window."""

    label_id: str
    name: str
    score: Score
    threshold: Score
    decision: Decision
    progress: RuleProgress | None = Field(description="null if the score is under half of the threshold")
    held_until: datetime | None = Field(description="nothing new starts before, if that decided")
    words: str = Field(description="what decided")
    nearer: CloseLabel | None = Field(
        default=None, description="by what the sound was named, if that decided (`outdone`)"
    )
    nearer_text: NearerText | None = Field(
        default=None, description="what the window is more like, where the label came near but stayed under"
    )


class NearestWindow(ExplainedLabel):
    """The window in which a label came nearest to an event."""

    at: datetime = Field(description="end of the window")
    near: bool = Field(description="it came near: at least half of its threshold, or an event is going on")


class ExplainedWindow(Schema):
    """A window and what became of it."""

    started_at: datetime
    ended_at: datetime
    level_dbfs: float = Field(description="of its loudest 50 ms, without DC and hum")
    noise_floor_dbfs: float
    gate_opens_at_dbfs: float
    onset_at: datetime | None = Field(description="its sharpest sudden rise; it opens the gate")
    outcome: Fate
    words: str
    labels: list[ExplainedLabel] = Field(
        description="if it was scored; those nearest to their thresholds first, at most 10"
    )


class ExplainedMoment(Schema):
    """Something else that happened."""

    at: datetime
    kind: MomentKind
    words: str


class Explanation(Schema):
    """GET /api/microphones/{id}/explain."""

    microphone_id: str
    seconds: int
    status: MicrophoneStatus
    conclusions: list[str] = Field(description="what decided, for all labels and for each that came near")
    windows_scored: int
    windows_gated: int
    windows_dropped: int
    windows_failed: int
    labels: list[NearestWindow] = Field(description="of all that was scored, the nearest first")
    moments: list[ExplainedMoment] = Field(
        description="gaps in the stream, lost sound, changes of the status, self-tests; oldest first"
    )
    windows: list[ExplainedWindow] = Field(description="oldest first")


class CountedHere(Schema):
    """What a threshold would have let through in the room's own sound that is kept."""

    events: int
    per_day: float
    low: float = Field(description="of the exact 95 % interval of `per_day`")
    high: float


class CurvePoint(Schema):
    """A threshold and what it buys."""

    threshold: Score
    false_alarms_per_day: float = Field(description="promised, by the definition of scores")
    counted: CountedHere | None = Field(description="null while too little was heard here")
    found: FoundInTests | None = Field(description="null where it is not known")


class CalibratedLabel(Schema):
    """What the thresholds of a label mean at a microphone."""

    label_id: str
    name: str
    threshold: Score = Field(description="the present one")
    meaning: str = Field(description="of the present threshold, in words")
    found_unknown: Unknown | None = Field(description=_UNKNOWN)
    present: CurvePoint | None = Field(description="null for sounds that are told by a pattern alone")
    wished: CurvePoint | None = Field(description="for `per_day`, if that was asked for")
    curve: list[CurvePoint]


class RoomHeard(Schema):
    """What a microphone learnt of its room in the last two weeks."""

    heard_hours: float = Field(description="listened to, without digital silence, self-tests and lost sound")
    sounding_hours: float = Field(description="of these above the gate")
    sounding_hours_a_day: float
    sounding_hours_known: bool = Field(description="counted here, which takes a day; else as in other homes")
    kept_hours: float = Field(description="of sound above the gate that the sample held at the last count")
    needed_hours: float
    counts: bool = Field(description="the room's own sound has its part in the scores")
    reason: str | None = Field(description="why it has not, in words")


class EverydayInfo(Schema):
    """The everyday sound that all microphones are measured against with this model."""

    hours: float
    sources: str


class Calibration(Schema):
    """GET /api/microphones/{id}/calibration."""

    microphone_id: str
    model: str
    everyday: EverydayInfo | None = Field(description="null if the model has none")
    room: RoomHeard
    labels: list[CalibratedLabel]


class SelfTest(Received):
    """POST /api/microphones/{id}/self-test."""

    label: str | None = Field(
        default=None,
        max_length=200,
        description="id or name of one that the microphone watches; the first that can be tested if left out",
    )
    mode: Literal["digital", "aloud"] = Field(
        default="digital",
        description="digital: a synthesised sound is mixed into a copy of the live sound;"
        " aloud: you play the sound in the room",
    )
    timeout_s: float = Field(default=30, ge=1, le=120, allow_inf_nan=False)


class SelfTestResult(Schema):
    """What a self-test learnt. It is no event: nobody else is told."""

    self_test: Literal[True] = True
    label_id: str
    name: str
    mode: Literal["digital", "aloud"]
    outcome: Outcome = Field(description="unclear: the room alone sounded like it")
    words: str = Field(description="the outcome, and why")
    score: Score | None = Field(
        description="of the window that decided, else of the nearest one; null if it was not scored"
    )
    threshold: Score
    delay_s: float | None = Field(description="from the sound's onset to the decision")
    level_dbfs: float | None = Field(description="of the sound, its loudest 50 ms")
    noise_floor_dbfs: float
    live_score: Score | None = Field(description="digital: of the room alone in the window that decided")


class HeardAtMicrophone(Schema):
    """A microphone at which a sound was heard."""

    id: str
    level_above_l90_db: float = Field(
        description="peak level above the level that its sound exceeds for 90 % of the time"
    )


class EventGroupInfo(Schema):
    """The same label at microphones within 1.5 s: one sound, with an event for each microphone."""

    id: str = Field(description="the same for all its events")
    nearest: str = Field(description="id of the microphone at which it stood out most")
    margin_db: float | None = Field(
        description="by how much more than at the next one; null if no other heard it"
    )
    unsure: bool = Field(description="the margin is under 3 dB, so either may be the nearest")
    microphones: list[HeardAtMicrophone] = Field(description="the nearest first")


class EventInfo(Schema):
    """A sound event."""

    id: str
    sequence: int = Field(description="of its newest change")
    microphone_id: str
    microphone_name: str
    label_id: str
    label_name: str
    started_at: datetime
    detected_at: datetime
    ended_at: datetime | None
    threshold: Score
    score: Score = Field(description="at the decision; 1 if a pattern decided")
    peak_score: Score
    peak_level_dbfs: float
    has_clip: bool
    pattern: AlarmPattern | None = Field(
        default=None,
        description="of an alarm's beeps, by which it was recognised or, while it went on, confirmed;"
        " null if the model alone heard it",
    )
    close: list[CloseLabel] = Field(
        default=[], description="what else an impulsive sound might have been, the best first"
    )
    replaced_by: str | None = Field(
        default=None,
        description="id of the label by which the same sound was named better a moment later: it has its own"
        " event, and this one ended at once",
    )
    noise_floor_dbfs: float | None = Field(
        default=None, description="L90 of the microphone when it started; null in old events"
    )
    group: EventGroupInfo | None = Field(
        default=None,
        description="the same sound at all microphones, as far as is known; it may grow for some seconds;"
        " null in old events",
    )
    feedback: Literal["correct", "false_alarm"] | None = None
    clip_withheld: ClipWithheld | None = Field(
        default=None,
        description="why an event that is over has no recording; null if it has one, while its sound lasts,"
        " and for events of earlier versions",
    )


class EventList(Schema):
    """GET /api/events, oldest first."""

    events: list[EventInfo]
    last_sequence: int
    epoch: str = Field(description="as in ServerInfo")


class LabelScore(Schema):
    """One label's result."""

    label: str
    score: Score
    detected: bool
    meaning: str = Field(description="of the threshold for this label, in words")


class WindowScores(Schema):
    """Scores of one window of the file."""

    start_s: float
    end_s: float
    scores: dict[str, Score]
    gated: bool = Field(
        default=False,
        description="so quiet that live sound would not be scored: labels score 0 and `normal` 1",
    )


class PatternFound(Schema):
    """An alarm in a recording, told by the pattern of its beeps."""

    pattern: AlarmPattern
    label: str = Field(
        description="id of the library's label that it means, whether that was asked for or not"
    )
    onset_s: float = Field(description="of the first beep")
    carrier_hz: float


class Classification(Schema):
    """POST /api/classify. Labels are sorted by score, highest first.

    A score is the highest of any window, and 1 for a label that one of ``patterns`` means; the windows and
    ``normalize=softmax`` know no patterns.
    """

    top_label: str
    top_score: Score
    labels: list[LabelScore]
    threshold: Score
    duration_s: float
    windows: list[WindowScores]
    too_quiet: bool = Field(
        default=False,
        description="nothing in it rises above its own noise, so live sound would not be scored at all;"
        " these are the scores regardless",
    )
    patterns: list[PatternFound] = Field(default=[], description="alarms that were decoded")


class Feedback(Received):
    """POST /api/events/{id}/feedback."""

    verdict: Literal["correct", "false_alarm"]


class FeedbackTaken(EventInfo):
    """The event with its verdict, and what was learnt from that."""

    learnt: bool = Field(description="the microphone heeds it, or will when the model that heard it runs")
    learnt_words: str = Field(description="what it changes, or why nothing could be learnt")
    score_now: Score | None = Field(
        description="the highest that the same sound would have from now on; null while the microphone does"
        " not heed it, and where a score cannot be told"
    )


class Lesson(Schema):
    """What a microphone learnt from one event."""

    event_id: str
    label_id: str
    label_name: str
    verdict: Literal["correct", "false_alarm"]
    heard_at: datetime
    windows: int = Field(description="embeddings that are kept")
    heeded: bool = Field(description="false if another model heard it than the one that runs now")
    words: str
    score: Score | None = Field(
        description="the highest that it would have now; null if the microphone does not listen, or not for"
        " that label, or is still learning, or the model is another"
    )


class LessonsOfLabel(Schema):
    """What a microphone learnt about one label."""

    label_id: str
    label_name: str
    false_alarms: int
    correct: int
    correct_known: int = Field(description="of the correct ones, those that have a score now")
    correct_found: int = Field(description="of these, those that would still reach the present threshold")


class MicrophoneLessons(Schema):
    """GET /api/microphones/{id}/feedback."""

    microphone_id: str
    lessons: list[Lesson] = Field(description="in the order of the verdicts")
    labels: list[LessonsOfLabel]


class Problem(Schema):
    """RFC 9457 problem details, application/problem+json."""

    type: str = Field(description="stable name, '/problems/<code>'")
    title: str
    status: int
    detail: str = Field(description="what to do, in words")
    errors: list[dict[str, str]] | None = Field(default=None, description="per field: 'field' and 'message'")


# --- WS /api/ws ---
# server: ServerInfo; client: Subscribe; server: MicrophonesMessage, then every EventMessage after `after`,
# then ReplayedMessage, then live messages of the subscribed topics. `microphones` and `event` always come.


class Subscribe(Received):
    """First and only message of the client."""

    type: Literal["subscribe"] = "subscribe"
    after: int | None = Field(
        default=None, ge=0, le=MAX_SEQUENCE, description="last sequence seen; null: no replay"
    )
    epoch: str | None = Field(
        default=None,
        description="ServerInfo's when `after` was seen; all changes are replayed if it is another now",
    )
    event_id: str | None = Field(
        default=None,
        description="of the event that had the change `after`; all are replayed if another has that number"
        " now, because a backup of the server's data was put back",
    )
    topics: set[Literal["scores", "levels"]] = Field(default_factory=set)


class MicrophonesMessage(Schema):
    """All microphones as they are at first, in one or more messages of about 1 MB at most."""

    type: Literal["microphones"] = "microphones"
    microphones: list[MicrophoneInfo]
    more: bool = Field(default=False, description="another such message follows with the next ones")


class MicrophoneChangedMessage(Schema):
    """One microphone was added, or its settings changed."""

    type: Literal["microphone_changed"] = "microphone_changed"
    microphone: MicrophoneInfo


class MicrophoneRemovedMessage(Schema):
    """One microphone is there no more."""

    type: Literal["microphone_removed"] = "microphone_removed"
    microphone_id: str


class MicrophoneMessage(Schema):
    """One microphone's status changed."""

    type: Literal["microphone"] = "microphone"
    microphone_id: str
    status: MicrophoneStatus


class EventMessage(Schema):
    """An event started or ended. Each change has its own sequence number, never used again."""

    type: Literal["event"] = "event"
    sequence: int
    change: Literal["started", "ended"]
    event: EventInfo


class EventConfirmedMessage(Schema):
    """More is known of an event: its ``pattern``, what is ``close``, or its ``group``, even when it is over.

    It has no number and is not replayed. The event's end tells it too, as far as it is known by then, so a
    client need not know this message.
    """

    type: Literal["event_confirmed"] = "event_confirmed"
    event: EventInfo


class EventClipMessage(Schema):
    """The recording of an event that is over is there now, or it is known why there is none.

    It comes after an end whose ``clip_withheld`` is ``coming``: the post-roll was still to come. It has no
    number and is not replayed; a replayed end has it already.
    """

    type: Literal["event_clip"] = "event_clip"
    event: EventInfo


class ReplayedMessage(Schema):
    """All changes up to here have been sent; what follows is live."""

    type: Literal["replayed"] = "replayed"
    last_sequence: int
    active: list[str] = Field(
        description="ids of the events that go on; any other that a client has seen start is over,"
        " even if its end was lost in a crash"
    )


class ScoresMessage(Schema):
    """Scores of one window (topic ``scores``).

    ``scores`` is empty once when nothing is scored any more, because it is too quiet or the stream broke off:
    the scores told before are no longer true.
    """

    type: Literal["scores"] = "scores"
    microphone_id: str
    at: datetime
    level_dbfs: float
    scores: dict[str, Score]


class LevelMessage(Schema):
    """Level of the last half second (topic ``levels``)."""

    type: Literal["level"] = "level"
    microphone_id: str
    at: datetime
    level_dbfs: float
    noise_floor_dbfs: float
    gated: bool


# --- further answers ---


class Health(Schema):
    """GET /health."""

    status: Literal["ok", "starting"]
    problems: list[str] = Field(
        description="codes of what is wrong, such as `disk_full`; GET /api/info says it in words"
    )


class OpenApi(Schema):
    """GET /api/openapi.json: a description by OpenAPI 3.1, of which more than this is said elsewhere."""

    model_config = ConfigDict(extra="allow")

    openapi: str
    info: dict[str, Any]
    paths: dict[str, dict[str, Any]]
    components: dict[str, dict[str, Any]]


class DeviceInfo(Schema):
    """A capture device of the server's machine."""

    id: str = Field(description="for a microphone's source")
    name: str


class DeviceList(Schema):
    """GET /api/devices."""

    devices: list[DeviceInfo]


class SourceCheck(Received):
    """POST /api/sources/check."""

    source: SourceSettings


class SourceHeard(Schema):
    """Sound came from the source."""

    level_dbfs: float = Field(description="of its first moment")


class AudioFormat(Received):
    """First message of the client on WS /api/microphones/{id}/audio; then it sends interleaved PCM."""

    format: Literal["s16le", "f32le"]
    sample_rate: int = Field(ge=4000, le=192_000, description="Hz")
    channels: int = Field(default=1, ge=1, le=8)
