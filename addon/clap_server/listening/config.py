"""What the user decides about one microphone."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from clap_server.detection.text import hidden_character, is_blank

HOP_S_DEFAULT = 0.5


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

    label: Annotated[str, Field(min_length=1, max_length=200), _READABLE]
    threshold: float | None = Field(
        default=None, ge=0, le=1, strict=True, description="the label's own default if left out"
    )


class MicrophoneSettings(_Model):
    """One microphone as its owner wants it."""

    name: Annotated[str, Field(min_length=1, max_length=100), _READABLE]
    source: SourceSettings
    labels: tuple[LabelChoice, ...] = Field(min_length=1, max_length=200)
    negatives: tuple[Annotated[str, Field(min_length=1, max_length=200), _READABLE], ...] = Field(
        default=(), max_length=50, description="what it is not, in words: 'dishes in the sink'"
    )
    hop_s: float = Field(
        default=HOP_S_DEFAULT, ge=0.1, le=5, strict=True, description="seconds between windows"
    )
    enabled: bool = Field(default=True, strict=True)
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
