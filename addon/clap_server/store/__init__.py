"""Keeps microphones, events and clips in the data folder."""
