"""What a source of sound is, and in which states it can be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from clap_server.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from clap_server.audio.block import AudioBlock


class SourceState(StrEnum):
    """The state of a microphone's sound."""

    DISABLED = "disabled"
    MUTED = "muted"
    CONNECTING = "connecting"
    LISTENING = "listening"
    STALLED = "stalled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """A state with its reason in words.

    Attributes:
        state: for programs.
        code: stable name of the reason, such as ``no_audio_track`` or ``unauthorized``; for translations.
        reason: for people, such as ``401 from camera: check user name and password``. Never holds a secret.
        notice: a remark besides, for people, such as that only one of two channels is used.
    """

    state: SourceState
    code: str
    reason: str
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a source may give no sound before it is opened again.

    Attributes:
        first_s: from opening to the first sound, in seconds; None: as long as it takes.
        silence_s: later, in seconds.
    """

    first_s: float | None = 20.0
    silence_s: float = 10.0


class SourceError(AudioError):
    """A source cannot be opened, or ended.

    Attributes:
        code: stable name of the reason (see ``SourceStatus``).
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class AudioSource(Protocol):
    """Somewhere that sound comes from, once: it does not reconnect (see ``reconnect.py``)."""

    @property
    def patience(self) -> Patience:
        """How long it may be silent; may be another one once it is open."""

    def blocks(self, sample_rate: int) -> AsyncIterator[AudioBlock]:
        """Connect and yield sound, mono at ``sample_rate``, until the source ends.

        Closing the iterator disconnects and frees everything.

        Raises:
            SourceError: it cannot be opened, or broke off.
        """
