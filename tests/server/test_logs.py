from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from clap_server.logs import SafeFormatter, set_up_logging

if TYPE_CHECKING:
    import pytest

URL = "rtsp://viewer:open-sesame@camera.example/stream"


def break_off() -> None:
    raise RuntimeError(f"cannot open {URL}")


def test_a_password_in_a_traceback_does_not_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.setFormatter(SafeFormatter("%(message)s"))
    try:
        break_off()
    except RuntimeError:
        logging.getLogger("test").exception("broke off: %s", URL)
    text = caplog.text
    assert "open-sesame" not in text
    assert text.count("camera.example/stream") == 2
    assert "Traceback" in text


def test_nobody_writes_lines_of_their_own_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.setFormatter(SafeFormatter("%(levelname)s %(message)s"))
    forged = "Hall\n2026-11-27 ERROR forged\r\x1b[31mred\x1b[0m\u2028\u202egnol\x00\x9b1m"
    try:
        raise ValueError(forged)
    except ValueError:
        logging.getLogger("test").exception("%s: glass breaks", forged)
    message, *traceback = caplog.text.splitlines()
    assert message.startswith(r"ERROR Hall\n2026-11-27 ERROR forged\r\x1b[31mred")
    assert r"\u202egnol\x00\x9b1m: glass breaks" in message
    assert len(traceback) > 3
    assert all(line.startswith("  ") for line in traceback)
    assert all(line.isprintable() for line in (message, *traceback))


def test_umlauts_and_emoji_stay_readable(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.setFormatter(SafeFormatter("%(message)s"))
    logging.getLogger("test").warning("Küche 玄関 👨\u200d👩 C:\\x")
    assert caplog.text == "Küche 玄関 👨\u200d👩 C:\\x\n"


def test_the_log_goes_to_standard_error_from_its_level_on(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        set_up_logging("info")
        logging.getLogger("test").debug("unseen")
        logging.getLogger("test").info("seen from %s", URL)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    output = capsys.readouterr()
    assert "unseen" not in output.err
    assert "INFO test: seen from rtsp://" in output.err
    assert "open-sesame" not in output.err
    assert output.out == ""
