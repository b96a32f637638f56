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
    (
        (av.error.PatchWelcomeError,),
        "not_usable",
        "the {who} sends a format that cannot be read: choose another one in its settings",
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


def no_decoder(who: str) -> SourceError:
    """There is sound, but FFmpeg has no decoder for any of it."""
    return SourceError(
        "not_usable",
        f"the {who} sends its sound in a format that cannot be decoded: "
        "choose another one in its settings, such as AAC or G.711",
    )


def changed_format(who: str) -> SourceError:
    """FFmpeg cannot follow a stream into another format; a new connection begins with it."""
    return SourceError("ended", f"the {who} changed sample rate or channels: connecting again")


def no_transport() -> SourceError:
    """The camera takes neither way of sending."""
    return SourceError(
        "not_usable",
        "the camera refuses to send sound over TCP as well as over UDP: allow one of them in its settings",
    )


def udp_is_lost(timeout_s: float) -> SourceError:
    """The camera sends over UDP, and nothing arrives."""
    return SourceError(
        "not_usable",
        f"the camera sends sound over UDP only, and none arrived within {timeout_s:g} s: "
        "let UDP from the camera through to this server, or switch RTSP over TCP on in the camera",
    )


def ended(who: str) -> SourceError:
    """The stream was there and is over."""
    return SourceError("ended", f"the {who} ended the stream")


def no_answer(who: str, timeout_s: float) -> SourceError:
    """Nothing came for so long."""
    reason = f"no answer from the {who} within {timeout_s:g} s: check the address and the network"
    return SourceError("timeout", reason)


def no_segment(error: SourceError) -> SourceError:
    """The playlist was there; what is in it was not."""
    if error.code not in {"not_audio", "timeout"}:
        return error
    return SourceError(
        error.code,
        "the server's playlist can be read, but none of the segments in it holds sound: check the address,"
        " and that the stream is on",
    )


def broke_off(error: av.error.FFmpegError, who: str, timeout_s: float) -> SourceError:
    """As ``explain``, for a stream that was open."""
    if error.errno == errno.EIO:
        return SourceError("ended", f"the connection to the {who} broke off")
    return explain(error, who, timeout_s)


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
