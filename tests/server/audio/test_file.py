from __future__ import annotations

import os
import wave
from contextlib import aclosing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.audio.file import FileSource, media_file
from clap_server.audio.source import SourceError
from tests.server.audio.helpers import (
    RATE,
    blocks_of,
    failure,
    listen,
    picture_only,
    sine,
    strongest_hz,
    to_file,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.audio.helpers import HurriedClock


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "tone.flac").write_bytes(to_file(sine(1000, 0.5, 16_000), "flac", "flac", 16_000))
    (folder / "list.m3u8").write_bytes(b"#EXTM3U\n#EXTINF:1,\nsub/tone.flac\n#EXT-X-ENDLIST\n")
    (folder / "text.wav").write_bytes(b"not sound" * 100)
    (folder / "film.mp4").write_bytes(picture_only())
    (tmp_path / "secret.flac").write_bytes((folder / "sub" / "tone.flac").read_bytes())
    return folder


async def test_a_file_plays_once(media: Path) -> None:
    samples = await listen(FileSource("sub/tone.flac", media, loop=False), 1e9)
    assert len(samples) == pytest.approx(RATE / 2, abs=4)
    assert strongest_hz(samples) == pytest.approx(1000, abs=5)


async def test_a_file_plays_in_real_time(media: Path, hurried_clock: HurriedClock) -> None:
    (media / "long.flac").write_bytes(to_file(sine(1000, 20.0, 16_000), "flac", "flac", 16_000))
    await listen(FileSource("long.flac", media, loop=False), 1e9)
    assert hurried_clock.elapsed_s == pytest.approx(20, abs=0.5)


async def test_a_loop_has_no_gap(media: Path) -> None:
    # Half a second of 1 kHz ends where it begins, so the loop is one long tone.
    samples = await listen(FileSource("sub/tone.flac", media, loop=True), 1.3)
    expected = sine(1000, len(samples) / RATE)
    np.testing.assert_allclose(samples[4800:-4800], expected[4800:-4800], atol=5e-3)


@pytest.mark.parametrize(
    "path",
    ["../secret.flac", "sub/../../secret.flac", "link.flac", "folder/secret.flac", "/etc/passwd", "a\0b"],
)
async def test_nothing_outside_the_media_folder_is_read(path: str, media: Path) -> None:
    (media / "link.flac").symlink_to(media.parent / "secret.flac")
    (media / "folder").symlink_to(media.parent)
    error = await failure(FileSource(path, media))
    assert error.code == "outside_media_folder"


def test_a_link_within_the_media_folder_is_fine(media: Path) -> None:
    (media / "link.flac").symlink_to("sub/tone.flac")
    assert media_file("link.flac", media) == (media / "sub" / "tone.flac").resolve()


@pytest.mark.parametrize("path", ["gone.wav", "sub", "", "pipe"])
def test_only_files_are_played(path: str, media: Path) -> None:
    os.mkfifo(media / "pipe")
    with pytest.raises(SourceError) as caught:
        media_file(path, media)
    assert caught.value.code == "not_found"


def test_a_server_without_a_media_folder_says_so() -> None:
    with pytest.raises(SourceError, match="--media") as caught:
        media_file("x.wav", None)
    assert caught.value.code == "no_media_folder"


@pytest.mark.parametrize("path", ["text.wav", "list.m3u8", "film.mp4", "empty.wav", "no_samples.wav"])
async def test_what_is_not_audio_is_said_so(path: str, media: Path) -> None:
    (media / "empty.wav").write_bytes(b"")
    with wave.open(str(media / "no_samples.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
    error = await failure(FileSource(path, media))
    assert error.code == "not_audio"
    assert str(media) not in error.reason


@pytest.mark.parametrize("samples", [1, 100, 800])
async def test_a_loop_too_short_to_repeat_is_refused(samples: int, media: Path) -> None:
    with wave.open(str(media / "click.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        file.writeframes(bytes(2 * samples))
    error = await failure(FileSource("click.wav", media, loop=True))
    assert error.code == "not_usable"
    assert "choose a longer recording" in error.reason
    assert (await listen(FileSource("click.wav", media, loop=False), 1e9)).size


async def test_why_a_file_cannot_be_played_is_said(media: Path) -> None:
    changing = b"".join(to_file(sine(1000, 0.3), "ogg", "libopus", channels=count) for count in (1, 2))
    (media / "changing.ogg").write_bytes(changing)
    error = await failure(FileSource("changing.ogg", media))
    assert error.code == "not_audio"
    assert "the number of channels changes on the way" in error.reason


@pytest.mark.parametrize("loop", [False, True])
async def test_a_file_at_a_rate_that_is_none_of_sound_is_refused_with_the_reason(
    loop: bool, media: Path
) -> None:
    with wave.open(str(media / "slow.wav"), "wb") as file:
        file.setparams((1, 2, 1, 0, "NONE", "not compressed"))
        file.writeframes(bytes(4000))
    error = await failure(FileSource("slow.wav", media, loop=loop))
    assert error.code == "not_audio"
    assert "sample rate of 1 Hz is not supported" in error.reason


async def test_a_stereo_file_that_cancels_itself_is_heard_and_noticed(media: Path) -> None:
    tone = np.round(sine(1000, 0.5) * 32767).astype("<i2")
    with wave.open(str(media / "turned.wav"), "wb") as file:
        file.setparams((2, 2, RATE, 0, "NONE", "not compressed"))
        file.writeframes(np.stack((tone, -tone), axis=1).tobytes())
    seen = [block async for block in blocks_of(FileSource("turned.wav", media, loop=False))]
    assert np.abs(seen[-1].samples).max() == pytest.approx(0.5, abs=0.01)
    assert seen[-1].notice == "left and right cancel each other: only the left channel is used"


async def test_a_file_that_is_removed_while_it_loops_is_said_so(media: Path) -> None:
    async with aclosing(blocks_of(FileSource("sub/tone.flac", media))) as blocks:
        await anext(blocks)
        (media / "sub" / "tone.flac").unlink()
        with pytest.raises(SourceError, match="cannot be read: No such file") as caught:
            async for _ in blocks:
                pass
    assert caught.value.code == "not_readable"
