"""What a start of the server costs."""

from __future__ import annotations

import subprocess
import sys


def test_server_with_the_builtin_model_does_not_load_what_only_other_models_need() -> None:
    program = "import sys, clap_server.cli.serve, clap_server.api.server; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    loaded = set(result.stdout.split())
    assert "torch" in loaded
    # Half of the time until the server listens.
    assert loaded & {"transformers", "huggingface_hub"} == set()
