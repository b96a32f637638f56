"""What the user decides about one microphone."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from clap_server.detection.library import MAX_LABELS, MAX_TEXT_LENGTH
from clap_server.detection.text import hidden_character, is_blank

HOP_S_DEFAULT = 0.5
MAX_NEGATIVES = 50


def _readable(text: str) -> str:
    if is_blank(text):
        raise PydanticCustomError("blank", "must not be blank")
    if (hidden := hidden_character(text)) is not None:
        raise PydanticCustomError(
            "hidden_character",
            "has a character that cannot be seen ({hidden}); type it anew",
            {"hidden": hidden},
        )
    return text


_READABLE = AfterValidator(_readable)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class UrlSourceSettings(_Model):
    """A stream to pull: RTSP(S) or HTTP(S), such as a camera, Icecast, HLS or go2rtc."""

    type: Literal["url"] = "url"
    url: str = Field(
        max_length=2048, description="rtsp(s) or http(s) address; a password in it is write-only"
    )


class FileSourceSettings(_Model):
    """A recording from the media folder, for trying things out."""

    type: Literal["file"] = "file"
    path: str = Field(description="relative to the server's media folder", max_length=1024)
    loop: bool = Field(default=True, strict=True)


class DeviceSourceSettings(_Model):
    """A capture device of the server's machine."""

    type: Literal["device"] = "device"
    device: str = Field(default="default", description="as GET /api/devices lists it", max_length=256)


class PushSourceSettings(_Model):
    """Sound that a client sends to WS /api/microphones/{id}/audio."""

    type: Literal["push"] = "push"


SourceSettings = Annotated[
    UrlSourceSettings | FileSourceSettings | DeviceSourceSettings | PushSourceSettings,
    Field(discriminator="type"),
]


class LabelChoice(_Model):
    """A label that a microphone listens for.

    ``label`` is an id or a name from the label library in any of its languages, or the user's own words.
    """

    label: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_LENGTH), _READABLE]
    threshold: float | None = Field(
        default=None, gt=0, lt=1, strict=True, description="the label's own default if left out"
    )


class KeepMode(StrEnum):
    """Of which events a recording is kept.

    ``event_only``: of none, and none is ever made. ``no_speech``: of those in which nobody speaks; one that
    cannot be checked is not kept either.
    """

    CLIP = "clip"
    EVENT_ONLY = "event_only"
    NO_SPEECH = "no_speech"


LONGEST_PRE_ROLL_S = 10.0
LONGEST_POST_ROLL_S = 10.0


class RecordingSettings(_Model):
    """What is kept of the sound around an event, and for how long.

    The limits that are left out are the server's own; one that is set replaces the server's for this
    microphone. The server's limit of all clips together holds besides.
    """

    keep: KeepMode = Field(
        default=KeepMode.CLIP,
        description="`event_only`: nothing is ever recorded; `no_speech`: recordings in which speech is"
        " found, or that cannot be checked, are dropped before they are written",
    )
    pre_roll_s: float = Field(
        default=3.0, ge=0, le=LONGEST_PRE_ROLL_S, strict=True, description="seconds before the sound"
    )
    post_roll_s: float = Field(
        default=1.0, ge=0, le=LONGEST_POST_ROLL_S, strict=True, description="seconds after it"
    )
    clip_days: float | None = Field(
        default=None, gt=0, le=3650, strict=True, description="days that its clips are kept"
    )
    max_clips: int | None = Field(
        default=None, ge=1, le=1_000_000, strict=True, description="so many of its clips at most"
    )
    max_mb: float | None = Field(
        default=None, gt=0, le=1_000_000, strict=True, description="megabytes that its clips may take"
    )


class MicrophoneSettings(_Model):
    """One microphone as its owner wants it."""

    name: Annotated[str, Field(min_length=1, max_length=100), _READABLE]
    source: SourceSettings
    labels: tuple[LabelChoice, ...] = Field(
        min_length=1, max_length=MAX_LABELS, description="each sound once"
    )
    negatives: tuple[Annotated[str, Field(min_length=1, max_length=MAX_TEXT_LENGTH), _READABLE], ...] = Field(
        default=(),
        max_length=MAX_NEGATIVES,
        description="what it is not, in words: 'dishes in the sink'; they count for all its labels",
    )
    hop_s: float = Field(
        default=HOP_S_DEFAULT, ge=0.1, le=5, strict=True, description="seconds between windows"
    )
    enabled: bool = Field(default=True, strict=True)
    recording: RecordingSettings = Field(
        default=RecordingSettings(), description="what is kept of the sound around an event"
    )
    denoise: bool = Field(
        default=False,
        strict=True,
        description="let the model hear the sound through RNNoise, made for speech: it takes breaking"
        " glass, shots and alarms for noise too, so measure before you use it",
    )
    owner: Annotated[
        str,
        Field(
            min_length=1, max_length=100, description="'server', or who declares it: 'home_assistant:<entry>'"
        ),
        _READABLE,
    ] = "server"


class Microphone(_Model):
    """A microphone with its stable id."""

    id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    settings: MicrophoneSettings
