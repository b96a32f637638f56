"""Desired state: what Home Assistant wants the server's microphones to be."""

import logging
from typing import TYPE_CHECKING, Any

from homeassistant.components.camera import async_get_stream_source
from homeassistant.core import CoreState, HomeAssistant
from homeassistant.exceptions import HomeAssistantError

from .client import ClapSoundClient, InvalidRequestError
from .client.url import is_stream_url
from .const import (
    CONF_CAMERA,
    CONF_DENOISE,
    CONF_HOP_S,
    CONF_LABEL,
    CONF_LABELS,
    CONF_MICROPHONE,
    CONF_NEGATIVES,
    CONF_RECORDING,
    CONF_SERVER_SOURCE,
    CONF_SOURCE,
    CONF_THRESHOLD,
    DEFAULT_HOP_S,
    OWNER_SERVER,
    SOURCE_CAMERA,
    SOURCE_SERVER,
    SOURCE_URL,
    SUBENTRY_MICROPHONE,
)
from .issues import clear_microphone_issue, set_microphone_issue

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from homeassistant.config_entries import ConfigEntry, ConfigSubentry

    from .client.models import MicrophoneInfo

_LOGGER = logging.getLogger(__name__)


class CameraError(HomeAssistantError):
    """A camera entity gives no address of a stream.

    Attributes:
        key: translation key of the reason.
    """

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def owner(entry_id: str) -> str:
    """Return the owner under which a config entry's microphones are declared."""
    return f"home_assistant:{entry_id}"


def microphone_id(subentry: ConfigSubentry) -> str:
    """Return the id of a subentry's microphone on the server."""
    return str(subentry.data.get(CONF_MICROPHONE, subentry.subentry_id))


def is_adopted(subentry: ConfigSubentry) -> bool:
    """Whether the microphone was the server's before."""
    return bool(subentry.data[CONF_SOURCE] == SOURCE_SERVER)


async def camera_stream_url(hass: HomeAssistant, entity_id: str) -> str:
    """Ask a camera entity for the address of its stream.

    Raises:
        CameraError: it is not there, is off, or has no stream that a server elsewhere can pull.
    """
    try:
        url = await async_get_stream_source(hass, entity_id)
    except HomeAssistantError as error:
        raise CameraError("camera_unavailable") from error
    if url is None or not is_stream_url(url):
        raise CameraError("camera_no_stream")
    return url


def microphone_settings(
    name: str, source: Mapping[str, Any], data: Mapping[str, Any], owner_name: str
) -> dict[str, Any]:
    """Build what PUT /api/microphones/{id} wants from the data of a subentry."""
    # Only what differs from the server's defaults, which earlier versions of it do not know.
    recording = data.get(CONF_RECORDING)
    return {
        **({CONF_RECORDING: dict(recording)} if recording else {}),
        **({CONF_DENOISE: True} if data.get(CONF_DENOISE) else {}),
        "name": name,
        "source": dict(source),
        "labels": [
            {"label": choice[CONF_LABEL], "threshold": choice.get(CONF_THRESHOLD)}
            for choice in data[CONF_LABELS]
        ],
        "negatives": list(data.get(CONF_NEGATIVES, ())),
        "hop_s": data.get(CONF_HOP_S, DEFAULT_HOP_S),
        "enabled": True,
        "owner": owner_name,
    }


class DesiredState:
    """Declares a config entry's microphones to its server."""

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry, client: ClapSoundClient) -> None:
        self._hass = hass
        self._entry = entry
        self._client = client
        self._owner = owner(entry.entry_id)
        self._troubled: set[str] = set()

    async def apply(self, known: Mapping[str, MicrophoneInfo]) -> list[MicrophoneInfo]:
        """Make the server's microphones what the subentries say; returns them as the server has them.

        What the server refuses becomes a repair issue and does not hinder the rest.

        Args:
            known: what the server has now, by id.

        Raises:
            ClapSoundError: the server does not answer.
        """
        for subentry_id in self._troubled - self._entry.subentries.keys():
            self._mended(subentry_id)
        wanted = {
            microphone_id(subentry): subentry
            for subentry in self._entry.get_subentries_of_type(SUBENTRY_MICROPHONE)
        }
        await self._release(microphone for microphone in known.values() if microphone.id not in wanted)
        declared = [await self._declare(subentry, known) for subentry in wanted.values()]
        return [microphone for microphone in declared if microphone is not None]

    async def release_all(self) -> None:
        """Leave the server without any microphone of this entry.

        Raises:
            ClapSoundError: the server does not answer.
        """
        await self._release(await self._client.microphones())

    async def _release(self, microphones: Iterable[MicrophoneInfo]) -> None:
        """Give up those of them that are this entry's."""
        for microphone in microphones:
            if microphone.owner == self._owner:
                await self._client.release_microphone(microphone.id, self._owner)

    async def _declare(
        self, subentry: ConfigSubentry, known: Mapping[str, MicrophoneInfo]
    ) -> MicrophoneInfo | None:
        identifier = microphone_id(subentry)
        present = known.get(identifier)
        try:
            source = await self._source(subentry, present)
        except CameraError as error:
            self._camera_failed(subentry, error)
            return None
        settings = microphone_settings(subentry.title, source, subentry.data, self._owner)
        forgotten = present is None or (present.owner == self._owner and not present.adopted)
        try:
            if is_adopted(subentry) and forgotten:
                # The server lost its database, or the microphone was adopted before servers remembered that.
                await self._client.put_microphone(identifier, {**settings, "owner": OWNER_SERVER})
            microphone = await self._client.put_microphone(identifier, settings)
        except InvalidRequestError as error:
            _LOGGER.warning("The server refuses the microphone %s: %s", subentry.title, error.detail)
            self._trouble(subentry, "microphone_refused", error.detail)
            return None
        self._mended(subentry.subentry_id)
        return microphone

    async def _source(self, subentry: ConfigSubentry, known: MicrophoneInfo | None) -> Mapping[str, Any]:
        kind = subentry.data[CONF_SOURCE]
        if kind == SOURCE_CAMERA:
            url = await camera_stream_url(self._hass, subentry.data[CONF_CAMERA])
            return {"type": "url", "url": url}
        if kind == SOURCE_URL:
            return {"type": "url", "url": subentry.data[SOURCE_URL]}
        # Read back redacted; the server puts the password back that it knows.
        source: Mapping[str, Any] = known.source if known else subentry.data[CONF_SERVER_SOURCE]
        return source

    def _camera_failed(self, subentry: ConfigSubentry, error: CameraError) -> None:
        """Leave the microphone as the server has it; the camera is asked again when it changes."""
        if self._hass.state is not CoreState.running:
            return
        _LOGGER.warning(
            "The camera %s of microphone %s gives no stream (%s)",
            subentry.data[CONF_CAMERA],
            subentry.title,
            error.key,
        )
        self._trouble(subentry, error.key, subentry.data[CONF_CAMERA])

    def _trouble(self, subentry: ConfigSubentry, key: str, detail: str) -> None:
        self._troubled.add(subentry.subentry_id)
        set_microphone_issue(self._hass, subentry, key, detail)

    def _mended(self, subentry_id: str) -> None:
        self._troubled.discard(subentry_id)
        clear_microphone_issue(self._hass, subentry_id)
