"""What is told of a microphone's state, of all that there is to tell."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from clap_server.audio.source import SourceState, SourceStatus
from clap_server.listening.health import Health
from clap_server.listening.silence import SILENT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from clap_server.errors import ModelError

STARTING = SourceStatus(SourceState.CONNECTING, "connecting", "starting")
TOO_SLOW = "too_slow"

_RECENT_S = 60.0
# From this share of lost windows the computer is too slow, below half of it no longer; one hiccup is neither.
_SLOW_SHARE = 0.1
_FEWEST_LOST = 10
# How far the share must move to be told again.
_NEWS_SHARE = 0.1


class Losses:
    """Of how many windows of the last minute nothing was learnt, because the computer is too slow."""

    def __init__(self) -> None:
        self._recent: deque[bool] = deque()
        self._lost = 0
        self._told_share = 0.0
        self.reason: str | None = None
        """In words, while it is too slow."""

    def add(self, *, lost: bool, count: int, hop_s: float) -> None:
        """Count windows that were due."""
        most = max(4, round(_RECENT_S / hop_s))
        for _ in range(min(count, most)):
            self._recent.append(lost)
            self._lost += lost
        while len(self._recent) > most:
            self._lost -= self._recent.popleft()
        share = self._lost / max(1, len(self._recent))
        if self.reason is None:
            slow = share >= _SLOW_SHARE and self._lost >= min(_FEWEST_LOST, most // 2)
        else:
            slow = share >= _SLOW_SHARE / 2
        if not slow:
            self.reason = None
        elif self.reason is None or abs(share - self._told_share) >= _NEWS_SHARE:
            self._told_share = share
            self.reason = (
                f"the computer is too slow: {self._lost} of the last {len(self._recent)} windows were"
                " dropped; use fewer microphones or a longer hop"
            )


class Condition:
    """Tells the one status that matters most, whenever it becomes another.

    Args:
        tell: is given it.
    """

    def __init__(self, tell: Callable[[SourceStatus], None]) -> None:
        self._tell = tell
        self.health = Health()
        """Of the sound; call ``health_may_differ`` after it was fed."""
        self._source = STARTING
        self._model_error: ModelError | None = None
        self._silent = False
        self._losses = Losses()
        self._health_told: tuple[str | None, ...] = (None,) * 4
        self._told: SourceStatus | None = None
        self._check_problem: str | None = None
        self._longer_hop: str | None = None

    def source_is(self, status: SourceStatus) -> None:
        """The source says how it is."""
        self._source = status
        self._update()

    def model_fails(self, error: ModelError) -> None:
        """The model gave no answer; the first reason stays until it works again."""
        if self._model_error is None:
            self._model_error = error
            self._update()

    def model_works(self) -> None:
        """The model answered."""
        if self._model_error is not None:
            self._model_error = None
            self._update()

    def silent_is(self, silent: bool) -> None:
        """There is nothing but digital silence, or no longer."""
        if self._silent is not silent:
            self._silent = silent
            self._update()

    def health_may_differ(self) -> None:
        """More of the sound was heard."""
        health = self.health
        now = health.wrong_rate, health.choppy, health.only_noise, health.notice
        if now != self._health_told:
            self._health_told = now
            self._update()

    def windows_were(self, *, lost: bool, count: int = 1, hop_s: float) -> None:
        """Windows were due and were lost, or not."""
        before = self._losses.reason
        self._losses.add(lost=lost, count=count, hop_s=hop_s)
        if self._losses.reason != before:
            self._update()

    def hop_is(self, hop_s: float, *, wanted_s: float) -> None:
        """A window is looked at each ``hop_s``, where one each ``wanted_s`` was wanted."""
        reason = None
        if hop_s > wanted_s:
            reason = (
                f"the computer is too slow for a window each {wanted_s:g} s: for now it looks at one each"
                f" {hop_s:g} s; use fewer microphones or a longer hop"
            )
        if reason != self._longer_hop:
            self._longer_hop = reason
            self._update()

    def speech_check_is(self, problem: str | None) -> None:
        """Recordings were checked for speech, or could not be, for a reason in words."""
        if self._check_problem != problem:
            self._check_problem = problem
            self._update()

    def _update(self) -> None:
        status = self._status()
        if status != self._told:
            self._told = status
            self._tell(status)

    def _status(self) -> SourceStatus:
        source = self._source
        if self._model_error is not None:
            return SourceStatus(
                SourceState.FAILED, "model_failed", f"cannot score sound: {self._model_error}"
            )
        if source.state is not SourceState.LISTENING:
            return source
        if self._silent:
            silence = (
                f"nothing but digital silence for {SILENT_S:g} s: check that the microphone is not muted"
            )
            return SourceStatus(SourceState.STALLED, "silent", silence, source.notice)
        if (reason := self._losses.reason or self._longer_hop) is not None:
            return SourceStatus(SourceState.LISTENING, TOO_SLOW, reason, self._notice)
        if (reason := self.health.wrong_rate) is not None:
            return SourceStatus(SourceState.LISTENING, "wrong_rate", reason, self._notice)
        # A wrong rate makes gaps, too.
        if (reason := self.health.choppy) is not None:
            return SourceStatus(SourceState.LISTENING, "choppy", reason, self._notice)
        if (reason := self.health.only_noise) is not None:
            return SourceStatus(SourceState.LISTENING, "only_noise", reason, self._notice)
        return replace(source, notice=self._notice)

    @property
    def _notice(self) -> str | None:
        check = self._check_problem
        unchecked = None if check is None else f"recordings are dropped, speech cannot be looked for: {check}"
        all_there_is = self._source.notice, self.health.notice, unchecked
        remarks = [remark for remark in all_there_is if remark is not None]
        return "; ".join(remarks) or None
