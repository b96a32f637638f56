"""Setting up a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, override

import probatio
from homeassistant.config_entries import (
    SOURCE_USER,
    ConfigEntry,
    ConfigFlow,
    ConfigFlowResult,
    ConfigSubentryFlow,
    FlowType,
    SubentryFlowContext,
)
from homeassistant.const import CONF_HOST, CONF_PORT, CONF_SSL, CONF_TOKEN, CONF_VERIFY_SSL
from homeassistant.core import callback
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.helpers.selector import (
    BooleanSelector,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    TextSelector,
    TextSelectorConfig,
    TextSelectorType,
)
from yarl import URL

from .client import (
    ApiVersionError,
    ClapSoundAuthenticationError,
    ClapSoundClient,
    ClapSoundError,
    InvalidRequestError,
    UnexpectedAnswerError,
)
from .client.client import DEFAULT_PORT
from .const import DOMAIN, SUBENTRY_MICROPHONE
from .microphone_flow import MicrophoneFlow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .client.models import ServerInfo

_TOKEN = TextSelector(TextSelectorConfig(type=TextSelectorType.PASSWORD, autocomplete="off"))
_ADDRESS = {
    probatio.Required(CONF_HOST): TextSelector(),
    probatio.Required(CONF_PORT, default=DEFAULT_PORT): probatio.All(
        NumberSelector(NumberSelectorConfig(min=1, max=65535, mode=NumberSelectorMode.BOX)),
        probatio.Coerce(int),
    ),
}
_TLS = {
    probatio.Required(CONF_SSL, default=False): BooleanSelector(),
    probatio.Required(CONF_VERIFY_SSL, default=True): BooleanSelector(),
}
USER_SCHEMA = probatio.Schema({**_ADDRESS, probatio.Required(CONF_TOKEN): _TOKEN, **_TLS})
RECONFIGURE_SCHEMA = probatio.Schema({**_ADDRESS, probatio.Optional(CONF_TOKEN): _TOKEN, **_TLS})
REAUTH_SCHEMA = probatio.Schema({probatio.Required(CONF_TOKEN): _TOKEN})


class ClapSoundConfigFlow(ConfigFlow, domain=DOMAIN):
    """Asks for a server's address and token, and accepts them when they work."""

    VERSION = 1

    @classmethod
    @callback
    @override
    def async_get_supported_subentry_types(
        cls, config_entry: ConfigEntry
    ) -> dict[str, type[ConfigSubentryFlow]]:
        return {SUBENTRY_MICROPHONE: MicrophoneFlow}

    def __init__(self) -> None:
        self._errors: dict[str, str] = {}
        self._placeholders = {"address": "", "detail": "", "server_version": "", "client_version": ""}

    @override
    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        if user_input is not None:
            data = self._normalised(user_input)
            if data and (info := await self._try(data)):
                await self.async_set_unique_id(info.server_id)
                self._abort_if_unique_id_configured()
                return self.async_create_entry(title=f"CLAP Sound ({data[CONF_HOST]})", data=data)
        return self._form("user", USER_SCHEMA, user_input)

    @override
    async def async_on_create_entry(self, result: ConfigFlowResult) -> ConfigFlowResult:
        """Go on with the first microphone."""
        microphone = await self.hass.config_entries.subentries.async_init(
            (result["result"].entry_id, SUBENTRY_MICROPHONE), context=SubentryFlowContext(source=SOURCE_USER)
        )
        result["next_flow"] = (FlowType.CONFIG_SUBENTRIES_FLOW, microphone["flow_id"])
        return result

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Change the address of a server; an empty token stays as it is."""
        entry = self._get_reconfigure_entry()
        if user_input is not None:
            data = self._normalised({CONF_TOKEN: entry.data[CONF_TOKEN], **user_input})
            if data and (info := await self._try(data)):
                await self.async_set_unique_id(info.server_id)
                self._abort_if_unique_id_mismatch()
                return self._update(entry, data)
        known = {name: value for name, value in entry.data.items() if name != CONF_TOKEN}
        return self._form("reconfigure", RECONFIGURE_SCHEMA, user_input or known)

    async def async_step_reauth(self, entry_data: Mapping[str, Any]) -> ConfigFlowResult:
        return await self.async_step_reauth_confirm()

    async def async_step_reauth_confirm(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        entry = self._get_reauth_entry()
        if user_input is not None:
            data = {**entry.data, CONF_TOKEN: user_input[CONF_TOKEN].strip()}
            if info := await self._try(data):
                await self.async_set_unique_id(info.server_id)
                self._abort_if_unique_id_mismatch()
                return self._update(entry, data)
        self._placeholders["title"] = entry.title
        return self._form("reauth_confirm", REAUTH_SCHEMA, user_input)

    def _form(
        self, step_id: str, schema: probatio.Schema, values: Mapping[str, Any] | None
    ) -> ConfigFlowResult:
        errors, self._errors = self._errors, {}
        return self.async_show_form(
            step_id=step_id,
            data_schema=self.add_suggested_values_to_schema(schema, values),
            errors=errors,
            description_placeholders=dict(self._placeholders),
        )

    def _update(self, entry: ConfigEntry, data: dict[str, Any]) -> ConfigFlowResult:
        """Change the entry and see that it is set up again.

        The update listener does that, unless there is none because the last setup failed, or nothing changed.
        """
        changed = self.hass.config_entries.async_update_entry(entry, data=data)
        if not (changed and entry.update_listeners):
            self.hass.config_entries.async_schedule_reload(entry.entry_id)
        return self.async_update_and_abort(entry)

    def _normalised(self, user_input: dict[str, Any]) -> dict[str, Any] | None:
        """Take what people paste as a host: a whole address with scheme and port."""
        data = {**user_input, CONF_TOKEN: user_input[CONF_TOKEN].strip()}
        host = str(data[CONF_HOST]).strip()
        try:
            if "://" in host:
                url = URL(host)
                host = url.host or ""
                data[CONF_SSL] = url.scheme == "https"
                data[CONF_PORT] = url.explicit_port or data[CONF_PORT]
            data[CONF_HOST] = URL.build(scheme="http", host=host.strip("[]")).host
        except ValueError:
            data[CONF_HOST] = None
        if not data[CONF_HOST]:
            self._errors[CONF_HOST] = "invalid_host"
            return None
        return data

    async def _try(self, data: Mapping[str, Any]) -> ServerInfo | None:
        """Ask the server who it is; None after noting what is wrong."""
        client = ClapSoundClient(
            async_get_clientsession(self.hass, verify_ssl=data[CONF_VERIFY_SSL]),
            data[CONF_HOST],
            data[CONF_PORT],
            data[CONF_TOKEN],
            tls=data[CONF_SSL],
        )
        self._placeholders["address"] = str(client.url)
        try:
            return await client.info()
        except ClapSoundAuthenticationError:
            self._errors["base"] = "invalid_auth"
        except ApiVersionError as error:
            self._placeholders["server_version"] = str(error.server_version)
            self._placeholders["client_version"] = str(error.client_version)
            self._errors["base"] = "wrong_version"
        except (UnexpectedAnswerError, InvalidRequestError) as error:
            self._placeholders["detail"] = str(error)
            self._errors["base"] = "not_clap_server"
        except ClapSoundError as error:
            self._placeholders["detail"] = str(error)
            self._errors["base"] = "cannot_connect"
        return None
