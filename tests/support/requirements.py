"""What a test needs from the machine: absent, it is skipped here but fails in CI."""

from __future__ import annotations

import os

import pytest


def require(condition: bool, reason: str) -> None:
    """Skip the test with ``reason`` unless ``condition`` holds; where ``CI`` is ``true``, fail it."""
    if condition:
        return
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"missing on this machine: {reason}")
    pytest.skip(reason)
