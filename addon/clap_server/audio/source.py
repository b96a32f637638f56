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
    """

    state: SourceState
    code: str
    reason: str


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

    def blocks(self, sample_rate: int) -> AsyncIterator[AudioBlock]:
        """Connect and yield sound, mono at ``sample_rate``, until the source ends.

        Closing the iterator disconnects and frees everything.

        Raises:
            SourceError: it cannot be opened, or broke off.
        """
