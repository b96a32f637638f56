"""The errors of the client; every message says what to do."""

from __future__ import annotations

from typing import Literal


class ClapSoundError(Exception):
    """Base of all errors of this package."""


class ClapSoundConnectionError(ClapSoundError):
    """The server does not answer, or the connection broke off."""


class ClapSoundAuthenticationError(ClapSoundError):
    """The server does not accept the token."""


class UnexpectedAnswerError(ClapSoundError):
    """Something answers, but not as a CLAP Sound server does."""


class ApiVersionError(ClapSoundError):
    """The server speaks another version of the API.

    Attributes:
        server_version: what the server speaks.
        client_version: what this client speaks.
        update: the side that is too old.
    """

    def __init__(self, server_version: int, client_version: int) -> None:
        self.server_version = server_version
        self.client_version = client_version
        self.update: Literal["server", "integration"] = (
            "server" if server_version < client_version else "integration"
        )
        super().__init__(
            f"The server speaks version {server_version} of the API and this client version "
            f"{client_version}: update the {self.update}"
        )


class InvalidRequestError(ClapSoundError):
    """The server refuses what it was asked (HTTP 4xx).

    Attributes:
        status: HTTP status.
        code: last part of the problem's ``type`` (RFC 9457), such as ``invalid_url``; empty if there is none.
        detail: what to do, in words.
    """

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


class NotFoundError(InvalidRequestError):
    """The server does not have what was asked for (HTTP 404)."""


class ServerError(ClapSoundError):
    """The server failed (HTTP 5xx); its log says why."""
