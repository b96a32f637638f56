"""What can be listened for."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clap_server.detection.examples import Examples


class LabelKind(StrEnum):
    """How a sound behaves in time, which decides the temporal logic."""

    IMPULSIVE = "impulsive"
    SUSTAINED = "sustained"


@dataclass(frozen=True, slots=True)
class Label:
    """A sound in words.

    Attributes:
        id: stable slug, unique within a microphone: ``glass_breaking``.
        names: for people, by language tag; ``en`` is always there.
        prompts: descriptions that are embedded; the label's score is that of their ensemble. Empty if only
            its pattern tells the sound.
        negatives: descriptions of what it is *not*, added to the background for this label alone.
        kind: impulsive or sustained.
        threshold: default, 0 to 1.
        security: whether people would be woken for it.
        icon: a Material Design Icons name, ``mdi:glass-fragile``.
        rivals: impulsive labels that have the same name here may be heard in one bang, so they compete for it
            (see ``Contest``); None if it has no rivals.
        library: whether it comes from the built-in library (False: the user's own words, or sound).
        taught: recordings by which it is known beside its prompts, of a sound that the user taught.
        lowered_because: why the default threshold is under one false alarm a day, in words; None where that
            needs no reason.
        wrong: sounds that were taken for it at this microphone, of each model that heard them.
        right: sounds that were rightly taken for it there, the same; given only where there are wrong ones.
    """

    id: str
    names: Mapping[str, str]
    prompts: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    kind: LabelKind = LabelKind.SUSTAINED
    threshold: float = 0.5
    icon: str = "mdi:ear-hearing"
    library: bool = field(default=False)
    security: bool = False
    rivals: str | None = None
    taught: Examples | None = None
    lowered_because: str | None = None
    wrong: tuple[Examples, ...] = ()
    right: tuple[Examples, ...] = ()


@dataclass(frozen=True, slots=True)
class WatchedLabel:
    """A label with the threshold that one microphone gives it."""

    label: Label
    threshold: float
