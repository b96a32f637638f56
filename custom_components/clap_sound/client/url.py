"""Passwords in addresses of streams."""

from __future__ import annotations

from yarl import URL

REDACTED = "***"
STREAM_SCHEMES = frozenset({"rtsp", "rtsps", "http", "https"})


def is_stream_url(url: str) -> bool:
    """Whether it is an absolute rtsp(s) or http(s) address with a host."""
    try:
        parsed = URL(url)
    except ValueError:
        return False
    return parsed.scheme in STREAM_SCHEMES and bool(parsed.host)


def redact_url(url: str) -> str:
    """Replace the password of an address by asterisks."""
    password = _password_in(url)
    if not password:
        return url
    scheme, rest = url.split("://", 1)
    userinfo, host = _split_userinfo(rest)
    return f"{scheme}://{userinfo.split(':', 1)[0]}:{REDACTED}@{host}"


def restore_url(url: str, old_url: str) -> str:
    """Put the password of ``old_url`` where ``url`` has asterisks.

    It is never sent elsewhere: where scheme, user, host or port are others, the asterisks stay, and
    the server asks to type the password again.
    """
    if _password_in(url) != REDACTED or not (password := _password_in(old_url)):
        return url
    if _place(url) != _place(old_url):
        return url
    scheme, rest = url.split("://", 1)
    userinfo, host = _split_userinfo(rest)
    return f"{scheme}://{userinfo.split(':', 1)[0]}:{password}@{host}"


def _place(url: str) -> tuple[str, str, str]:
    scheme, rest = url.split("://", 1)
    userinfo, after = _split_userinfo(rest)
    return scheme, userinfo.split(":", 1)[0], after.split("/", 1)[0].split("?", 1)[0]


def _split_userinfo(rest: str) -> tuple[str, str]:
    """Split what follows ``scheme://`` at the last ``@`` before the path; passwords may hold one."""
    authority = rest.split("/", 1)[0].split("?", 1)[0]
    if "@" not in authority:
        return "", rest
    userinfo = authority.rsplit("@", 1)[0]
    return userinfo, rest[len(userinfo) + 1 :]


def _password_in(url: str) -> str:
    if "://" not in url:
        return ""
    userinfo, _ = _split_userinfo(url.split("://", 1)[1])
    return userinfo.split(":", 1)[1] if ":" in userinfo else ""
