"""Calibration on a user's own recordings, and what scores are worth under it."""
