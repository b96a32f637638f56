"""Runs ``clap-server`` in the test's own process."""

from __future__ import annotations

import pytest

from clap_server.cli import main


def run_command(*arguments: str) -> int:
    """The status with which a command ends."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    if not isinstance(stopped.value.code, int):
        raise TypeError(stopped.value.code)
    return stopped.value.code
