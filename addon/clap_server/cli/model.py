"""Loading a model for a command, which tells meanwhile what takes so long."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from platformdirs import user_cache_path
from rich.markup import escape

from clap_server.settings import load_settings
from clap_server.store.folder import DataFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from clap_server.clap.model import ClapModel


@contextmanager
def loading(terminal: Console) -> Iterator[Callable[[str], None]]:
    """Show that a model is loaded; yields what takes the lines that say how far it is.

    On a terminal each line replaces the one before, elsewhere all are printed.
    """
    with terminal.status("Loading the model") as status:

        def tell(line: str) -> None:
            if terminal.is_terminal:
                status.update(escape(line))
            else:
                terminal.print(escape(line))

        yield tell


def load_prepared(name: str, device: str, terminal: Console) -> ClapModel:
    """Load a model with its bank of everyday sound, as the server does.

    Raises:
        ConfigurationError: a setting in the environment is not usable.
        ModelError: the model cannot be had.
    """
    from clap_server.clap.loader import load_model
    from clap_server.detection.everyday.preparing import prepared

    cache_dir = user_cache_path("clap-server")
    settings = load_settings({})
    models_dir = DataFolder(settings.data).models
    with loading(terminal) as tell:
        model = load_model(name, device=device, cache_dir=cache_dir, progress=tell, engine=settings.engine)
        return prepared(model, cache_dir, tell, own_dir=models_dir)
