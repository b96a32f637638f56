"""Dispatcher signals for what is passed on to single entities, and is no state of the coordinator."""

from typing import TYPE_CHECKING

from homeassistant.util.signal_type import SignalType

if TYPE_CHECKING:
    from .client.messages import LevelMessage, ScoresMessage
    from .data import Heard


def event_signal(entry_id: str, microphone: str) -> SignalType[Heard]:
    """A sound event that is news."""
    return SignalType(f"clap_sound_{entry_id}_{microphone}_event")


def scores_signal(entry_id: str, microphone: str) -> SignalType[ScoresMessage]:
    """The scores of a window."""
    return SignalType(f"clap_sound_{entry_id}_{microphone}_scores")


def levels_signal(entry_id: str, microphone: str) -> SignalType[LevelMessage]:
    """The level of half a second."""
    return SignalType(f"clap_sound_{entry_id}_{microphone}_levels")
