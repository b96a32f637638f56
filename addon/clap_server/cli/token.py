"""``clap-server token``: prints the access token."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    """Print the token, making it if the server never ran."""
    settings = load_settings({"data": args.data})
    token, _ = DataFolder(settings.data).token(settings.token)
    print(token)
    return 0
