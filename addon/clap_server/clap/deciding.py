"""Which model a machine carries for its microphones: numbers in, a decision and a sentence out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

HALF = 0.5
"""Of the machine's time is the most that the full model may take: the rest is for bursts and all else."""

ENTER = 0.4
"""What a larger thing may take to be begun: less, so that one microphone more does not end it again."""

CALM_S = 600.0
"""Seconds since the last change before something larger is begun. What has become too much ends at once."""

LONGER_HOP_S = 1.0
"""The one longer hop between windows.

It halves the work of the default of 0.5 s. An onset has windows of its own, 0.2 and 0.7 s after it, so a bang
is told no later; it lies in ten regular windows of 10 s, and in two of a checkpoint with windows of 2 s. An
alarm, which needs two windows, is told about a second later; with a longer hop it would be more. What a room
taught counts for one hop only, hence one and no ladder of them.
"""

BATCH = 4
"""Windows in the batches that are measured, and microphones from which on batches of that size are usual."""

Kind = Literal["full", "longer", "builtin"]
KINDS: tuple[Kind, ...] = ("full", "longer", "builtin")
"""The largest first: at the hop that was asked for, at a longer one, not at all."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What the full model was measured to take, in milliseconds of the whole machine.

    Attributes:
        alone_ms: a window by itself.
        batch_ms: a window in batches of ``BATCH``.
    """

    alone_ms: float
    batch_ms: float

    def of(self, microphones: int) -> float:
        """A window's milliseconds with so many microphones."""
        return self.batch_ms if microphones >= BATCH else self.alone_ms

    def slower(self, factor: float) -> Speed:
        """The same for a machine that is so much slower than was measured."""
        return Speed(factor * self.alone_ms, factor * self.batch_ms)


def load(kind: Kind, speed: Speed, hops_s: Sequence[float]) -> float:
    """The share of the machine that the full model takes while all microphones hear something.

    Args:
        kind: how it would run; nothing at all for ``builtin``.
        speed: of the model.
        hops_s: seconds between windows that were asked for, of each microphone that is switched on.
    """
    if kind == "builtin":
        return 0.0
    least_s = LONGER_HOP_S if kind == "longer" else 0.0
    return speed.of(len(hops_s)) / 1000 * sum(1 / max(hop_s, least_s) for hop_s in hops_s)


def decide(speed: Speed, hops_s: Sequence[float], present: Kind | None = None, since_s: float = 0.0) -> Kind:
    """Choose the largest that leaves half of the machine free.

    Args:
        speed: of the full model.
        hops_s: see ``load``.
        present: what was chosen before; None if nothing was.
        since_s: seconds since that came to be.
    """
    if present is None:
        return _first(KINDS, speed, hops_s, HALF)
    here = KINDS.index(present)
    if since_s >= CALM_S and (larger := KINDS[:here]):
        kind = _first((*larger, "builtin"), speed, hops_s, ENTER)
        if kind in larger:
            return kind
    return _first(KINDS[here:], speed, hops_s, HALF)


def _first(kinds: Sequence[Kind], speed: Speed, hops_s: Sequence[float], most: float) -> Kind:
    """The first that takes no more than a share; the last of all takes none."""
    return next(kind for kind in kinds if load(kind, speed, hops_s) <= most)


def reason(kind: Kind, speed: Speed, hops_s: Sequence[float], *, name: str) -> str:
    """Say in a sentence why it is this one.

    Args:
        kind: what was decided.
        speed: of the full model.
        hops_s: see ``load``.
        name: of the full model.
    """
    count = len(hops_s)
    microphones = {0: "no microphone", 1: "1 microphone"}.get(count, f"{count} microphones")
    keep = "keeps" if count < 2 else "keep"
    takes = f"a window takes {speed.of(count):.0f} ms"
    share = load(kind, speed, hops_s)
    busy = f"{microphones} {keep} at most {_percent(share)} of the machine busy"
    if not hops_s:
        busy = "no microphone is switched on"
    if kind == "full":
        return f"The full model, {name}, listens: {takes}, and {busy}."
    if kind == "longer":
        return (
            f"The full model, {name}, listens with at least {LONGER_HOP_S:g} s between windows: {takes}, and "
            f"{busy}; at the time that was asked for it would be {_bound('full', speed, hops_s)}."
        )
    return (
        f"The built-in model listens: of the full model, {name}, {takes}, and even at {LONGER_HOP_S:g} s "
        f"between windows {microphones} would keep {_bound('longer', speed, hops_s)} of the machine busy."
    )


def _bound(kind: Kind, speed: Speed, hops_s: Sequence[float]) -> str:
    """What something would take, and what it may."""
    share = load(kind, speed, hops_s)
    if share > HALF:
        return f"{_percent(share)} (more than half)"
    minutes = f"{CALM_S / 60:.0f} minutes"
    return f"{_percent(share)} (it is begun at {_percent(ENTER)} or less, {minutes} after the last change)"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
