"""Sounds made from nothing but numbers: for calibration, self-tests, the demo and the tests.

Each maker takes a random generator and a sample rate in Hz and returns ``(n,)`` mono float32 with a peak of
0.7; the same generator state gives the same sound on every machine. ``duration_s`` is its length in seconds;
``kind`` is one of those that its module lists, drawn if left out, and an unknown one raises ``ValueError``.
"""

from clap_server.synthesis.alarms import (
    SIREN_KINDS,
    appliance_beeps,
    buzzer_alarm,
    ringtone,
    siren,
    t3_alarm,
    t4_alarm,
)
from clap_server.synthesis.clinks import coins, cutlery, dishes, glass_clink, keys
from clap_server.synthesis.glass import GLASS_KINDS, glass_break
from clap_server.synthesis.impacts import impact, thud
from clap_server.synthesis.music import music
from clap_server.synthesis.noise import NOISE_KINDS, noise
from clap_server.synthesis.room import impulse_response, loudest_rms, mix_at, reverberate
from clap_server.synthesis.scene import DEMO_SEED, Scene, demo_scene
from clap_server.synthesis.shots import GUN_KINDS, explosion, fireworks, gunshot
from clap_server.synthesis.signal import SAMPLE_RATE
from clap_server.synthesis.voice import babble

__all__ = [
    "DEMO_SEED",
    "GLASS_KINDS",
    "GUN_KINDS",
    "NOISE_KINDS",
    "SAMPLE_RATE",
    "SIREN_KINDS",
    "Scene",
    "appliance_beeps",
    "babble",
    "buzzer_alarm",
    "coins",
    "cutlery",
    "demo_scene",
    "dishes",
    "explosion",
    "fireworks",
    "glass_break",
    "glass_clink",
    "gunshot",
    "impact",
    "impulse_response",
    "keys",
    "loudest_rms",
    "mix_at",
    "music",
    "noise",
    "reverberate",
    "ringtone",
    "siren",
    "t3_alarm",
    "t4_alarm",
    "thud",
]
