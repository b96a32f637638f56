"""Adding and changing a microphone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import probatio
from homeassistant.config_entries import (
    SOURCE_USER,
    ConfigEntryState,
    ConfigSubentryFlow,
    SubentryFlowResult,
)
from homeassistant.const import CONF_NAME
from homeassistant.data_entry_flow import section
from homeassistant.helpers.selector import (
    BooleanSelector,
    EntitySelector,
    EntitySelectorConfig,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
    TextSelectorConfig,
    TextSelectorType,
)
from yarl import URL

from .client import ClapSoundAuthenticationError, ClapSoundError, InvalidRequestError
from .client.url import is_stream_url
from .const import (
    CONF_ADVANCED,
    CONF_CAMERA,
    CONF_CLIP_DAYS,
    CONF_DENOISE,
    CONF_HOP_S,
    CONF_KEEP,
    CONF_LABELS,
    CONF_MAX_CLIPS,
    CONF_MAX_MB,
    CONF_MICROPHONE,
    CONF_NEGATIVES,
    CONF_POST_ROLL_S,
    CONF_PRE_ROLL_S,
    CONF_RECORDING,
    CONF_SERVER_SOURCE,
    CONF_SOURCE,
    DEFAULT_HOP_S,
    DEFAULT_RECORDING,
    KEEP_MODES,
    OWNER_SERVER,
    SOURCE_CAMERA,
    SOURCE_SERVER,
    SOURCE_URL,
    SUBENTRY_MICROPHONE,
)
from .desired import CameraError, camera_stream_url, is_adopted, microphone_settings, owner
from .label_choices import LabelChoiceError, LabelChoices
from .meaning import Meanings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .client import ClapSoundClient
    from .client.models import LabelInfo, MicrophoneInfo, WatchedLabel
    from .coordinator import ClapSoundConfigEntry, ClapSoundCoordinator

MAX_NAME_LENGTH = 100
HIDDEN = "***"
"""What the server shows instead of a password."""

# Codes of the server's answers, and the texts that say what to do.
_STREAM_ERRORS = {
    "forbidden": "stream_unauthorized",
    "host_not_found": "stream_no_answer",
    "no_audio_track": "stream_no_audio",
    "not_audio": "stream_not_audio",
    "not_found": "stream_not_found",
    "refused": "stream_no_answer",
    "stalled": "stream_no_answer",
    "timeout": "stream_no_answer",
    "unauthorized": "stream_unauthorized",
    "unreachable": "stream_no_answer",
}

_NAME = {probatio.Required(CONF_NAME): TextSelector()}


def _number(lowest: float, highest: float, step: float, unit: str) -> NumberSelector:
    return NumberSelector(
        NumberSelectorConfig(
            min=lowest, max=highest, step=step, mode=NumberSelectorMode.BOX, unit_of_measurement=unit
        )
    )


_RECORDING = section(
    probatio.Schema(
        {
            probatio.Required(CONF_KEEP, default=DEFAULT_RECORDING[CONF_KEEP]): SelectSelector(
                SelectSelectorConfig(
                    options=list(KEEP_MODES), mode=SelectSelectorMode.LIST, translation_key="keep"
                )
            ),
            probatio.Required(CONF_PRE_ROLL_S, default=DEFAULT_RECORDING[CONF_PRE_ROLL_S]): _number(
                0, 10, 0.5, "s"
            ),
            probatio.Required(CONF_POST_ROLL_S, default=DEFAULT_RECORDING[CONF_POST_ROLL_S]): _number(
                0, 10, 0.5, "s"
            ),
            probatio.Optional(CONF_CLIP_DAYS): _number(1, 3650, 1, "d"),
            probatio.Optional(CONF_MAX_CLIPS): _number(1, 1_000_000, 1, ""),
            probatio.Optional(CONF_MAX_MB): _number(1, 1_000_000, 1, "MB"),
        }
    ),
    {"collapsed": True},
)
_ADVANCED = section(
    probatio.Schema(
        {
            probatio.Optional(CONF_NEGATIVES): TextSelector(TextSelectorConfig(multiple=True)),
            probatio.Required(CONF_HOP_S, default=DEFAULT_HOP_S): NumberSelector(
                NumberSelectorConfig(
                    min=0.1, max=5, step=0.1, mode=NumberSelectorMode.SLIDER, unit_of_measurement="s"
                )
            ),
            probatio.Required(CONF_DENOISE, default=False): BooleanSelector(),
        }
    ),
    {"collapsed": True},
)
_USER_SCHEMA = probatio.Schema(
    {
        **_NAME,
        probatio.Required(CONF_SOURCE, default=SOURCE_URL): SelectSelector(
            SelectSelectorConfig(
                options=[SOURCE_URL, SOURCE_CAMERA, SOURCE_SERVER],
                mode=SelectSelectorMode.LIST,
                translation_key="source",
            )
        ),
    }
)
_RECONFIGURE_SCHEMA = probatio.Schema(
    {
        **_NAME,
        probatio.Required(CONF_SOURCE): SelectSelector(
            SelectSelectorConfig(
                options=[SOURCE_URL, SOURCE_CAMERA], mode=SelectSelectorMode.LIST, translation_key="source"
            )
        ),
    }
)


def _own_wishes(recording: Mapping[str, Any]) -> dict[str, Any]:
    """Return what differs from the server's defaults."""
    wishes = {
        name: value
        for name, value in recording.items()
        if value is not None and value != DEFAULT_RECORDING.get(name)
    }
    if CONF_MAX_CLIPS in wishes:
        # Forms give all numbers as fractions.
        wishes[CONF_MAX_CLIPS] = int(wishes[CONF_MAX_CLIPS])
    return wishes


