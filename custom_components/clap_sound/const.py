"""Names used throughout the integration."""

from datetime import timedelta
from typing import Final

DOMAIN: Final = "clap_sound"
SUBENTRY_MICROPHONE: Final = "microphone"

# Data of a microphone's subentry; its title is the microphone's name.
CONF_SOURCE: Final = "source"
CONF_CAMERA: Final = "camera"
CONF_MICROPHONE: Final = "microphone"
CONF_SERVER_SOURCE: Final = "server_source"
CONF_LABELS: Final = "labels"
CONF_LABEL: Final = "label"
CONF_THRESHOLD: Final = "threshold"
CONF_ADVANCED: Final = "advanced"
CONF_NEGATIVES: Final = "negatives"
CONF_HOP_S: Final = "hop_s"

SOURCE_URL: Final = "url"
SOURCE_CAMERA: Final = "camera"
SOURCE_SERVER: Final = "server"

DEFAULT_HOP_S: Final = 0.5
DEFAULT_LABELS: Final = ("glass_breaking", "alarm")
MAX_LABELS: Final = 200

OWNER_SERVER: Final = "server"

MAX_EVENT_AGE: Final = timedelta(hours=1)
"""Older events that Home Assistant missed are news to nobody."""

TRANSLATED_LABELS: Final = frozenset(
    {
        "alarm",
        "appliance_beep",
        "baby_cry",
        "car_horn",
        "cat_meow",
        "cough",
        "dog_bark",
        "door_knock",
        "door_slam",
        "doorbell",
        "explosion_gunshot",
        "fighting_shouting",
        "footsteps",
        "glass_breaking",
        "laughter",
        "metal_impact",
        "music",
        "normal",
        "phone_ringing",
        "power_tool",
        "scream",
        "siren",
        "smoke_alarm",
        "snoring",
        "speech",
        "thunder",
        "vacuum_cleaner",
        "vehicle",
        "water_running",
    }
)
"""Labels of the server's library whose names and icons the integration brings."""
