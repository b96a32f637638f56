"""Secrets in addresses of streams."""

from __future__ import annotations

import re

from yarl import URL

REDACTED = "***"
# Cameras take secrets as parameters too, some as 'user=..&password=..' within the path.
_SECRET_PARAMETER = re.compile(
    r"(?P<name>[?&;/_][\w.-]*?(?:token|passw(?:or)?d|pass|pwd|secret|auth|sig(?:nature)?|session|sid|jwt|key)=)"
    r"(?P<value>[^&#;/]+)",
    re.IGNORECASE,
)
STREAM_SCHEMES = frozenset({"rtsp", "rtsps", "http", "https"})


def is_stream_url(url: str) -> bool:
    """Whether it is an absolute rtsp(s) or http(s) address with a host."""
    try:
        parsed = URL(url)
    except ValueError:
        return False
    return parsed.scheme in STREAM_SCHEMES and bool(parsed.host)


def redact_url(url: str) -> str:
    """Replace the secrets of an address by asterisks: its password, and parameters such as ``token``."""
    if "://" not in url:
        return url
    scheme, rest = url.split("://", 1)
    userinfo, after = _split_userinfo(rest)
    host, path = _split_path(after)
    if ":" in userinfo:
        userinfo = f"{userinfo.split(':', 1)[0]}:{REDACTED}"
    path = _SECRET_PARAMETER.sub(lambda match: match["name"] + REDACTED, path)
    return f"{scheme}://{userinfo}{'@' if userinfo else ''}{host}{path}"


def restore_url(url: str, old_url: str) -> str:
    """Put the secrets of ``old_url`` where ``url`` has asterisks.

    They are never sent elsewhere: where scheme, user, host or port are others, the asterisks stay, and
    the server asks to type the secret again.
    """
    if "://" not in url or "://" not in old_url or _place(url) != _place(old_url):
        return url
    scheme, rest = url.split("://", 1)
    userinfo, after = _split_userinfo(rest)
    host, path = _split_path(after)
    if _password_in(url) == REDACTED and (password := _password_in(old_url)):
        userinfo = f"{userinfo.split(':', 1)[0]}:{password}"
    _, old_path = _split_path(_split_userinfo(old_url.split("://", 1)[1])[1])
    old = {_parameter(match): match["value"] for match in _SECRET_PARAMETER.finditer(old_path)}

    def put_back(match: re.Match[str]) -> str:
        value = match["value"]
        return match["name"] + (old.get(_parameter(match), value) if value == REDACTED else value)

    path = _SECRET_PARAMETER.sub(put_back, path)
    return f"{scheme}://{userinfo}{'@' if userinfo else ''}{host}{path}"


def _parameter(match: re.Match[str]) -> str:
    return match["name"].lstrip("?&;/_")


def _place(url: str) -> tuple[str, str, str]:
    scheme, rest = url.split("://", 1)
    userinfo, after = _split_userinfo(rest)
    return scheme, userinfo.split(":", 1)[0], _split_path(after)[0]


def _split_path(after: str) -> tuple[str, str]:
    """Split what follows the user at the end of the host and port."""
    host = re.split(r"[/?#]", after, maxsplit=1)[0]
    return host, after[len(host) :]


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
