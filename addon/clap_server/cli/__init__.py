"""The command line: serve, token, classify, evaluate, calibrate."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from typing import TYPE_CHECKING

from clap_server import __version__
from clap_server.errors import ClapServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

BAD_INPUT_STATUS = 2
INTERRUPTED_STATUS = 130


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of the command line: each module of this package adds its command and sets ``func``.

    Those whose names start with an underscore hold what commands share.

    Args:
        command: adds this one alone, because others may import what takes seconds; all of them if there is
            none of that name.
    """
    parser = argparse.ArgumentParser(prog="clap-server", description="Hears sounds, tells Home Assistant.")
    parser.add_argument("--version", action="version", version=f"clap-server {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    names = [name for name in modules if not name.startswith("_")]
    for name in [command] if command in names else names:
        importlib.import_module(f"{__name__}.{name}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and exit with its status.

    Args:
        argv: arguments without the program's name; those of the process if left out.

    Raises:
        SystemExit: with the command's status: 0 fine, 1 failed, 2 wrong use or port in use.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    args = build_parser(arguments[0] if arguments else None).parse_args(arguments)
    try:
        status = args.func(args)
    except ClapServerError as error:
        print(f"clap-server: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = INTERRUPTED_STATUS
    sys.exit(status or 0)
