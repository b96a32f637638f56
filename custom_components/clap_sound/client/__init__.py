"""Typed client of a CLAP Sound server's API, version 1. Needs aiohttp only, not Home Assistant."""

from .client import ClapSoundClient
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
from .listener import Listener
from .models import API_VERSION

__all__ = [
    "API_VERSION",
    "ApiVersionError",
    "ClapSoundAuthenticationError",
    "ClapSoundClient",
    "ClapSoundConnectionError",
    "ClapSoundError",
    "InvalidRequestError",
    "Listener",
    "NotFoundError",
    "ServerError",
    "UnexpectedAnswerError",
]
