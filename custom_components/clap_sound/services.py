"""The actions: score a recording, ask what was heard, judge it, test a microphone."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import probatio
from homeassistant.components.event.const import DOMAIN as EVENT_DOMAIN
from homeassistant.const import ATTR_CONFIG_ENTRY_ID, ATTR_ENTITY_ID
from homeassistant.core import (
    HomeAssistant,
    ServiceCall,
    ServiceResponse,
    SupportsResponse,
    callback,
)
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.selector import MediaSelector
from homeassistant.helpers.service import async_get_config_entry
from homeassistant.util import dt as dt_util

from .client import ClapSoundError, InvalidRequestError, NotFoundError
from .const import DOMAIN, KEY_SOUND_DETECTED, SECURITY_LABELS
from .errors import cannot_connect, invalid, of_server
from .history import Wanted, heard, label_ids, label_names, response_of
from .recordings import file_recording, media_recording, own_recording
from .targets import TargetedMicrophone, loaded_entries, targeted_microphones

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from .client.models import Classification, SelfTestResult
    from .coordinator import ClapSoundConfigEntry

SERVICE_CLASSIFY = "classify"
SERVICE_FEEDBACK = "feedback"
SERVICE_GET_EVENTS = "get_events"
SERVICE_SELF_TEST = "self_test"

ATTR_EVENT_ID = "event_id"
ATTR_FILE = "file"
ATTR_LABELS = "labels"
ATTR_LIMIT = "limit"
ATTR_MEDIA = "media"
ATTR_MIN_SCORE = "min_score"
ATTR_SINCE = "since"
ATTR_THRESHOLD = "threshold"
ATTR_UNTIL = "until"
ATTR_VERDICT = "verdict"

DEFAULT_SPAN = timedelta(hours=24)
DEFAULT_LIMIT = 100
MAX_LIMIT = 1000

_SCORE = probatio.All(probatio.Coerce(float), probatio.Range(min=0, max=1))
_LABELS = probatio.All(cv.ensure_list, [cv.string])

CLASSIFY_SCHEMA = probatio.Schema(
    {
        probatio.Exclusive(ATTR_MEDIA, "recording"): MediaSelector({"accept": ["audio/*", "video/*"]}),
        probatio.Exclusive(ATTR_FILE, "recording"): cv.string,
        probatio.Optional(ATTR_LABELS): _LABELS,
        probatio.Optional(ATTR_THRESHOLD): _SCORE,
        probatio.Optional(ATTR_CONFIG_ENTRY_ID): cv.string,
    }
)
GET_EVENTS_SCHEMA = probatio.Schema(
    {
        **cv.TARGET_SERVICE_FIELDS,
        probatio.Optional(ATTR_SINCE): cv.datetime,
        probatio.Optional(ATTR_UNTIL): cv.datetime,
        probatio.Optional(ATTR_LABELS): _LABELS,
        probatio.Optional(ATTR_MIN_SCORE, default=0): _SCORE,
        probatio.Optional(ATTR_LIMIT, default=DEFAULT_LIMIT): probatio.All(
            probatio.Coerce(int), probatio.Range(min=1, max=MAX_LIMIT)
        ),
    }
)
FEEDBACK_SCHEMA = probatio.Schema(
    {
        # What goes into an address of the server is checked first.
        probatio.Exclusive(ATTR_EVENT_ID, "event"): cv.matches_regex(r"^[A-Za-z0-9-]+$"),
        probatio.Exclusive(ATTR_ENTITY_ID, "event"): cv.entity_id,
        probatio.Required(ATTR_VERDICT): probatio.In(["correct", "false_alarm"]),
    }
)
SELF_TEST_SCHEMA = probatio.Schema({**cv.TARGET_SERVICE_FIELDS})


@callback
def async_setup_services(hass: HomeAssistant) -> None:
    """Register the actions."""
    only, optional = SupportsResponse.ONLY, SupportsResponse.OPTIONAL
    register = hass.services.async_register
    register(DOMAIN, SERVICE_CLASSIFY, _classify, CLASSIFY_SCHEMA, supports_response=only)
    register(DOMAIN, SERVICE_GET_EVENTS, _get_events, GET_EVENTS_SCHEMA, supports_response=only)
    register(DOMAIN, SERVICE_FEEDBACK, _feedback, FEEDBACK_SCHEMA, supports_response=optional)
    register(DOMAIN, SERVICE_SELF_TEST, _self_test, SELF_TEST_SCHEMA, supports_response=optional)


# --- classify ---


async def _classify(call: ServiceCall) -> ServiceResponse:
    hass, data = call.hass, call.data
    media_content_id = data[ATTR_MEDIA]["media_content_id"] if ATTR_MEDIA in data else ""
    # A recording of an event is scored by its own server, if no other is named.
    own = own_recording(media_content_id)
    entry_id = data.get(ATTR_CONFIG_ENTRY_ID) or (own[0] if own else None)
    entry: ClapSoundConfigEntry = async_get_config_entry(hass, DOMAIN, entry_id)
    client = entry.runtime_data.client
    if ATTR_MEDIA in data:
        source = media_recording(hass, media_content_id)
    elif ATTR_FILE in data:
        source = file_recording(hass, data[ATTR_FILE])
    else:
        raise invalid("no_recording")
    async with source as recording:
        try:
            found = await client.classify(
                recording, data.get(ATTR_LABELS) or SECURITY_LABELS, data.get(ATTR_THRESHOLD)
            )
        except ClapSoundError as error:
            raise of_server(client, error) from error
    return _classification(found)


def _classification(found: Classification) -> dict[str, Any]:
    best = found.labels[0] if found.labels else None
    return {
        "top_label": best.label if best else None,
        "top_score": round(best.score, 3) if best else None,
        "scores": {label.label: round(label.score, 3) for label in found.labels},
        "threshold": found.threshold,
        "detected": [label.label for label in found.labels if label.detected],
        "patterns": [
            {"pattern": alarm.pattern, "label": alarm.label, "onset_s": round(alarm.onset_s, 2)}
            for alarm in found.patterns
        ],
        "too_quiet": found.too_quiet,
        "duration_s": round(found.duration_s, 2),
    }


# --- get_events ---


async def _get_events(call: ServiceCall) -> ServiceResponse:
    hass = call.hass
    targeted = targeted_microphones(hass, call)
    wanted = _wanted(call)
    microphones: dict[str, Sequence[str | None]] = {}
    entries = {entry.entry_id: entry for entry in loaded_entries(hass)}
    if targeted is None:
        microphones = {entry_id: [None] for entry_id in entries}
    else:
        for microphone in targeted:
            entry_id = microphone.entry.entry_id
            microphones[entry_id] = [*microphones.get(entry_id, ()), microphone.id]
    names = await label_names(hass)
    found = []
    for entry_id, wanted_microphones in microphones.items():
        entry = entries[entry_id]
        client = entry.runtime_data.client
        texts = call.data.get(ATTR_LABELS)
        try:
            labels: Sequence[str | None] = await label_ids(entry, texts) if texts else [None]
            events = await heard(client, wanted, wanted_microphones, labels)
        except ClapSoundError as error:
            raise of_server(client, error) from error
        found += [(event, entry) for event in events]
    found.sort(key=lambda item: item[0].started_at, reverse=True)
    return {"events": [response_of(hass, entry, event, names) for event, entry in found[: wanted.limit]]}


def _wanted(call: ServiceCall) -> Wanted:
    data = call.data
    until: datetime = dt_util.as_utc(data[ATTR_UNTIL]) if ATTR_UNTIL in data else dt_util.utcnow()
    since: datetime = dt_util.as_utc(data[ATTR_SINCE]) if ATTR_SINCE in data else until - DEFAULT_SPAN
    if since > until:
        raise invalid("since_after_until")
    if ATTR_UNTIL not in data:
        # The server's clock may be ahead, and what it hears right now is wanted.
        until += DEFAULT_SPAN
    return Wanted(since, until, data[ATTR_MIN_SCORE], data[ATTR_LIMIT])


# --- feedback ---


async def _feedback(call: ServiceCall) -> ServiceResponse:
    hass = call.hass
    if ATTR_ENTITY_ID in call.data:
        entry, event_id = _newest_event(hass, call.data[ATTR_ENTITY_ID])
        entries = [entry]
    elif ATTR_EVENT_ID in call.data:
        entries, event_id = loaded_entries(hass), call.data[ATTR_EVENT_ID]
    else:
        raise invalid("no_event")
    return await _judge(entries, event_id, call.data[ATTR_VERDICT])


async def _judge(
    entries: Sequence[ClapSoundConfigEntry], event_id: str, verdict: Literal["correct", "false_alarm"]
) -> ServiceResponse:
    problems: list[HomeAssistantError] = []
    for entry in entries:
        client = entry.runtime_data.client
        try:
            taken = await client.judge_event(event_id, verdict)
        except NotFoundError as error:
            problems.append(of_server(client, error))
        except ClapSoundError as error:
            # The event may be of this server, so it is the reason, whatever the others do not have.
            problems.insert(0, of_server(client, error))
        else:
            return {
                "event_id": taken.event_id,
                "verdict": verdict,
                "learnt": taken.learnt,
                "words": taken.words,
                "score_now": taken.score_now,
            }
    raise problems[0]


@callback
def _newest_event(hass: HomeAssistant, entity_id: str) -> tuple[ClapSoundConfigEntry, str]:
    """Return the newest event that an entity has told of, and its server."""
    entity = er.async_get(hass).async_get(entity_id)
    state = hass.states.get(entity_id)
    if (
        entity is None
        or entity.platform != DOMAIN
        or entity.domain != EVENT_DOMAIN
        or not entity.unique_id.endswith(f"_{KEY_SOUND_DETECTED}")
    ):
        raise invalid("no_event_entity", entity=entity_id)
    entry: ClapSoundConfigEntry = async_get_config_entry(hass, DOMAIN, entity.config_entry_id)
    event_id = state.attributes.get(ATTR_EVENT_ID) if state else None
    if not event_id:
        raise invalid("nothing_heard", entity=entity_id)
    return entry, event_id


# --- self_test ---


async def _self_test(call: ServiceCall) -> ServiceResponse:
    hass = call.hass
    microphones = targeted_microphones(hass, call)
    if microphones is None:
        raise invalid("no_microphone")
    results = [await _test(hass, microphone) for microphone in microphones]
    if call.return_response:
        return {"results": [*results]}
    for result in results:
        if result["outcome"] != "found":
            key = "self_test_impossible" if result["outcome"] == "impossible" else "self_test_failed"
            raise HomeAssistantError(
                translation_domain=DOMAIN,
                translation_key=key,
                translation_placeholders={"microphone": result["microphone"], "detail": result["words"]},
            )
    return None


async def _test(hass: HomeAssistant, microphone: TargetedMicrophone) -> dict[str, Any]:
    client = microphone.entry.runtime_data.client
    device = dr.async_get(hass).async_get_device_by_identifier(
        (DOMAIN, microphone.subentry.subentry_id), microphone.entry.entry_id
    )
    told = {"microphone": microphone.subentry.title, "device_id": device.id if device else None}
    try:
        result = await client.self_test(microphone.id)
    except InvalidRequestError as error:
        return {**told, "outcome": "impossible", "words": error.detail}
    except ClapSoundError as error:
        raise cannot_connect(client, error) from error
    return {**told, **_tested(result)}


def _tested(result: SelfTestResult) -> dict[str, Any]:
    return {
        "outcome": result.outcome,
        "words": result.words,
        "sound": result.name,
        "score": round(result.score, 3),
        "threshold": result.threshold,
        "delay_s": round(result.delay_s, 2) if result.outcome == "found" else None,
        "level_dbfs": round(result.level_dbfs, 1),
        "noise_floor_dbfs": round(result.noise_floor_dbfs, 1),
    }
