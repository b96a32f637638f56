"""Sounds made from nothing but numbers: for the demo, the tests, calibration and training.

Each maker takes a random generator and a sample rate and returns mono float32; the same generator state gives
the same sound on every machine.
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
from clap_server.synthesis.animals import BEAST_KINDS, BIRD_KINDS, animal_calls, bird_calls
from clap_server.synthesis.blows import TAP_KINDS, chair_scrape, hammering, tap_on_glass
from clap_server.synthesis.clinks import coins, cutlery, dishes, glass_clink, keys
from clap_server.synthesis.glass import GLASS_KINDS, glass_break
from clap_server.synthesis.impacts import impact, thud
from clap_server.synthesis.kitchen import CUPBOARD_KINDS, STOVE_KINDS, chopping, cupboard, dishwashing, stove
from clap_server.synthesis.music import music
from clap_server.synthesis.noise import NOISE_KINDS, noise
from clap_server.synthesis.panes import PANE_KINDS, pane_break
from clap_server.synthesis.percussion import CHIME_KINDS, CYMBAL_KINDS, chimes, cymbals
from clap_server.synthesis.room import impulse_response, loudest_rms, mix_at, reverberate
from clap_server.synthesis.scene import DEMO_SEED, Scene, demo_scene
from clap_server.synthesis.shots import GUN_KINDS, explosion, fireworks, gunshot
from clap_server.synthesis.signal import SAMPLE_RATE
from clap_server.synthesis.sounders import (
    HORN_KINDS,
    REVERSING_KINDS,
    SOUNDER_KINDS,
    bell_alarm,
    car_alarm,
    horn_alarm,
    reversing_beeps,
    sounder_alarm,
)
from clap_server.synthesis.textures import CRINKLE_KINDS, applause, crinkle, frying, pouring, splash
from clap_server.synthesis.tones import SINGING_KINDS, WHISTLE_KINDS, singing_glass, whistling
from clap_server.synthesis.voice import babble

__all__ = [
    "BEAST_KINDS",
    "BIRD_KINDS",
    "CHIME_KINDS",
    "CRINKLE_KINDS",
    "CUPBOARD_KINDS",
    "CYMBAL_KINDS",
    "DEMO_SEED",
    "GLASS_KINDS",
    "GUN_KINDS",
    "HORN_KINDS",
    "NOISE_KINDS",
    "PANE_KINDS",
    "REVERSING_KINDS",
    "SAMPLE_RATE",
    "SINGING_KINDS",
    "SIREN_KINDS",
    "SOUNDER_KINDS",
    "STOVE_KINDS",
    "TAP_KINDS",
    "WHISTLE_KINDS",
    "Scene",
    "animal_calls",
    "applause",
    "appliance_beeps",
    "babble",
    "bell_alarm",
    "bird_calls",
    "buzzer_alarm",
    "car_alarm",
    "chair_scrape",
    "chimes",
    "chopping",
    "coins",
    "crinkle",
    "cupboard",
    "cutlery",
    "cymbals",
    "demo_scene",
    "dishes",
    "dishwashing",
    "explosion",
    "fireworks",
    "frying",
    "glass_break",
    "glass_clink",
    "gunshot",
    "hammering",
    "horn_alarm",
    "impact",
    "impulse_response",
    "keys",
    "loudest_rms",
    "mix_at",
    "music",
    "noise",
    "pane_break",
    "pouring",
    "reverberate",
    "reversing_beeps",
    "ringtone",
    "singing_glass",
    "siren",
    "sounder_alarm",
    "splash",
    "stove",
    "t3_alarm",
    "t4_alarm",
    "tap_on_glass",
    "thud",
    "whistling",
]
