"""A port that is taken: the message says by whom."""

from __future__ import annotations

import os
import socket

import pytest

from scripts.harness.ports import PortInUseError, check_port


def test_port_in_use_is_told_with_the_program_that_has_it_and_the_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortInUseError) as told:
            check_port("127.0.0.1", port, "--port")
    text = str(told.value)
    assert text.startswith(f"cannot listen on 127.0.0.1:{port} (Address already in use): ")
    assert f"process {os.getpid()} (" in text
    assert text.endswith("; end it, or choose another port with --port")
    assert "\n" not in text


def test_address_of_another_machine_is_told_without_a_culprit() -> None:
    with pytest.raises(PortInUseError, match=r"192\.0\.2\.1:7860 .*: choose another port with --port$"):
        check_port("192.0.2.1", 7860, "--port")
