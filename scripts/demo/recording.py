"""What the demo microphone hears."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.audio.encode import encode
from clap_server.synthesis.scene import DEMO_SEED, demo_scene

if TYPE_CHECKING:
    from pathlib import Path


def write_demo_recording(file: Path) -> list[float]:
    """Synthesise the demo recording into ``file`` unless it is there.

    Returns:
        Seconds from its start to each breaking of glass.
    """
    marks = file.with_suffix(".breaks")
    if file.exists() and marks.exists():
        return [float(line) for line in marks.read_text().split()]
    scene = demo_scene(np.random.default_rng(DEMO_SEED))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encode(scene.samples, scene.sample_rate, "flac"))
    marks.write_text("\n".join(f"{break_s:.2f}" for break_s in scene.breaks_s))
    return list(scene.breaks_s)
