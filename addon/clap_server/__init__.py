"""CLAP Sound server: hears sounds, tells Home Assistant."""

__version__ = "0.1.0"
