"""``clap-server token``: prints the access token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clap_server.errors import ConfigurationError
from clap_server.settings import load_settings
from clap_server.store.folder import DataFolder

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "token", help="print the access token", description="Print the access token."
    )
    parser.add_argument("--data", metavar="DIR", help="the server's data folder (or CLAP_DATA)")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print the token of a server that has run; only a server makes one."""
    settings = load_settings({"data": args.data})
    token = settings.token or DataFolder(settings.data).stored_token()
    if token is None:
        raise ConfigurationError(
            f"No server has used the data folder {settings.data}: "
            "start it first, or name its folder with --data"
        )
    print(token)
    return 0
