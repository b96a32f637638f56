"""Addresses of streams: which are allowed, and how their secrets stay secret."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from clap_server.audio.source import SourceError

ALLOWED_SCHEMES = frozenset({"rtsp", "rtsps", "http", "https"})
MAX_URL_LENGTH = 2048
# Besides the link-local ones: of Amazon, Google, Alibaba and Microsoft.
_METADATA = frozenset(map(ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16")))
SECRET = "***"  # noqa: S105 - what stands in its place

_URL = re.compile(r"^(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<authority>[^/?#]*)(?P<rest>.*)$", re.DOTALL)
# The one list of what counts as a secret; clients get addresses without them and need no list of their own.
# Cameras take secrets as query parameters, and some as 'user=..&password=..' within the path. A value may
# hold anything, so that only the next parameter ends it.
_SECRET_PARAMETER = re.compile(
    r"(?P<name>(?:^|[?&;/_#])[\w.-]*?"
    r"(?:(?:token|passw|passphrase|secret|credential|auth|signature|session|jwt)[\w.-]*"
    r"|(?:pass?|pwd|psw|psk|pw|sig|sid|key)\d*)=)"
    r"(?P<value>[^&]+)",
    re.IGNORECASE,
)
# A password may hold quotes, so only a space ends an address, or what surrounds it in a sentence.
_URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+?(?=['\"<>).,;:]*(?:\s|$))")
_ESCAPES = "in a user name or password write / as %2F, @ as %40, : as %3A, ? as %3F and # as %23"


def check_url(url: str) -> None:
    """Accept an address that sound may be pulled from.

    Raises:
        SourceError: with code ``unsupported_url`` and what to do about it; never quotes the address.
    """
    if len(url) > MAX_URL_LENGTH:
        raise _unsupported(f"the address is longer than {MAX_URL_LENGTH} characters")
    if not url.isprintable() or " " in url:
        raise _unsupported("the address holds a space or a control character: write a space as %20")
    match = _URL.match(url)
    if match is None or match["scheme"][:-3].lower() not in ALLOWED_SCHEMES:
        raise _unsupported("the address must begin with rtsp://, rtsps://, http:// or https://")
    if "@" in match["rest"]:
        # What stands before it may be the rest of a password that began in the host's or port's place.
        raise _unsupported(f"there is an @ after the host: {_ESCAPES}, and @ in a path as %40 too")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise _unsupported(f"host or port of the address cannot be read: {_ESCAPES}") from error
    if not host:
        raise _unsupported("the address names no host: write rtsp://host/path")
    if parts.port == 0:
        raise _unsupported("port 0 does not exist: use 1 to 65535")
    check_host(host)


def check_host(host: str) -> None:
    """Accept a host's name or address, unless it is link-local or where clouds keep secrets.

    Raises:
        SourceError: ``unsupported_url``.
    """
    address = _ip_address(host)
    if (address is not None and address.is_link_local) or keeps_secrets(host):
        raise _unsupported("the address is link-local: give the camera an address of your network")


def keeps_secrets(host: str) -> bool:
    """Whether an address is one at which clouds answer their machines with passwords and keys.

    Link-local addresses of IPv6 are not: names of the home (``camera.local``) often have one besides others.
    """
    address = _ip_address(host)
    return address in _METADATA or (isinstance(address, IPv4Address) and address.is_link_local)


def _ip_address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is written as, in any of the ways that a resolver reads; None for a name."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        try:
            # Such as 2852039166 or 0xa9.254.43518.
            return IPv4Address(socket.inet_aton(host))
        except (OSError, UnicodeError):
            return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address


def play_url(url: str) -> str:
    """The same address as FFmpeg wants it, which knows schemes in small letters alone."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme.lower()}{separator}{rest}"


def redact_url(url: str) -> str:
    """Replace user secrets by ``***``, for reading back: ``rtsp://user:***@host/path``.

    Also covers the usual secret parameters (``?token=***``). Nothing is shown of an address with an ``@``
    after its host, which ``check_url`` refuses: any part of it may be a password with an unescaped ``/``,
    ``?`` or ``#``. Text that is no address at all comes back with the same replacements where they apply.
    """
    match = _URL.match(url)
    if match is None:
        return _redact_parameters(url)
    authority, rest = match["authority"], match["rest"]
    if "@" in rest:
        return f"{match['scheme']}{SECRET}"
    user_info, at, host_port = authority.rpartition("@")
    if at:
        user, colon, _ = user_info.partition(":")
        authority = f"{user}:{SECRET}@{host_port}" if colon else f"{SECRET}@{host_port}"
    return f"{match['scheme']}{authority}{_redact_parameters(rest)}"


def redact_text(text: str) -> str:
    """Redact every address inside a message, such as FFmpeg's errors hold."""
    return _URL_IN_TEXT.sub(lambda match: redact_url(match.group()), text)


def restore_url(redacted: str, old_url: str | None) -> str:
    """Put the old secrets back into an address that a client read redacted and sent back.

    Path and other parameters may have changed. The old secrets are never sent elsewhere: scheme, user,
    host and port must be the same.

    Args:
        redacted: what the client sent; returned as it is when it holds no ``***`` in a secret's place.
        old_url: the address in force, if there is one.

    Raises:
        SourceError: with code ``secret_needed``: the secret cannot be known, the user has to type it again.
    """
    if redacted.endswith(f"://{SECRET}"):
        raise _secret_needed()
    placeholders = _secrets(redacted)
    if SECRET not in placeholders.values():
        return redacted
    old = _secrets(old_url) if old_url is not None else {}
    new_match = _URL.match(redacted)
    old_match = _URL.match(old_url) if old_url is not None else None
    same_place = (
        new_match is not None
        and old_match is not None
        and _place(redact_url(redacted)) == _place(redact_url(old_url or ""))
    )
    missing = [name for name, value in placeholders.items() if value == SECRET and name not in old]
    if not same_place or missing or new_match is None:
        raise _secret_needed()
    authority, rest = new_match["authority"], new_match["rest"]
    if placeholders.get("") == SECRET:
        user_info, _, host_port = authority.rpartition("@")
        user, colon, _ = user_info.partition(":")
        authority = f"{user}:{old['']}@{host_port}" if colon else f"{old['']}@{host_port}"

    def put_back(match: re.Match[str]) -> str:
        value = old[_parameter(match)] if match["value"] == SECRET else match["value"]
        return match["name"] + value

    return f"{new_match['scheme']}{authority}{_SECRET_PARAMETER.sub(put_back, rest)}"


def _unsupported(reason: str) -> SourceError:
    return SourceError("unsupported_url", reason)


def _secret_needed() -> SourceError:
    return SourceError(
        "secret_needed", "the address changed: type its password or token again instead of ***"
    )


def _redact_parameters(text: str) -> str:
    return _SECRET_PARAMETER.sub(lambda match: match["name"] + SECRET, text)


def _parameter(match: re.Match[str]) -> str:
    return match["name"].lstrip("?&;/_#")


def _place(url: str) -> tuple[str, str]:
    """Scheme and authority (its password already replaced)."""
    match = _URL.match(url)
    return (match["scheme"].lower(), match["authority"].lower()) if match else ("", url)


def _secrets(url: str) -> dict[str, str]:
    """Secrets by parameter name; the one of the authority has an empty name."""
    match = _URL.match(url)
    if match is None:
        return {}
    found = {_parameter(hit): hit["value"] for hit in _SECRET_PARAMETER.finditer(match["rest"])}
    user_info, at, _ = match["authority"].rpartition("@")
    if at:
        _, colon, password = user_info.partition(":")
        found[""] = password if colon else user_info
    return found
