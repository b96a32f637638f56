from __future__ import annotations

import errno

import av.error
import pytest

from clap_server.audio.stream_errors import broke_off, explain

ADDRESS = "rtsp://user:hunter2@camera/x?token=abc"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (av.error.OSError(errno.EHOSTUNREACH, "No route to host", ADDRESS), "unreachable"),
        (av.error.OSError(errno.ENETUNREACH, "Network is unreachable", ADDRESS), "unreachable"),
        (av.error.ConnectionResetError(errno.ECONNRESET, "Connection reset by peer", ADDRESS), "ended"),
        (av.error.BrokenPipeError(errno.EPIPE, "Broken pipe", ADDRESS), "ended"),
        (av.error.TimeoutError(errno.ETIMEDOUT, "Connection timed out", ADDRESS), "timeout"),
        (av.error.OSError(errno.EIO, f"Input/output error on {ADDRESS}", ADDRESS), "not_usable"),
        (av.error.PatchWelcomeError(1163346256, "Not yet implemented in FFmpeg", ADDRESS), "not_usable"),
        (av.error.HTTPOtherClientError(455, "Server returned 4XX", ADDRESS), "refused_by_server"),
    ],
)
def test_errors_become_codes_and_words_without_secrets(error: av.error.FFmpegError, code: str) -> None:
    explained = explain(error, "camera", 10.0)
    assert explained.code == code
    assert explained.reason
    assert "hunter2" not in explained.reason
    assert "abc" not in explained.reason
    assert "ffmpeg" not in explained.reason.lower()


def test_a_stream_that_was_open_broke_off() -> None:
    error = av.error.OSError(errno.EIO, f"Input/output error on {ADDRESS}", ADDRESS)
    assert broke_off(error, "camera", 10.0).reason == "the connection to the camera broke off"
    refused = av.error.ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused", ADDRESS)
    assert broke_off(refused, "camera", 10.0).code == "refused"
