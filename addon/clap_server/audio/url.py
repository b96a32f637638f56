"""Addresses of streams: which are allowed, and how their secrets stay secret."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import unquote, urlsplit

from clap_server.audio.source import SourceError

ALLOWED_SCHEMES = frozenset({"rtsp", "rtsps", "http", "https"})
MAX_URL_LENGTH = 2048
MAX_ESCAPES = 3
# Besides the link-local ones: of Amazon, Google, Alibaba and Microsoft.
_METADATA = frozenset(map(ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16")))
SECRET = "***"

_URL = re.compile(r"^(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<authority>[^/?#]*)(?P<rest>.*)$", re.DOTALL)
# The one list of what counts as a secret; clients get addresses without them and need no list of their own.
_SECRET_NAME = re.compile(
    r"token|passw|passphrase|secret|cred|auth|signature|session|jwt|hmac|wsse"
    r"|(?:pass?|pwd|psw|psk|pw|sig|sid|key|passcode|pincode|accesscode)\d*[\W_]*$"
    r"|(?:^|[\W_]|(?-i:(?<=[a-z])(?=[A-Z])))(?:code|access|pin|otp|tok|response)\d*[\W_]*$",
    re.IGNORECASE,
)
# Cameras take secrets as query parameters, and some as 'user=..&password=..' within the path. Letters of the
# name and what follows it may be escaped.
_NAME = re.compile(
    r"(?:(?<![\w.\[\]-])(?!(?<=%)[0-9A-F]{2})|(?<=%3D)|(?<=%3A))(?P<name>(?:[\w.\[\]-]|%[0-9A-F]{2})+?)(?:=|:|%3D|%3A)",
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
    sent_password, sent = _secrets(redacted)
    if sent_password != SECRET and all(each.value != SECRET for each in sent):
        return redacted
    if old_url is None or _place(redact_url(redacted)) != _place(redact_url(old_url)):
        raise _secret_needed()
    match = _URL.match(redacted)
    if match is None:
        raise _secret_needed()
    old_password, old = _secrets(old_url)
    authority, rest = match["authority"], match["rest"]
    if sent_password == SECRET:
        if old_password is None:
            raise _secret_needed()
        user_info, _, host_port = authority.rpartition("@")
        user, colon, _ = user_info.partition(":")
        authority = f"{user}:{old_password}@{host_port}" if colon else f"{old_password}@{host_port}"
    return f"{match['scheme']}{authority}{_replace(rest, sent, _restored(sent, old))}"


def _restored(sent: list[_Parameter], old: list[_Parameter]) -> list[str]:
    """The values of parameters, of which some were sent as ``***``.

    Raises:
        SourceError: ``secret_needed``.
    """
    values = []
    for index, parameter in enumerate(sent):
        if parameter.value != SECRET:
            values.append(parameter.value)
            continue
        known = [each.value for each in old if each.name == parameter.name]
        count = sum(each.name == parameter.name for each in sent)
        # One of several of the same name is known by its place alone.
        if not known or (len(known) != count and len(set(known)) > 1):
            raise _secret_needed()
        place = sum(each.name == parameter.name for each in sent[:index])
        values.append(known[min(place, len(known) - 1)])
    return values


def _unsupported(reason: str) -> SourceError:
    return SourceError("unsupported_url", reason)


def _secret_needed() -> SourceError:
    return SourceError(
        "secret_needed", "the address changed: type its password or token again instead of ***"
    )


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A secret in an address, and where its value is."""

    name: str
    value: str
    start: int


def _parameters(text: str) -> list[_Parameter]:
    """The secret parameters of what follows an address's authority."""
    found: list[_Parameter] = []
    after_last = 0
    for match in _NAME.finditer(text):
        if match.start() < after_last or not _SECRET_NAME.search(_decoded(match["name"])):
            continue
        # A value may hold anything, so that only the next parameter ends it.
        end = text.find("&", match.end())
        value = text[match.end() : end if end >= 0 else None]
        if value:
            found.append(_Parameter(match["name"], value, match.end()))
            after_last = match.end() + len(value)
    return found


def _decoded(name: str) -> str:
    """A name without escapes, which may have been escaped themselves."""
    for _ in range(MAX_ESCAPES):
        name = unquote(name)
    return name


def _replace(text: str, parameters: list[_Parameter], values: list[str]) -> str:
    """Give parameters other values."""
    parts = []
    position = 0
    for parameter, value in zip(parameters, values, strict=True):
        parts += [text[position : parameter.start], value]
        position = parameter.start + len(parameter.value)
    return "".join([*parts, text[position:]])


def _redact_parameters(text: str) -> str:
    found = _parameters(text)
    return _replace(text, found, [SECRET] * len(found))


def _place(url: str) -> tuple[str, str]:
    """Scheme and authority (its password already replaced)."""
    match = _URL.match(url)
    return (match["scheme"].lower(), match["authority"].lower()) if match else ("", url)


def _secrets(url: str) -> tuple[str | None, list[_Parameter]]:
    """The secret of the authority, if it has one, and the others."""
    match = _URL.match(url)
    if match is None:
        return None, []
    user_info, at, _ = match["authority"].rpartition("@")
    _, colon, password = user_info.partition(":")
    return (password if colon else user_info) if at else None, _parameters(match["rest"])
