"""The one interface that every CLAP model has here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from clap_server.clap.everyday import EverydayBank


class ClapModel(Protocol):
    """A two-tower model that puts text and audio into one space.

    Methods block and are safe to call from one thread at a time.
    """

    @property
    def name(self) -> str:
        """What the user calls it: a hub name, a folder or ``builtin``."""

    @property
    def builtin(self) -> bool:
        """Whether its weights came with this package."""

    @property
    def device(self) -> str:
        """Where it runs, as torch names it: ``cpu``, ``cuda:0``."""

    @property
    def dtype(self) -> str:
        """The number format it computes in: ``float32``, ``bfloat16``."""

    @property
    def sample_rate(self) -> int:
        """Samples a second of the audio it takes, in Hz."""

    @property
    def window_s(self) -> float:
        """The longest window it looks at, in seconds."""

    @property
    def dimension(self) -> int:
        """Length of an embedding."""

    @property
    def everyday(self) -> EverydayBank | None:
        """Everyday sound as it hears it, which says what its margins are worth; None if there is none yet."""

    def embed_audio(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embed windows of mono audio.

        Args:
            windows: each ``(samples,)`` at ``sample_rate``, full scale -1..1, at most ``window_s`` long. A
                shorter one is handled as the model was trained. Lengths may differ within a call.

        Returns:
            ``(n, dimension)``, L2-normalised. A window's row does not depend on the others.
        """

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts.

        Returns:
            ``(m, dimension)``, L2-normalised.
        """
