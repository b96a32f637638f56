"""Runs a real Home Assistant and a real server side by side: for `scripts/run` and the end-to-end tests."""
