"""The errors that clap_server raises on purpose; every message says what to do."""


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


class StoreError(ClapServerError):
    """The data folder cannot be read or written."""
