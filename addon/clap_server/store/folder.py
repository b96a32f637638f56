"""The data folder: what lies where, the server's id and its access token."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import stat
import uuid
from itertools import chain
from typing import TYPE_CHECKING

from clap_server.errors import StoreError
from clap_server.store.trouble import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_LOGGER = logging.getLogger(__name__)

PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600
PROBE_BYTES = 64 * 1024
_PROBE_PREFIX = ".write-test-"
_OTHERS = 0o077


class DataFolder:
    """Everything that the server keeps, in one folder, for the server's user alone.

    Attributes:
        root: the folder itself.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._secrets: dict[str, str] = {}

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

    @property
    def uploads(self) -> Path:
        """Recordings that are being classified."""
        return self.cache / "uploads"

    def create(self) -> None:
        """Make the folder and those inside it, where they are missing.

        Raises:
            StoreError: it cannot be written.
        """
        try:
            self._make()
        except OSError as error:
            raise self._unusable(error) from error

    def _make(self) -> None:
        self.root.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        for folder in (self.clips, self.models, self.cache, self.uploads):
            folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        # Known already, and someone removed them: the next start must find the same.
        for name, value in self._secrets.items():
            if not (self.root / name).exists():
                self._write_secret(name, value)
        # An empty file: with a full disk the server must start all the same.
        probe(self.root, 0)

    def is_whole(self) -> bool:
        """Whether nothing was deleted."""
        folders = (self.clips, self.models, self.cache, self.uploads)
        return all(folder.is_dir() for folder in folders) and all(
            (self.root / name).exists() for name in self._secrets
        )

    def make_private(self) -> None:
        """Take from other users what earlier versions let them read."""
        failed = 0
        for path in self._ours():
            try:
                mode = path.lstat().st_mode
                if not stat.S_ISLNK(mode) and mode & _OTHERS:
                    path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
            except FileNotFoundError:
                continue
            except OSError:
                failed += 1
        if failed:
            _LOGGER.warning(
                "%d files in %s may be readable by other users; make them the server's user's own",
                failed,
                self.root,
            )

    def _ours(self) -> Iterator[Path]:
        names = {path.name for path in self.root.iterdir()}
        files = {"server_id", "token", *(name for name in names if name.startswith(self.database.name))}
        folders = (self.clips, self.models, self.cache)
        # A folder that also holds other things may be shared with others on purpose.
        if names <= files | {folder.name for folder in folders}:
            yield self.root
        yield from (self.root / name for name in files)
        for folder in folders:
            yield folder
            if not folder.is_symlink():
                yield from folder.rglob("*")

    def remove_leftovers(self) -> None:
        """Remove what a crash left behind and nobody can be using: only one server uses the folder."""
        probes = (folder.glob(f"{_PROBE_PREFIX}*") for folder in (self.root, self.clips))
        for path in chain(self.uploads.glob("*"), *probes):
            with contextlib.suppress(OSError):
                path.unlink()

    def server_id(self) -> str:
        """The server's UUID, made at first use.

        Raises:
            StoreError: it cannot be read or written.
        """
        value, _ = self._secret("server_id", lambda: str(uuid.uuid4()))
        try:
            return str(uuid.UUID(value))
        except ValueError:
            raise StoreError(
                f"{self.root / 'server_id'} does not hold a UUID; delete the file and a new one is made"
            ) from None

    def token(self, override: str | None = None) -> tuple[str, bool]:
        """The access token, made at first use.

        Args:
            override: a token from the settings, which is used instead and not stored.

        Returns:
            The token, and whether it was made just now.

        Raises:
            StoreError: it cannot be read or written.
        """
        if override is not None:
            return override, False
        return self._secret("token", lambda: secrets.token_urlsafe(32))

    def stored_token(self) -> str | None:
        """The access token, if a server has made one here.

        Raises:
            StoreError: it cannot be read.
        """
        try:
            return (self.root / "token").read_text(encoding="utf-8").strip() or None
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise self._unusable(error) from error

    def remember_signed_out(self, text: str) -> None:
        """Write the sessions that ended again whenever their file is missing."""
        # Another dictionary: a thread may be going through this one.
        self._secrets = {**self._secrets, self.signed_out.name: text}

    def _secret(self, name: str, make: Callable[[], str]) -> tuple[str, bool]:
        path = self.root / name
        try:
            value = path.read_text(encoding="utf-8").strip() if path.exists() else ""
            made = not value
            if made:
                value = make()
                self.root.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
                self._write_secret(name, value)
        except (OSError, UnicodeDecodeError) as error:
            raise self._unusable(error) from error
        self._secrets[name] = value
        return value, made

    def _write_secret(self, name: str, value: str) -> None:
        path = self.root / name
        temporary = path.with_name(f".{name}.new")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(value + "\n")
        temporary.replace(path)

    def _unusable(self, error: Exception) -> StoreError:
        reason = (
            str(explain(error, self.root, "database_failed")) if isinstance(error, OSError) else str(error)
        )
        return StoreError(
            f"The data folder {self.root} cannot be used: {reason}; or name another with --data"
        )


def probe(folder: Path, size: int = PROBE_BYTES) -> None:
    """Write some bytes into a folder and remove them again.

    Raises:
        OSError: that does not work.
    """
    path = folder / f"{_PROBE_PREFIX}{os.getpid()}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)
