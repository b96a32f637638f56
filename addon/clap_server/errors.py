"""The errors that clap_server raises on purpose; every message says what to do."""

from typing import Literal


class ClapServerError(Exception):
    """Base of all errors of this package."""


class ModelError(ClapServerError):
    """A model cannot be loaded or used."""


class AudioError(ClapServerError):
    """Sound cannot be read, decoded or encoded."""


class LabelError(ClapServerError):
    """A label, its text or its threshold is not usable."""


class ConfigurationError(ClapServerError):
    """A setting or a microphone's configuration is not usable."""


StorageCode = Literal[
    "disk_full", "read_only", "permission_denied", "database_gone", "database_failed", "clips_failed"
]


class StoreError(ClapServerError):
    """The data folder cannot be read or written.

    Attributes:
        code: stable name of the trouble, as ``ServerInfo.storage`` tells it.
    """

    def __init__(self, message: str, code: StorageCode = "database_failed") -> None:
        super().__init__(message)
        self.code = code
