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
CONF_DENOISE: Final = "denoise"
CONF_RECORDING: Final = "recording"
CONF_KEEP: Final = "keep"
CONF_PRE_ROLL_S: Final = "pre_roll_s"
CONF_POST_ROLL_S: Final = "post_roll_s"
CONF_CLIP_DAYS: Final = "clip_days"
CONF_MAX_CLIPS: Final = "max_clips"
CONF_MAX_MB: Final = "max_mb"

KEY_LEVEL: Final = "level"
KEY_MUTE: Final = "mute"
KEY_PROBLEM: Final = "problem"
KEY_SELF_TEST: Final = "self_test"
KEY_SOUND_DETECTED: Final = "sound_detected"
KEY_STATUS: Final = "status"
KEY_TOP_SOUND: Final = "top_sound"
MICROPHONE_KEYS: Final = (
    KEY_LEVEL,
    KEY_MUTE,
    KEY_PROBLEM,
    KEY_SELF_TEST,
    KEY_SOUND_DETECTED,
    KEY_STATUS,
    KEY_TOP_SOUND,
)

SOURCE_URL: Final = "url"
SOURCE_CAMERA: Final = "camera"
SOURCE_SERVER: Final = "server"

DEFAULT_HOP_S: Final = 0.5
DEFAULT_THRESHOLD: Final = 0.5
"""The server's, for sounds in the user's own words."""
DEFAULT_LABELS: Final = ("glass_breaking", "alarm")
SECURITY_LABELS: Final = (
    "glass_breaking",
    "alarm",
    "smoke_alarm",
    "carbon_monoxide_alarm",
    "smoke_alarm_low_battery",
    "siren",
    "fighting_shouting",
    "scream",
    "explosion_gunshot",
    "metal_impact",
)
"""The sounds of the server's library that people would be woken for."""
MAX_LABELS: Final = 200

KEEP_MODES: Final = ("clip", "no_speech", "event_only")
"""Of which events the server keeps a recording."""
DEFAULT_RECORDING: Final = {CONF_KEEP: "clip", CONF_PRE_ROLL_S: 3.0, CONF_POST_ROLL_S: 1.0}
"""The server's; its limits of age, number and size hold where a microphone has none of its own."""

OWNER_SERVER: Final = "server"

EVENT_SOUND: Final = "clap_sound_event"
"""Fired on Home Assistant's bus for each sound event that starts."""

NEWS_AGE: Final = timedelta(seconds=30)
"""What was detected longer ago than this is late, no news: nothing is to react to it as if it were now.

Home Assistant notices a broken connection after 6 s and tries again every 10 s at most, so a short break
of the network, or a server that restarts, still delivers news.
"""

KEPT_OFF_S: Final = 4.0
"""How long the sensor of a sound stays off in a break of the connection.

With the 6 s until the break is noticed, a server that is gone shows within 10 s.
"""
KEPT_ON_S: Final = 24.0
"""How long it stays on: until what sounded is no news any more. An alarm that goes on is not told anew."""

STATE_LISTENING: Final = "listening"
IMPAIRED_CODES: Final = frozenset({"wrong_rate", "choppy", "only_noise"})
"""Reasons for which a microphone that listens may miss an alarm all the same."""

TRANSLATED_LABELS: Final = frozenset(
    {
        "alarm",
        "appliance_beep",
        "baby_cry",
        "car_horn",
        "carbon_monoxide_alarm",
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
        "smoke_alarm_low_battery",
        "snoring",
        "speech",
        "thunder",
        "vacuum_cleaner",
        "vehicle",
        "water_running",
    }
)
"""Labels of the server's library whose names and icons the integration brings."""
