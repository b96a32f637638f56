"""The command line: serve, token, classify; evaluate and calibrate with the package clap-evaluation."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from typing import TYPE_CHECKING

from clap_server import __version__
from clap_server.errors import ClapServerError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

BAD_INPUT_STATUS = 2
INTERRUPTED_STATUS = 130
_EVALUATION = "clap_evaluation"
_COMMANDS = {
    "serve": "clap_server.cli.serve",
    "token": "clap_server.cli.token",
    "classify": "clap_server.cli.classify",
    "evaluate": f"{_EVALUATION}.cli.evaluate",
    "calibrate": f"{_EVALUATION}.cli.calibrate",
}


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of the command line: the module of each command adds it and sets ``func``.

    Args:
        command: adds this one alone, because others may import what takes seconds; all that are installed
            if there is none of that name.

    Raises:
        ConfigurationError: the command's package is not installed; the message says what to install.
    """
    parser = argparse.ArgumentParser(prog="clap-server", description="Hears sounds, tells Home Assistant.")
    parser.add_argument("--version", action="version", version=f"clap-server {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    missing = importlib.util.find_spec(_EVALUATION) is None
    for name, module in _COMMANDS.items():
        if command in _COMMANDS and name != command:
            continue
        if not (missing and module.startswith(_EVALUATION)):
            importlib.import_module(module).add_parser(subparsers)
        elif name == command:
            raise ConfigurationError(
                f"{name} comes with the package clap-evaluation: in a clone of the repository, "
                "pip install ./addon ./evaluation"
            )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and exit with its status.

    Args:
        argv: arguments without the program's name; those of the process if left out.

    Raises:
        SystemExit: with the command's status: 0 fine, 1 failed, 2 wrong use or port in use.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        args = build_parser(arguments[0] if arguments else None).parse_args(arguments)
        status = args.func(args)
    except ClapServerError as error:
        print(f"clap-server: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = INTERRUPTED_STATUS
    sys.exit(status or 0)
