"""Sounds made by program: for the demo, the tests, the training and the calibration. No recordings."""
