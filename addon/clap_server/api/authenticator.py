"""Checks tokens and cookies."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LOGGER = logging.getLogger(__name__)

SESSION_S = 30 * 86400
TELL_EVERY_S = 60.0


class Authenticator:
    """Knows the access token, and the sessions of pages that signed in with it.

    A cookie is not the token but a keyed hash of its time of issue, so it ends when the token changes and
    needs no storage. What is stored is the sessions that were signed out of before their time.

    Guesses are told in the log and not slowed down: a token of 256 bits cannot be guessed, and whoever is
    counted by address shares it with others behind the same proxy, Home Assistant among them.

    Args:
        token: the access token.
        server_id: makes the cookie's name, since a browser sends cookies to every port of a host.
        signed_out: file of the sessions that ended.
        now: Unix time in seconds.
        remember: is told what the file should hold, to write it again if it is lost.
    """

    def __init__(
        self,
        token: str,
        server_id: str,
        signed_out: Path,
        now: Callable[[], float] = time.time,
        remember: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._token = token.encode()
        self._now = now
        self._file = signed_out
        self._remember = remember
        self._ended = self._read()
        self._ending = threading.Lock()
        if self._ended:
            remember("\n".join(sorted(self._ended)))
        self._told_at = float("-inf")
        self._untold = 0
        self.cookie_name = f"clap_session_{server_id[:8]}"

    def token_is_right(self, token: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._token)

    def tell_of_wrong_token(self, address: str) -> None:
        """Log that a wrong token came, at most once a minute."""
        self._untold += 1
        if self._now() - self._told_at >= TELL_EVERY_S:
            _LOGGER.warning("Wrong access token from %s (%d since this was last told)", address, self._untold)
            self._told_at, self._untold = self._now(), 0

    def new_session(self) -> str:
        """Value of a cookie that signs in for ``SESSION_S``."""
        session = f"{int(self._now())}.{secrets.token_hex(8)}"
        return f"{session}.{self._sign(session)}"

    def session_is_valid(self, cookie: str) -> bool:
        """Whether a cookie's value was made here, is not too old, and was not signed out of."""
        session, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(
            signature.encode("utf-8", "surrogateescape"), self._sign(session).encode()
        ):
            return False
        return session not in self._ended and self._lasts(session)

    def end_session(self, cookie: str) -> None:
        """Let a cookie sign in no more, also after a restart. Blocks; from any thread."""
        with self._ending:
            self._end_session(cookie)

    def _end_session(self, cookie: str) -> None:
        if not self.session_is_valid(cookie):
            return
        self._ended = {session for session in self._ended if self._lasts(session)}
        self._ended.add(cookie.rpartition(".")[0])
        self._remember("\n".join(sorted(self._ended)))
        temporary = self._file.with_name(f".{self._file.name}.new")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.writelines(f"{session}\n" for session in sorted(self._ended))
            temporary.replace(self._file)
        except OSError as error:
            _LOGGER.error("A sign-out holds only until the restart: %s", error.strerror)

    def _read(self) -> set[str]:
        try:
            return set(self._file.read_text("ascii").split())
        except FileNotFoundError:
            return set()
        except (OSError, ValueError) as error:
            _LOGGER.error("Sessions that were signed out of are valid again: %s", error)
            return set()

    def _lasts(self, session: str) -> bool:
        issued, _, _ = session.partition(".")
        return issued.isdecimal() and int(issued) + SESSION_S > self._now()

    def _sign(self, session: str) -> str:
        message = f"session:{session}".encode("utf-8", "surrogateescape")
        return hmac.new(self._token, message, hashlib.sha256).hexdigest()
