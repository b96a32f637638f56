"""From a microphone's settings to what its sound comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clap_server.audio.device import DeviceSource
from clap_server.audio.file import FileSource, media_file
from clap_server.audio.push import PushSource
from clap_server.audio.source import SourceError
from clap_server.audio.stream import StreamSource
from clap_server.audio.url import check_url
from clap_server.errors import ConfigurationError
from clap_server.listening import config

if TYPE_CHECKING:
    from pathlib import Path

    from clap_server.audio.source import AudioSource


def make_source(source: config.SourceSettings, media_dir: Path | None) -> AudioSource:
    """Make the source that the settings describe; nothing is opened yet.

    A file that is not there is no error: the microphone's status says so until it is put there.

    Raises:
        SourceError: an address that cannot be used, or a path outside the media folder.
        ConfigurationError: a file, although the server has no media folder.
    """
    match source:
        case config.UrlSourceSettings():
            check_url(source.url)
            return StreamSource(source.url)
        case config.FileSourceSettings():
            if media_dir is None:
                raise ConfigurationError(
                    "this server has no media folder: start it with --media DIR (or CLAP_MEDIA) to play files"
                )
            try:
                media_file(source.path, media_dir)
            except SourceError as error:
                if error.code != "not_found":
                    raise
            return FileSource(source.path, media_dir, source.loop)
        case config.DeviceSourceSettings():
            return DeviceSource(source.device)
        case config.PushSourceSettings():
            return PushSource()
