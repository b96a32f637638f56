"""From a microphone's settings to what it listens for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from clap_server.detection.labels import WatchedLabel
from clap_server.detection.library import NORMAL
from clap_server.detection.temporal import make_rule
from clap_server.errors import LabelError
from clap_server.listening.config import RecordingSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clap_server.detection.examples import Examples
    from clap_server.detection.library import LabelLibrary
    from clap_server.listening.config import MicrophoneSettings


@dataclass(frozen=True, slots=True)
class Plan:
    """What one microphone listens for.

    Attributes:
        labels: with distinct ids.
        negatives: what it is not, in words.
        hop_s: seconds between windows.
        recording: what is kept of the sound around an event.
        denoise: whether the model hears it through RNNoise.
    """

    labels: tuple[WatchedLabel, ...]
    negatives: tuple[str, ...]
    hop_s: float
    recording: RecordingSettings = field(default_factory=RecordingSettings)
    denoise: bool = False


def make_plan(
    settings: MicrophoneSettings,
    library: LabelLibrary,
    wrong: Mapping[str, tuple[Examples, ...]] | None = None,
    right: Mapping[str, tuple[Examples, ...]] | None = None,
) -> Plan:
    """Resolve the labels of a microphone.

    Args:
        settings: of the microphone.
        library: where labels are looked up.
        wrong: sounds that were false alarms there, by label id.
        right: sounds that were none, by label id.

    Raises:
        LabelError: a label is not usable, named twice, or its threshold makes detection impossible.
    """
    labels: dict[str, WatchedLabel] = {}
    for choice in settings.labels:
        label = library.resolve(choice.label)
        if label.id == NORMAL.id and choice.threshold is None:
            raise LabelError(
                f"'{choice.label}' stands for none of the others and is no sound to wait for: leave it out,"
                " or give it a threshold, such as 0.9"
            )
        threshold = label.threshold if choice.threshold is None else choice.threshold
        if label.id in labels:
            raise LabelError(
                f"'{choice.label}' means the same as another label, {label.id}: name each sound once"
            )
        try:
            make_rule(label.kind, threshold, hop_s=settings.hop_s)
        except LabelError as error:
            raise LabelError(f"'{choice.label}': {error}") from None
        mistaken = (wrong or {}).get(label.id, ())
        # They only guard against those: without any, no scorer needs to be made anew for them.
        meant = (right or {}).get(label.id, ()) if mistaken else ()
        labels[label.id] = WatchedLabel(replace(label, wrong=mistaken, right=meant), threshold)
    return Plan(
        tuple(labels.values()), settings.negatives, settings.hop_s, settings.recording, settings.denoise
    )
