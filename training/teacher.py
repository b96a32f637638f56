"""The teacher: a model that has heard two million clips and tells 527 classes of sound by its logits.

EfficientAT's mn04_as (Schmid et al., "Efficient large-scale audio tagging via transformer-to-CNN knowledge
distillation", 2023; MIT licence) as ONNX, with the log-mel that it was trained with. It is used in training
only and is no part of the product.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
import soxr
from scipy import fft

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MODEL = "mn04_as.onnx"
CLASSES = "class_labels_indices.csv"
SAMPLE_RATE = 32_000
# What it hears at once; shorter sounds are followed by silence.
WINDOW_S = 10.0
_FFT, _HOP, _MELS = 1024, 320, 128
_WINDOW = 800
_TOP_HZ = 15_000.0
_PREEMPHASIS = 0.97
_FLOOR = 1e-5
# Its logits outside say no more than these.
LOGITS = (-10.0, 6.0)


def _mel_filters() -> NDArray[np.float32]:
    """Kaldi's triangular filters: ``(mels, fft / 2 + 1)``."""
    bins = 1127.0 * np.log1p(SAMPLE_RATE / _FFT * np.arange(_FFT // 2) / 700.0)[None]
    step = 1127.0 * np.log1p(_TOP_HZ / 700.0) / (_MELS + 1)
    left = np.arange(_MELS)[:, None] * step
    rising, falling = (bins - left) / step, (left + 2 * step - bins) / step
    return np.pad(np.maximum(0, np.minimum(rising, falling)), ((0, 0), (0, 1))).astype(np.float32)


def _scaled(power: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((np.log(power + _FLOOR) + 4.5) / 5, np.float32)


class Teacher:
    """Scores sounds by the names of AudioSet's classes.

    Args:
        folder: with ``mn04_as.onnx`` and ``class_labels_indices.csv``.

    Raises:
        SystemExit: a file is missing.
    """

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        missing = [name for name in (MODEL, CLASSES) if not (folder / name).is_file()]
        if missing:
            lacks = ", ".join(missing)
            raise SystemExit(f"No teacher: {folder} lacks {lacks}. Name its folder with --teacher.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            folder / MODEL, options, providers=["CPUExecutionProvider"]
        )
        self._filters = _mel_filters()
        self._window = np.pad(np.hanning(_WINDOW), (_FFT - _WINDOW) // 2).astype(np.float32)

    def log_mel(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The teacher's features of ``(n,)`` samples at 32 kHz: ``(128, 1001)``, with silence at the end."""
        frames = int(WINDOW_S * SAMPLE_RATE) // _HOP + 1
        features = np.full((_MELS, frames), _scaled(np.zeros(1, np.float32))[0], np.float32)
        sound = samples[: int(WINDOW_S * SAMPLE_RATE)]
        flat = np.pad(sound[1:] - np.float32(_PREEMPHASIS) * sound[:-1], _FFT // 2, mode="reflect")
        cut = np.lib.stride_tricks.sliding_window_view(flat, _FFT)[::_HOP] * self._window
        power = np.abs(fft.rfft(cut, axis=1)) ** 2
        features[:, : len(power)] = _scaled(self._filters @ power.T)[:, :frames]
        return features

    def logits(self, samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        """``(527,)`` logits of ``(n,)`` samples, of which it hears the first 10 s."""
        heard = np.asarray(soxr.resample(samples, sample_rate, SAMPLE_RATE), np.float32)
        spectrum = self.log_mel(heard)[None, None]
        return np.asarray(self._session.run(None, {"spec": spectrum})[0][0], np.float32)


def read_classes(folder: Path) -> list[str]:
    """Names of the classes, in the order of the logits.

    Raises:
        SystemExit: the file is missing.
    """
    path = folder / CLASSES
    if not path.is_file():
        raise SystemExit(f"No teacher: {path} is missing. Name its folder with --teacher.")
    with path.open(encoding="utf-8", newline="") as handle:
        return [row["display_name"] for row in csv.DictReader(handle)]
