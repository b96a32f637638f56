"""Cameras whose sound the server pulls: it is told their address again when they come back."""

from typing import TYPE_CHECKING

from homeassistant.const import STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.core import CoreState, Event, EventStateChangedData, HomeAssistant, callback
from homeassistant.helpers.event import async_track_state_change_event
from homeassistant.helpers.start import async_at_started

from .const import CONF_CAMERA, SUBENTRY_MICROPHONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from homeassistant.config_entries import ConfigEntry

_ABSENT = (None, STATE_UNAVAILABLE, STATE_UNKNOWN)


class CameraWatch:
    """Calls back when a camera of an entry's microphones comes back: its address may be another."""

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry, came_back: Callable[[], None]) -> None:
        self._hass = hass
        self._entry = entry
        self._came_back = came_back
        self._unsubscribe: Callable[[], None] | None = None
        self.update()
        entry.async_on_unload(self.stop)
        if hass.state is not CoreState.running:
            entry.async_on_unload(async_at_started(hass, self._started))

    @callback
    def update(self) -> None:
        """Watch the cameras that the microphones have now."""
        self.stop()
        cameras = {
            subentry.data[CONF_CAMERA]
            for subentry in self._entry.get_subentries_of_type(SUBENTRY_MICROPHONE)
            if CONF_CAMERA in subentry.data
        }
        if cameras:
            self._unsubscribe = async_track_state_change_event(self._hass, cameras, self._changed)

    @callback
    def stop(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    @callback
    def _changed(self, event: Event[EventStateChangedData]) -> None:
        old, new = event.data["old_state"], event.data["new_state"]
        if (old and old.state) in _ABSENT and (new and new.state) not in _ABSENT:
            self._came_back()

    @callback
    def _started(self, _: HomeAssistant) -> None:
        if self._unsubscribe is not None:
            self._came_back()
