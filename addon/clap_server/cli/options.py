"""Options that several commands share."""

from __future__ import annotations

import argparse


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="builtin", metavar="NAME", help="builtin, a folder or a hub name")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")


def add_hop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hop", type=_hop, default=0.5, metavar="S", help="seconds between windows (0.5)")


def _hop(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number: use 0.1 to 5 seconds") from error
    if not 0.1 <= value <= 5:
        raise argparse.ArgumentTypeError("use 0.1 to 5 seconds")
    return value
