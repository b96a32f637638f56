"""Digital silence: a switch, a cable, or a camera whose noise gate sends nothing else while it is quiet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clap_server.audio.level import FLOOR_DBFS
from clap_server.detection.windows import PIECE_S

if TYPE_CHECKING:
    from collections.abc import Sequence

SILENT_S = 60.0
"""Digital silence for so long is no quiet room, unless it comes and goes by itself."""
GATED_SILENT_S = 12 * 3600.0
"""Longer than a quiet night: for microphones that have a noise gate."""
# No microphone sends nothing but zeros for a second and then sound again, unless something cuts it off; a
# person with a switch seldom does so this often.
_GATE_S = 1.0
_GATE_TIMES = 3


class Silence:
    """Follows how long a microphone has sent nothing but zeros, and learns whether that means something."""

    def __init__(self) -> None:
        self._silent_s = 0.0
        self._gated_times = 0

    def take(self, levels_dbfs: Sequence[float]) -> bool:
        """Whether it is silent for longer than it may be, after these pieces of ``PIECE_S`` too."""
        if any(level > FLOOR_DBFS for level in levels_dbfs):
            self._gated_times += self._silent_s >= _GATE_S
            self._silent_s = 0.0
        else:
            self._silent_s += len(levels_dbfs) * PIECE_S
        limit_s = GATED_SILENT_S if self._gated_times >= _GATE_TIMES else SILENT_S
        return self._silent_s >= limit_s - 1e-6

    def begin(self) -> None:
        """The stream begins anew: what was silent before says nothing of it."""
        self._silent_s = 0.0
