"""What FFmpeg's errors mean to a user, as codes and words without secrets."""

from __future__ import annotations

import errno

import av.error

from clap_server.audio.source import SourceError
from clap_server.audio.url import redact_text

_UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})
_CLOSED = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ENOTCONN})

# First match wins.
_WORDS: tuple[tuple[tuple[type[av.error.FFmpegError], ...], str, str], ...] = (
    (
        (av.error.HTTPUnauthorizedError,),
        "unauthorized",
        "401 from {who}: check the user name and password",
    ),
    ((av.error.HTTPForbiddenError,), "forbidden", "403 from {who}: this user may not listen to it"),
    ((av.error.HTTPNotFoundError,), "not_found", "404 from {who}: check the path of the address"),
    (
        (av.error.HTTPError, av.error.HTTPClientError),
        "refused_by_server",
        "the {who} answered with an error: check the address",
    ),
    (
        (av.error.ConnectionRefusedError,),
        "refused",
        "connection refused: check host and port, and that the {who} is on",
    ),
    ((av.error.EOFError,), "ended", "the {who} closed the connection at once"),
    (
        (av.error.InvalidDataError, av.error.DemuxerNotFoundError, av.error.DecoderNotFoundError),
        "not_audio",
        "the {who} answers, but not with sound that can be read: check the address",
    ),
)


def no_audio_track(who: str) -> SourceError:
    """The stream has a picture or nothing, but no sound."""
    return SourceError("no_audio_track", f"{who} has no audio track: switch audio on in the {who}'s settings")


def ended(who: str) -> SourceError:
    """The stream was there and is over."""
    return SourceError("ended", f"the {who} ended the stream")


def no_answer(who: str, timeout_s: float) -> SourceError:
    """Nothing came for so long."""
    reason = f"no answer from the {who} within {timeout_s:g} s: check the address and the network"
    return SourceError("timeout", reason)


def explain(error: av.error.FFmpegError, who: str, timeout_s: float) -> SourceError:
    """Put an error of FFmpeg into words.

    Args:
        error: as PyAV raised it.
        who: ``camera`` or ``server``.
        timeout_s: how long was waited, in seconds.
    """
    for kinds, code, reason in _WORDS:
        if isinstance(error, kinds):
            return SourceError(code, reason.format(who=who))
    if isinstance(error, (av.error.ExitError, av.error.TimeoutError)):
        return no_answer(who, timeout_s)
    if error.errno in _UNREACHABLE:
        return SourceError("unreachable", "the host cannot be reached: check the address and the network")
    if error.errno in _CLOSED:
        return SourceError("ended", f"the {who} closed the connection")
    words = redact_text(str(error.strerror)).lower()
    return SourceError("not_usable", f"the stream cannot be used ({words}): check the address")
