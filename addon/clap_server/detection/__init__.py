"""Scores in, events out: labels, background margin, gate, temporal logic."""
