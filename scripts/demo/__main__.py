"""The demo behind `scripts/run`."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import stat
import sys
import traceback
from pathlib import Path

import aiohttp

from scripts.demo.run import Demo, run_server_only
from scripts.harness.api import HomeAssistantError
from scripts.harness.configuration import REPOSITORY
from scripts.harness.ports import PortInUseError
from scripts.harness.process import ProcessError

DATA_HELP = """\
folder for everything that is stored (default: .run); with --server-only the server's data folder itself,
its recordings in media within it (default: .run/server/data)"""


def parse_arguments() -> argparse.Namespace:
    """Read the command line of `scripts/run`."""
    parser = argparse.ArgumentParser(
        prog="scripts/run", description="Runs the server and a demo Home Assistant."
    )
    parser.add_argument("--server-only", action="store_true", help="start just the server")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (0.0.0.0: the whole network)"
    )
    parser.add_argument("--port", type=int, default=7860, help="port of the server")
    parser.add_argument("--home-assistant-port", type=int, default=8123, help="port of Home Assistant")
    parser.add_argument("--data", type=Path, help=DATA_HELP)
    return parser.parse_args()


def end_without_terminal(stop: asyncio.Event) -> None:
    """End as by Ctrl-C, without writing to the terminal, which was closed."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (sys.stdout.fileno(), sys.stderr.fileno()):
        if stat.S_ISCHR(os.fstat(output).st_mode):
            os.dup2(nowhere, output)
    stop.set()


async def main() -> int:
    """Run until Ctrl-C or until the terminal is closed; returns the exit status."""
    arguments = parse_arguments()
    base = Path(os.environ.get("CLAP_DEMO_FOLDER", "."))
    default = REPOSITORY / ".run"
    if arguments.server_only:
        # That of the demo's server.
        default = default / "server" / "data"
    folder = (base / arguments.data).resolve() if arguments.data else default
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stop.set)
    # Under nohup a closed terminal ends nothing.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, end_without_terminal, stop)
    try:
        if arguments.server_only:
            return await run_server_only(folder, arguments.host, arguments.port, stop)
        async with aiohttp.ClientSession() as session:
            demo = Demo(session, folder, arguments.host, arguments.port, arguments.home_assistant_port)
            await demo.run(stop)
    except (ProcessError, HomeAssistantError, PortInUseError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception as error:  # noqa: BLE001 - a user needs a sentence; a developer finds the rest in the log
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "demo.log"
        log.write_text(traceback.format_exc())
        print(f"error: the demo failed ({error!r}); its log is {log}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