def _negatives(advanced: Mapping[str, Any]) -> list[str]:
    return [text.strip() for text in advanced.get(CONF_NEGATIVES, ()) if text.strip()]


class MicrophoneFlow(ConfigSubentryFlow):
    """Asks for a name and a source, then for the source's details and what to listen for."""

    def __init__(self) -> None:
        self._name = ""
        self._data: dict[str, Any] = {}
        self._adoptable: tuple[MicrophoneInfo, ...] = ()
        self._library: tuple[LabelInfo, ...] = ()
        self._tried: Mapping[str, Any] | None = None
        self._errors: dict[str, str] = {}
        self._placeholders = {"address": "", "detail": "", "label": "", "meanings": "", "microphone": ""}
        # All that forms said of thresholds, the last form, and what waits for a yes to other thresholds.
        self._told: set[str] = set()
        self._details: tuple[str, Mapping[probatio.Marker, Any], Mapping[str, Any]] = ("", {}, {})
        self._entered: Mapping[str, Any] = {}
        self._unsaved: dict[str, Any] = {}

    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask for the name and the kind of source of a new microphone."""
        if self._get_entry().state is not ConfigEntryState.LOADED:
            return self.async_abort(reason="not_connected")
        if user_input is not None:
            name_is_good = self._take_name(user_input)
            if user_input[CONF_SOURCE] == SOURCE_SERVER:
                name_is_good = await self._find_adoptable() and name_is_good
            if name_is_good:
                self._data = {CONF_SOURCE: user_input[CONF_SOURCE]}
                return await self._next_step()
        return self._form("user", _USER_SCHEMA, user_input)

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask for the name and, unless it is the server's, the kind of source."""
        if self._get_entry().state is not ConfigEntryState.LOADED:
            return self.async_abort(reason="not_connected")
        subentry = self._get_reconfigure_subentry()
        adopted = is_adopted(subentry)
        if user_input is not None and self._take_name(user_input):
            self._data = {**subentry.data, CONF_SOURCE: user_input.get(CONF_SOURCE, SOURCE_SERVER)}
            return await (self.async_step_labels() if adopted else self._next_step())
        schema = probatio.Schema(_NAME) if adopted else _RECONFIGURE_SCHEMA
        known = {CONF_NAME: subentry.title, CONF_SOURCE: subentry.data[CONF_SOURCE]}
        return self._form("reconfigure", schema, user_input or known)

    async def async_step_url(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        return await self._ask_for_url("url", probatio.Required(SOURCE_URL), user_input)

    async def async_step_change_url(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask for another address; an empty field keeps the old one, which is not shown for its password."""
        url = URL(self._data[SOURCE_URL])
        microphone = self._known_microphone
        redacted = microphone.source.get("url") if microphone else None
        self._placeholders["address"] = str(redacted or f"{url.scheme}://{url.host}")
        return await self._ask_for_url("change_url", probatio.Optional(SOURCE_URL), user_input)

    async def _ask_for_url(
        self, step_id: str, key: probatio.Marker, user_input: dict[str, Any] | None
    ) -> SubentryFlowResult:
        if user_input is not None:
            url = user_input.get(SOURCE_URL, "").strip() or self._data.get(SOURCE_URL, "")
            if not is_stream_url(url):
                self._errors[SOURCE_URL] = "invalid_url"
            elif HIDDEN in url:
                self._errors[SOURCE_URL] = "hidden_password"
            if result := await self._finish(user_input, {"type": "url", "url": url}, {SOURCE_URL: url}):
                return result
        field = TextSelector(TextSelectorConfig(type=TextSelectorType.URL, autocomplete="off"))
        return await self._details_form(step_id, {key: field}, user_input, {})

    async def async_step_camera(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        if user_input is not None:
            camera, url = user_input[CONF_CAMERA], ""
            try:
                url = await camera_stream_url(self.hass, camera)
            except CameraError as error:
                self._errors[CONF_CAMERA] = error.key
            if result := await self._finish(user_input, {"type": "url", "url": url}, {CONF_CAMERA: camera}):
                return result
        known = {name: self._data[name] for name in (CONF_CAMERA,) if name in self._data}
        field = EntitySelector(EntitySelectorConfig(domain="camera"))
        return await self._details_form(
            SOURCE_CAMERA, {probatio.Required(CONF_CAMERA): field}, user_input, known
        )

    async def async_step_server(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask which of the server's microphones to adopt."""
        if user_input is not None:
            chosen = next(item for item in self._adoptable if item.id == user_input[CONF_MICROPHONE])
            self._data |= {
                CONF_MICROPHONE: chosen.id,
                CONF_SERVER_SOURCE: dict(chosen.source),
                CONF_LABELS: LabelChoices.of_microphone(chosen),
                CONF_NEGATIVES: list(chosen.negatives),
                CONF_HOP_S: chosen.hop_s,
                CONF_DENOISE: chosen.denoise,
                CONF_RECORDING: _own_wishes(chosen.recording),
            }
            return await self.async_step_labels()
        options = [SelectOptionDict(value=item.id, label=item.name) for item in self._adoptable]
        field = SelectSelector(SelectSelectorConfig(options=options, mode=SelectSelectorMode.LIST))
        schema = probatio.Schema({probatio.Required(CONF_MICROPHONE, default=self._adoptable[0].id): field})
        return self._form("server", schema, None)

    async def async_step_labels(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask what an adopted microphone shall listen for."""
        if user_input is not None:
            kept = {name: self._data[name] for name in (CONF_MICROPHONE, CONF_SERVER_SOURCE)}
            microphone = self._known_microphone
            # Read back redacted; the server knows the secrets in it.
            source = microphone.source if microphone else self._data[CONF_SERVER_SOURCE]
            if result := await self._finish(user_input, source, kept):
                return result
        return await self._details_form("labels", {}, user_input, {})

    async def async_step_meaning(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Say what thresholds mean that the form did not speak of."""
        return self.async_show_menu(
            step_id="meaning",
            menu_options=["save", "change"],
            description_placeholders=dict(self._placeholders),
        )

    async def async_step_save(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Create or change the microphone."""
        if self.source == SOURCE_USER:
            return self.async_create_entry(
                title=self._name, data=self._unsaved, unique_id=self._unsaved.get(CONF_MICROPHONE)
            )
        return self.async_update_and_abort(
            self._get_entry(), self._get_reconfigure_subentry(), title=self._name, data=self._unsaved
        )

    async def async_step_change(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Show again what was entered."""
        step_id, fields, known = self._details
        return await self._details_form(step_id, fields, self._entered, known)

    async def _next_step(self) -> SubentryFlowResult:
        steps = {
            SOURCE_URL: self.async_step_change_url if SOURCE_URL in self._data else self.async_step_url,
            SOURCE_CAMERA: self.async_step_camera,
            SOURCE_SERVER: self.async_step_server,
        }
        return await steps[self._data[CONF_SOURCE]]()

    @property
    def _coordinator(self) -> ClapSoundCoordinator:
        entry: ClapSoundConfigEntry = self._get_entry()
        return entry.runtime_data

    @property
    def _client(self) -> ClapSoundClient:
        return self._coordinator.client

    @property
    def _microphone_id(self) -> str | None:
        """The id that the microphone has on the server; None for a new one."""
        if CONF_MICROPHONE in self._data:
            return str(self._data[CONF_MICROPHONE])
        return None if self.source == SOURCE_USER else self._reconfigure_subentry_id

    @property
    def _known_microphone(self) -> MicrophoneInfo | None:
        return self._coordinator.data.microphones.get(self._microphone_id or "")

    def _take_name(self, user_input: Mapping[str, Any]) -> bool:
        self._name = user_input[CONF_NAME].strip()
        own_id = None if self.source == SOURCE_USER else self._reconfigure_subentry_id
        taken = {
            subentry.title.casefold()
            for subentry in self._get_entry().get_subentries_of_type(SUBENTRY_MICROPHONE)
            if subentry.subentry_id != own_id
        }
        if not self._name:
            self._errors[CONF_NAME] = "name_required"
        elif len(self._name) > MAX_NAME_LENGTH:
            self._errors[CONF_NAME] = "name_too_long"
        elif self._name.casefold() in taken:
            self._errors[CONF_NAME] = "name_taken"
        return CONF_NAME not in self._errors

    async def _find_adoptable(self) -> bool:
        try:
            microphones = await self._client.microphones()
        except ClapSoundError as error:
            self._note(error)
            return False
        self._adoptable = tuple(item for item in microphones if item.owner == OWNER_SERVER)
        if not self._adoptable:
            self._errors[CONF_SOURCE] = "no_server_microphones"
        return bool(self._adoptable)

    async def _finish(
        self, user_input: Mapping[str, Any], source: Mapping[str, Any], details: Mapping[str, Any]
    ) -> SubentryFlowResult | None:
        """Check everything, with the server too, and create or change the microphone; None after an error."""
        await self._load_library()
        try:
            labels = LabelChoices(self._library, self.hass.config.language).to_data(user_input[CONF_LABELS])
        except LabelChoiceError as error:
            self._errors[CONF_LABELS] = error.key
            self._placeholders["label"] = error.label
        if self._errors:
            return None
        advanced = user_input[CONF_ADVANCED]
        data = {
            CONF_SOURCE: self._data[CONF_SOURCE],
            **details,
            CONF_LABELS: labels,
            CONF_NEGATIVES: _negatives(advanced),
            CONF_HOP_S: advanced[CONF_HOP_S],
        }
        if advanced[CONF_DENOISE]:
            data[CONF_DENOISE] = True
        if recording := _own_wishes(user_input[CONF_RECORDING]):
            data[CONF_RECORDING] = recording
        settings = microphone_settings(self._name, source, data, owner(self._entry_id))
        try:
            watched = await self._client.check_microphone(self._microphone_id, settings)
        except ClapSoundError as error:
            self._note(error)
            return None
        if not await self._sound_comes(source, details):
            return None
        self._unsaved, self._entered = data, user_input
        is_news = await self._tell(watched)
        return await (self.async_step_meaning() if is_news else self.async_step_save())

    async def _tell(self, watched: Iterable[WatchedLabel]) -> bool:
        """Say what thresholds mean, from the next form on; whether anything of it was not said before."""
        language = self.hass.config.language
        meanings = await Meanings.of_language(self.hass, language)
        lines = meanings.lines(watched, LabelChoices(self._library, language).names)
        is_news = not self._told.issuperset(lines)
        self._told.update(lines)
        self._placeholders["meanings"] = "\n".join(lines)
        return is_news

    async def _describe(self, choices: LabelChoices, shown: Mapping[str, Any]) -> None:
        """Say what the thresholds in a form mean, if they can be used."""
        advanced = shown[CONF_ADVANCED]
        try:
            data = {
                CONF_LABELS: choices.to_data(shown[CONF_LABELS]),
                CONF_NEGATIVES: _negatives(advanced),
                CONF_HOP_S: advanced[CONF_HOP_S],
                CONF_DENOISE: advanced[CONF_DENOISE],
            }
            # Whatever the source is: pushed sound needs no address.
            settings = microphone_settings(self._name, {"type": "push"}, data, owner(self._entry_id))
            watched = await self._client.check_microphone(self._microphone_id, settings)
        except LabelChoiceError, ClapSoundError:
            # It is told when the form is sent; then what was not described has to be confirmed.
            watched = ()
        await self._tell(watched)

    async def _sound_comes(self, source: Mapping[str, Any], details: Mapping[str, Any]) -> bool:
        """Have the server try a stream that is new; who enters it a second time wants it all the same."""
        field = next((name for name in (SOURCE_URL, CONF_CAMERA) if name in details), None)
        if field is None or details[field] == self._data.get(field) or source == self._tried:
            return True
        try:
            await self._client.check_source(source)
            self._tried = source
        except InvalidRequestError as error:
            self._tried = source
            self._placeholders["detail"] = error.detail
            self._errors[field] = _STREAM_ERRORS.get(error.code, "stream_unusable")
            return False
        except ClapSoundError as error:
            self._note(error)
            return False
        return True

    async def _load_library(self) -> None:
        if not self._library:
            try:
                self._library = await self._client.labels()
            except ClapSoundError as error:
                self._note(error)

    def _note(self, error: ClapSoundError) -> None:
        self._placeholders["detail"] = str(error)
        if isinstance(error, InvalidRequestError):
            self._errors["base"] = "refused"
        elif isinstance(error, ClapSoundAuthenticationError):
            self._errors["base"] = "invalid_auth"
        else:
            self._errors["base"] = "cannot_connect"

    async def _details_form(
        self,
        step_id: str,
        fields: Mapping[probatio.Marker, Any],
        user_input: Mapping[str, Any] | None,
        known: Mapping[str, Any],
    ) -> SubentryFlowResult:
        """Show the fields of a source with those of the labels below."""
        await self._load_library()
        choices = LabelChoices(self._library, self.hass.config.language)
        default = choices.to_form(self._data[CONF_LABELS]) if CONF_LABELS in self._data else choices.default()
        # A default of the whole section hides those of its fields, so it has to be complete.
        advanced = {
            CONF_NEGATIVES: self._data.get(CONF_NEGATIVES, []),
            CONF_HOP_S: self._data.get(CONF_HOP_S, DEFAULT_HOP_S),
            CONF_DENOISE: self._data.get(CONF_DENOISE, False),
        }
        recording = {**DEFAULT_RECORDING, **self._data.get(CONF_RECORDING, {})}
        schema = probatio.Schema(
            {
                **fields,
                probatio.Required(CONF_LABELS, default=default): choices.selector(),
                probatio.Required(CONF_RECORDING, default=recording): _RECORDING,
                probatio.Required(CONF_ADVANCED, default=advanced): _ADVANCED,
            }
        )
        sections = {CONF_RECORDING: recording, CONF_ADVANCED: advanced}
        self._details = step_id, fields, known
        await self._describe(choices, {CONF_LABELS: default, **sections, **(user_input or {})})
        return self._form(step_id, schema, user_input or {**known, **sections}, last_step=True)

    def _form(
        self,
        step_id: str,
        schema: probatio.Schema,
        values: Mapping[str, Any] | None,
        *,
        last_step: bool = False,
    ) -> SubentryFlowResult:
        errors, self._errors = self._errors, {}
        self._placeholders["microphone"] = self._name
        return self.async_show_form(
            step_id=step_id,
            data_schema=self.add_suggested_values_to_schema(schema, values),
            errors=errors,
            description_placeholders=dict(self._placeholders),
            last_step=last_step,
        )
