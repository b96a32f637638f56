"""A recording of the media folder, played in real time as if it were a microphone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av.error

from clap_server.audio.container import open_file, read_frames
from clap_server.audio.downmix import Downmix
from clap_server.audio.source import Patience, SourceError
from clap_server.audio.threaded import Feed, blocks_from_thread
from clap_server.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from clap_server.audio.block import AudioBlock


# Opening a file takes a millisecond or two: of shorter ones a loop would do nothing else.
MIN_LOOP_S = 0.1


def media_file(path: str, media_dir: Path | None) -> Path:
    """Find a file of the media folder.

    Args:
        path: relative to ``media_dir``.
        media_dir: None when the server has none.

    Returns:
        Its real path, with links followed; certainly inside ``media_dir``.

    Raises:
        SourceError: ``no_media_folder``, ``outside_media_folder``, ``not_found`` or ``not_readable``.
    """
    if media_dir is None:
        raise SourceError("no_media_folder", "no media folder is set: start the server with --media DIR")
    outside = SourceError(
        "outside_media_folder", "the file is outside the media folder: name one that lies in it"
    )
    try:
        root = media_dir.resolve()
        found = (root / path).resolve()
    except (OSError, RuntimeError, ValueError):
        raise outside from None
    if not found.is_relative_to(root):
        raise outside
    try:
        there = found.is_file()
    except OSError as error:  # such as a name that is too long for any file
        raise SourceError("not_readable", f"{path[:50]} cannot be read: {error.strerror}") from error
    if not there:
        raise SourceError("not_found", f"there is no file {path} in the media folder: put it there")
    return found


class FileSource:
    """Plays a file once, or again and again without a gap.

    Args:
        path: relative to the media folder.
        media_dir: the media folder; None when the server has none.
        loop: begin again at the end; otherwise ``blocks`` ends there.
    """

    patience = Patience()

    def __init__(self, path: str, media_dir: Path | None, loop: bool = True) -> None:
        self._path = path
        self._media_dir = media_dir
        self._loop = loop

    def blocks(self, sample_rate: int) -> AsyncGenerator[AudioBlock, None]:
        """See ``AudioSource``; checks the path anew each time."""
        return blocks_from_thread(self._produce, sample_rate, name="file", lead_s=0.0)

    def _produce(self, feed: Feed) -> None:
        path = media_file(self._path, self._media_dir)
        if self._loop:
            self._require_length(path)
        downmix = Downmix()
        again = True
        while again and not feed.closed():
            heard = False
            for samples, rate in self._read(path, downmix):
                if feed.closed():
                    return
                heard = heard or samples.size > 0
                feed.notice = downmix.notice
                try:
                    feed.push(samples, rate)
                except AudioError as error:
                    raise self._unplayable(error) from error
            if not heard:
                raise self._empty()
            again = self._loop

    def _require_length(self, path: Path) -> None:
        seconds = 0.0
        for samples, rate in self._read(path, Downmix()):
            seconds += len(samples) / rate
            if seconds >= MIN_LOOP_S:
                return
        if not seconds:
            raise self._empty()
        raise SourceError(
            "not_usable",
            f"{self._path} lasts less than {MIN_LOOP_S:g} s: choose a longer recording to repeat",
        )

    def _read(self, path: Path, downmix: Downmix) -> Iterator[tuple[NDArray[np.float32], int]]:
        try:
            with path.open("rb") as file, open_file(file) as container:
                yield from read_frames(container, downmix)
        except av.error.FFmpegError as error:
            raise SourceError("not_audio", f"{self._path} breaks off or is damaged") from error
        except AudioError as error:
            raise self._unplayable(error) from error
        except OSError as error:
            raise SourceError("not_readable", f"{self._path} cannot be read: {error.strerror}") from error

    def _unplayable(self, error: AudioError) -> SourceError:
        return SourceError("not_audio", f"{self._path} cannot be played: {error}")

    def _empty(self) -> SourceError:
        return SourceError("not_audio", f"{self._path} holds no sound")
