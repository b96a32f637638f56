"""An engine whose library hangs when it is imported, which only its trial does."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from clap_server.clap.engines.kinds import Kind

KIND = Kind("hanging", "float32", None, "hanging", ("torch",))

if Path(sys.argv[0]).name == "child.py":
    sys.stdout.write(f"process {os.getpid()} hangs\n")
    sys.stdout.flush()
    time.sleep(3600)


def missing(device: str, dtype: str) -> str | None:
    del device, dtype
    return None
