"""Lets ``python -m clap_server`` run the command line."""

from clap_server.cli import main

if __name__ == "__main__":
    main()
