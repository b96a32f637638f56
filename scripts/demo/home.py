"""What a user would set up by hand in Home Assistant: area, level sensor, a dashboard as start page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from scripts.demo.microphone import LEVEL_KEY, STATUS_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scripts.demo.microphone import Registered
    from scripts.harness.api import HomeAssistantApi

AREA = "Living Room"
"""One of those that Home Assistant makes for its first user."""
DASHBOARD = "clap-sound"
RECORDINGS = "/media-browser/browser/" + quote("app,media-source://clap_sound", safe="")

GLASS = "binary_sensor.demo_glass_breaking"
SENSORS = {
    GLASS: "Glass breaking",
    "binary_sensor.demo_alarm": "Alarm",
    "binary_sensor.demo_door_slamming": "Door slamming",
    "binary_sensor.demo_music": "Music",
}
EVENT = "event.demo_sound_detected"
TOP_SOUND = "sensor.demo_top_sound"
LEVEL = "sensor.demo_level"
STATUS = "sensor.demo_status"
AUTOMATION_ENTITY = "automation.tell_me_when_glass_breaks"

AUTOMATION = {
    "id": "clap_sound_demo",
    "alias": "Tell me when glass breaks",
    "triggers": [
        {
            "trigger": "event",
            "event_type": "clap_sound_event",
            "event_data": {"event_type": "glass_breaking"},
        }
    ],
    "actions": [
        {
            "action": "persistent_notification.create",
            "data": {
                "notification_id": "glass_breaking",
                "title": "Glass is breaking",
                "message": "{% set heard = trigger.event.data %}"
                "Heard in the {{ area_name(heard.entity_id) | default(heard.microphone, true) | lower }}"
                " at {{ as_timestamp(heard.started_at) | timestamp_custom('%X') }},"
                " score {{ heard.score }}{{ ' (told late)' if heard.late }}.",
            },
        }
    ],
    "mode": "queued",
    "max": 100,
}

_LAST_EVENT = f"""\
{{% set event = states.{EVENT} %}}
{{% if event and event.state not in ('unknown', 'unavailable') %}}
{{% set when = (event.state | as_datetime | as_local).strftime('%X') %}}
{{% set score = event.attributes.score | round(2) %}}
## {{{{ event.attributes.label }}}}
{{{{ when }}}}, score **{{{{ score }}}}**
[Play the recordings]({RECORDINGS})
{{% else %}}
## Nothing yet
The demo plays on: glass breaks soon.
{{% endif %}}
"""


def _heading(text: str, icon: str) -> dict[str, Any]:
    return {"type": "heading", "heading": text, "icon": icon}


def dashboard(sensors: dict[str, str]) -> dict[str, Any]:
    """Return the start page, as its raw configuration editor would show it; ``sensors`` have names there."""
    now = [
        _heading(AREA, "mdi:sofa"),
        {"type": "gauge", "entity": TOP_SOUND, "attribute": "score", "name": "Score of the top sound"}
        | {"min": 0, "max": 1, "needle": True, "severity": {"green": 0, "yellow": 0.5, "red": 0.7}},
        {"type": "tile", "entity": TOP_SOUND, "name": "Sounds most like", "grid_options": {"columns": 12}},
        *(
            {"type": "tile", "entity": sensor, "name": name, "grid_options": {"columns": 6}}
            | {"color": "red" if sensor == GLASS else "amber"}
            for sensor, name in sensors.items()
        ),
    ]
    events = [
        _heading("Last sound", "mdi:ear-hearing"),
        {"type": "markdown", "content": _LAST_EVENT},
        {"type": "logbook", "target": {"entity_id": [EVENT]}, "hours_to_show": 1}
        | {"grid_options": {"columns": 12, "rows": 6}},
    ]
    automation = [
        _heading("Automation", "mdi:robot"),
        {"type": "tile", "entity": AUTOMATION_ENTITY, "name": AUTOMATION["alias"]}
        | {"state_content": ["state", "last_triggered"], "grid_options": {"columns": 12}},
    ]
    graph = {"type": "history-graph", "hours_to_show": 0.05}
    minutes = [
        _heading("Last minutes", "mdi:chart-timeline"),
        {**graph, "entities": [{"entity": sensor, "name": name} for sensor, name in sensors.items()]},
        {**graph, "entities": [{"entity": LEVEL, "name": "Level"}]},
    ]
    sections = [{"type": "grid", "cards": cards} for cards in (now + automation, events, minutes)]
    badges = [
        {"type": "entity", "entity": STATUS, "name": "Microphone", "show_name": True},
        {"type": "entity", "entity": LEVEL, "name": "Level", "show_name": True},
    ]
    view = {"title": "CLAP Sound", "type": "sections", "max_columns": 3}
    return {"title": "CLAP Sound", "views": [{**view, "badges": badges, "sections": sections}]}


async def furnish_microphone(api: HomeAssistantApi, found: Mapping[str, Registered]) -> bool:
    """Put a new demo microphone into its room; returns whether Home Assistant has to start anew for it.

    The level is off by default. Home Assistant takes all entities of an entry through a reload half a minute
    after one of them was turned on, unless it starts anew before.
    """
    areas = await api.command({"type": "config/area_registry/list"})
    area_ids = [area["area_id"] for area in areas if area["name"] == AREA]
    if not area_ids:
        area = await api.command({"type": "config/area_registry/create", "name": AREA, "icon": "mdi:sofa"})
        area_ids = [area["area_id"]]
    device = {"type": "config/device_registry/update", "device_id": found[STATUS_KEY].device_id}
    await api.command({**device, "area_id": area_ids[0]})
    level = found[LEVEL_KEY]
    if level.disabled_by != "integration":
        return False
    turn_on = {"type": "config/entity_registry/update", "entity_id": level.entity_id, "disabled_by": None}
    await api.command(turn_on)
    return True


async def has_dashboard(api: HomeAssistantApi) -> bool:
    """Whether the start page was made; what the user changed in it stays."""
    dashboards = await api.command({"type": "lovelace/dashboards/list"})
    return any(found["url_path"] == DASHBOARD for found in dashboards)


async def add_dashboard(api: HomeAssistantApi) -> None:
    """Make the start page."""
    await api.command(
        {"type": "lovelace/dashboards/create", "url_path": DASHBOARD, "title": "CLAP Sound"}
        | {"icon": "mdi:waveform", "mode": "storage"}
    )
    # A demo of an older version listens for less.
    sensors = {sensor: name for sensor, name in SENSORS.items() if await api.state(sensor)}
    await api.command({"type": "lovelace/config/save", "url_path": DASHBOARD, "config": dashboard(sensors)})
    core = (await api.command({"type": "frontend/get_system_data", "key": "core"}))["value"] or {}
    core["default_panel"] = DASHBOARD
    await api.command({"type": "frontend/set_system_data", "key": "core", "value": core})
