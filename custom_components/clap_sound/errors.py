"""Errors of entities and actions, in the user's language."""

from typing import TYPE_CHECKING

from homeassistant.exceptions import HomeAssistantError, ServiceValidationError

from .client import ClapSoundError, InvalidRequestError
from .const import DOMAIN

if TYPE_CHECKING:
    from .client import ClapSoundClient


def cannot_connect(client: ClapSoundClient, error: ClapSoundError) -> HomeAssistantError:
    """Make the error of a server that does not answer as it should."""
    return HomeAssistantError(
        translation_domain=DOMAIN,
        translation_key="cannot_connect",
        translation_placeholders={"address": str(client.url), "detail": str(error)},
    )


def invalid(key: str, **placeholders: str) -> ServiceValidationError:
    """Make the error of an action that was asked for what cannot be."""
    return ServiceValidationError(
        translation_domain=DOMAIN, translation_key=key, translation_placeholders=placeholders
    )


def of_server(client: ClapSoundClient, error: ClapSoundError) -> HomeAssistantError:
    """Make the error of an action: what the server says of a bad request, or that it does not answer."""
    if isinstance(error, InvalidRequestError):
        return invalid("refused", detail=error.detail)
    return cannot_connect(client, error)
