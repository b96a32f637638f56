"""The demo that `scripts/run` starts: a home with one microphone, on top of the harness."""
