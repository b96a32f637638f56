"""Settings become a source."""

from pathlib import Path

import pytest

from clap_server.audio.device import DeviceSource
from clap_server.audio.file import FileSource
from clap_server.audio.push import PushSource
from clap_server.audio.source import AudioSource, SourceError
from clap_server.audio.stream import StreamSource
from clap_server.errors import ConfigurationError
from clap_server.listening import config
from clap_server.listening.sources import make_source


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (config.UrlSourceSettings(url="rtsp://camera/live"), StreamSource),
        (config.FileSourceSettings(path="not-there-yet.wav"), FileSource),
        (config.DeviceSourceSettings(), DeviceSource),
        (config.PushSourceSettings(), PushSource),
    ],
)
def test_each_kind_of_settings_makes_its_source(
    source: config.SourceSettings, kind: type[AudioSource], tmp_path: Path
) -> None:
    assert type(make_source(source, tmp_path)) is kind


def test_what_can_never_work_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="outside the media folder"):
        make_source(config.FileSourceSettings(path="/etc/passwd"), tmp_path)
    with pytest.raises(ConfigurationError, match="no media folder"):
        make_source(config.FileSourceSettings(path="x.wav"), None)
    with pytest.raises(SourceError, match="names no host"):
        make_source(config.UrlSourceSettings(url="rtsp:///live"), tmp_path)
