"""``clap-server serve``: runs the server until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

from clap_server import __version__
from clap_server.logs import set_up_logging
from clap_server.settings import ServerSettings, load_settings, option, variable

if TYPE_CHECKING:
    import argparse

_LOGGER = logging.getLogger(__name__)

PORT_IN_USE_STATUS = 2
# Its value would be visible to every user of the machine.
_ENVIRONMENT_ONLY = {"token"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "serve",
        help="run the server",
        description="Run the server. Each option can also be given as an environment variable.",
        epilog="CLAP_TOKEN sets the access token; if left out, one is made at the first start.",
    )
    for name, field in ServerSettings.model_fields.items():
        if name not in _ENVIRONMENT_ONLY:
            unset = field.default_factory or field.default in (None, ())
            default = "" if unset else f"; default {field.default}"
            parser.add_argument(
                option(name),
                dest=name,
                metavar=name.upper(),
                help=f"{field.description} ({variable(name)}{default})".replace("%", "%%"),
            )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT."""
    settings = load_settings({name: getattr(args, name, None) for name in ServerSettings.model_fields})
    set_up_logging(settings.log_level)
    # Recordings, settings with passwords: what the server writes is for its own user alone.
    os.umask(0o077)
    return asyncio.run(_serve(settings))


async def _serve(settings: ServerSettings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask_to_stop() -> None:
        _LOGGER.info("Stopping")
        stop.set()
        # Whoever asks twice means it.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask_to_stop)
    _LOGGER.info("clap-server %s", __version__)
    # Brings torch, which takes seconds: not before the settings are known to be right.
    from clap_server.api.server import PortInUseError, Server

    server = Server(settings)
    starting = asyncio.create_task(server.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            await stopping
    except PortInUseError as error:
        print(f"clap-server: {error}", file=sys.stderr)
        return PORT_IN_USE_STATUS
    finally:
        stopping.cancel()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await server.stop()
    return 0
