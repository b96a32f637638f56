"""The data folder: what lies where, the server's id and its access token."""

from __future__ import annotations

import os
import secrets
import uuid
from typing import TYPE_CHECKING

from clap_server.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class DataFolder:
    """Everything that the server keeps, in one folder.

    Attributes:
        root: the folder itself.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.root / "clap.db"

    @property
    def clips(self) -> Path:
        """Recordings of events, a folder a day."""
        return self.root / "clips"

    @property
    def models(self) -> Path:
        """Downloaded models and what was computed for them."""
        return self.root / "models"

    @property
    def cache(self) -> Path:
        """What can be made again at any time."""
        return self.root / "cache"

    @property
    def signed_out(self) -> Path:
        """Sessions of the page that ended before their time."""
        return self.root / "signed_out"

    def create(self) -> None:
        """Make the folder and those inside it, where they are missing.

        Raises:
            StoreError: it cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for folder in (self.clips, self.models, self.cache):
                folder.mkdir(exist_ok=True)
            probe = self.root / f".write-test-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise self._unwritable(error) from error

    def server_id(self) -> str:
        """The server's UUID, made at first use.

        Raises:
            StoreError: it cannot be read or written.
        """
        value, _ = self._secret_file("server_id", lambda: str(uuid.uuid4()), mode=0o644)
        try:
            return str(uuid.UUID(value))
        except ValueError:
            raise StoreError(
                f"{self.root / 'server_id'} does not hold a UUID; delete the file and a new one is made"
            ) from None

    def token(self, override: str | None = None) -> tuple[str, bool]:
        """The access token, made at first use and readable by the server's user alone.

        Args:
            override: a token from the settings, which is used instead and not stored.

        Returns:
            The token, and whether it was made just now.

        Raises:
            StoreError: it cannot be read or written.
        """
        if override is not None:
            return override, False
        return self._secret_file("token", lambda: secrets.token_urlsafe(32), mode=0o600)

    def _secret_file(self, name: str, make: Callable[[], str], mode: int) -> tuple[str, bool]:
        path = self.root / name
        try:
            if path.exists() and (value := path.read_text(encoding="utf-8").strip()):
                return value, False
            self.root.mkdir(parents=True, exist_ok=True)
            value = make()
            temporary = path.with_name(f".{name}.new")
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(value + "\n")
            temporary.replace(path)
        except (OSError, UnicodeDecodeError) as error:
            raise self._unwritable(error) from error
        return value, True

    def _unwritable(self, error: Exception) -> StoreError:
        return StoreError(
            f"The data folder {self.root} cannot be used ({error}); "
            "make it writable for this user or name another with --data"
        )
