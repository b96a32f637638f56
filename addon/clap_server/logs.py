"""What the log looks like, and what never gets into it."""

from __future__ import annotations

import logging
import sys

from clap_server.audio.url import redact_text

_CHATTY = ("httpx", "huggingface_hub", "transformers", "libav")


class RedactingFormatter(logging.Formatter):
    """Takes the secrets out of every address, also in the traceback of an error that nobody foresaw."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines, of a record."""
        return redact_text(super().format(record))


def set_up_logging(level: str) -> None:
    """Log to standard error from ``level`` (such as ``info``) on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
