"""From a microphone's settings to what its sound comes from and what it listens for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clap_server.audio.device import DeviceSource
from clap_server.audio.file import FileSource
from clap_server.audio.push import PushSource
from clap_server.audio.stream import StreamSource
from clap_server.audio.url import check_url
from clap_server.detection.labels import WatchedLabel
from clap_server.detection.temporal import make_rule
from clap_server.errors import ConfigurationError, LabelError
from clap_server.listening import config

if TYPE_CHECKING:
    from pathlib import Path

    from clap_server.audio.source import AudioSource
    from clap_server.detection.library import LabelLibrary


@dataclass(frozen=True, slots=True)
class Plan:
    """What one microphone listens for.

    Attributes:
        labels: with distinct ids.
        negatives: what it is not, in words.
        hop_s: seconds between windows.
    """

    labels: tuple[WatchedLabel, ...]
    negatives: tuple[str, ...]
    hop_s: float


def make_plan(settings: config.MicrophoneSettings, library: LabelLibrary) -> Plan:
    """Resolve the labels of a microphone.

    Raises:
        LabelError: a label is not usable, named twice, or its threshold makes detection impossible.
    """
    labels: dict[str, WatchedLabel] = {}
    for choice in settings.labels:
        label = library.resolve(choice.label)
        threshold = label.threshold if choice.threshold is None else choice.threshold
        if label.id in labels:
            raise LabelError(
                f"'{choice.label}' means the same as another label, {label.id}: name each sound once"
            )
        try:
            make_rule(label.kind, threshold, hop_s=settings.hop_s)
        except LabelError as error:
            raise LabelError(f"'{choice.label}': {error}") from None
        labels[label.id] = WatchedLabel(label, threshold)
    return Plan(tuple(labels.values()), settings.negatives, settings.hop_s)


def make_source(source: config.Source, media_dir: Path | None) -> AudioSource:
    """Make the source that the settings describe; nothing is opened yet.

    Raises:
        AudioError: an address or path that cannot be used.
        ConfigurationError: a file, although the server has no media folder.
    """
    match source:
        case config.UrlSource():
            check_url(source.url)
            return StreamSource(source.url)
        case config.FileSource():
            if media_dir is None:
                raise ConfigurationError(
                    "this server has no media folder: start it with --media DIR (or CLAP_MEDIA) to play files"
                )
            return FileSource(source.path, media_dir, source.loop)
        case config.DeviceSource():
            return DeviceSource(source.device)
        case config.PushSource():
            return PushSource()
