"""Calibration on a user's own recordings: what they add to everyday sound, and what that changes."""
