"""Repair issues: what the user can mend, shown until it is mended."""

from typing import TYPE_CHECKING

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir

from .const import DOMAIN

if TYPE_CHECKING:
    from homeassistant.config_entries import ConfigEntry, ConfigSubentry

    from .client import ApiVersionError
    from .client.models import ServerInfo


@callback
def set_version_issue(hass: HomeAssistant, entry: ConfigEntry, error: ApiVersionError | None) -> None:
    """Show or clear that server and integration do not fit together."""
    issue_id = f"api_version_{entry.entry_id}"
    if error is None:
        ir.async_delete_issue(hass, DOMAIN, issue_id)
        return
    ir.async_create_issue(
        hass,
        DOMAIN,
        issue_id,
        is_fixable=False,
        severity=ir.IssueSeverity.ERROR,
        translation_key="server_too_old" if error.update == "server" else "integration_too_old",
        translation_placeholders={
            "title": entry.title,
            "server_version": str(error.server_version),
            "client_version": str(error.client_version),
        },
    )


@callback
def set_server_issues(hass: HomeAssistant, entry: ConfigEntry, info: ServerInfo) -> None:
    """Show what the server says of its own troubles, and clear what is over."""
    warning, error = ir.IssueSeverity.WARNING, ir.IssueSeverity.ERROR
    model = info.model
    for kind, severity, problem in (
        ("model_problem", warning, model.problem),
        ("storage_problem", error, info.storage_problem),
        ("overload", warning, info.overload),
    ):
        issue_id = f"{kind}_{entry.entry_id}"
        if problem is None:
            ir.async_delete_issue(hass, DOMAIN, issue_id)
            continue
        ir.async_create_issue(
            hass,
            DOMAIN,
            issue_id,
            is_fixable=False,
            severity=severity,
            translation_key=kind,
            translation_placeholders={
                "title": entry.title,
                "problem": problem,
                "model": model.name,
                "requested": model.requested,
            },
        )


@callback
def set_microphone_issue(
    hass: HomeAssistant, subentry: ConfigSubentry, translation_key: str, detail: str
) -> None:
    ir.async_create_issue(
        hass,
        DOMAIN,
        f"microphone_{subentry.subentry_id}",
        is_fixable=False,
        severity=ir.IssueSeverity.ERROR,
        translation_key=translation_key,
        translation_placeholders={"microphone": subentry.title, "detail": detail},
    )


@callback
def clear_microphone_issue(hass: HomeAssistant, subentry_id: str) -> None:
    ir.async_delete_issue(hass, DOMAIN, f"microphone_{subentry_id}")


@callback
def clear_issues(hass: HomeAssistant, entry: ConfigEntry) -> None:
    ours = {entry.entry_id, *entry.subentries}
    for domain, issue_id in tuple(ir.async_get(hass).issues):
        if domain == DOMAIN and issue_id.rsplit("_", 1)[-1] in ours:
            ir.async_delete_issue(hass, DOMAIN, issue_id)
