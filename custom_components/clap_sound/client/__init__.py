"""Typed client of a CLAP Sound server's API, version 1. Needs aiohttp only, not Home Assistant."""

from .client import ClapSoundClient
from .connection import Connection
from .exceptions import (
    ApiVersionError,
    ClapSoundAuthenticationError,
    ClapSoundConnectionError,
    ClapSoundError,
    InvalidRequestError,
    NotFoundError,
    ServerError,
    UnexpectedAnswerError,
)
from .models import API_VERSION

__all__ = [
    "API_VERSION",
    "ApiVersionError",
    "ClapSoundAuthenticationError",
    "ClapSoundClient",
    "ClapSoundConnectionError",
    "ClapSoundError",
    "Connection",
    "InvalidRequestError",
    "NotFoundError",
    "ServerError",
    "UnexpectedAnswerError",
]
