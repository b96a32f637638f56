"""What the log looks like, and what never gets into it."""

from __future__ import annotations

import logging
import re
import sys

from clap_server.audio.url import redact_text

# Control characters, separators of lines, and what turns the direction of writing.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_CHATTY = ("httpx", "huggingface_hub", "transformers", "libav")


class SafeFormatter(logging.Formatter):
    """Keeps secrets out of the log, and lines in it that nobody logged.

    Addresses lose their secrets, also in the traceback of an error that nobody foresaw. A message is one line
    without control characters, whatever a name or an answer from outside holds; the lines of a traceback are
    indented, so that none of them looks like a message.
    """

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        parts = [_CONTROL.sub(_escaped, self.formatMessage(record))]
        # What another formatter may have kept in the record is not used: it is not indented.
        if record.exc_info:
            parts.append(_indented(self.formatException(record.exc_info)))
        if record.stack_info:
            parts.append(_indented(self.formatStack(record.stack_info)))
        return redact_text("\n".join(parts))


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _indented(text: str) -> str:
    return "\n".join(f"  {_CONTROL.sub(_escaped, line)}" for line in text.split("\n"))


def set_up_logging(level: str) -> None:
    """Log to standard error from ``level`` (such as ``info``) on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(SafeFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
