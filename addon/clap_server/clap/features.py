"""CLAP's log-mel spectrogram in torch, batched on the model's device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Power below which the extractor of transformers reads silence: -100 dB.
_POWER_FLOOR = 1e-10


def mel_filters(
    *,
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    fmin_hz: float,
    fmax_hz: float,
    filters: Literal["slaney", "htk"],
) -> NDArray[np.float64]:
    """Triangular filters on the mel scale.

    Equal to ``transformers.audio_utils.mel_filter_bank``; written out here because importing transformers
    takes seconds, which a server on the built-in model would spend for nothing.

    Args:
        sample_rate: in Hz.
        n_fft: length of the Fourier transform.
        n_mels: number of filters.
        fmin_hz: lower edge of the first filter.
        fmax_hz: upper edge of the last filter.
        filters: ``htk``: ``2595 log10(1 + f / 700)``, peaks of 1. ``slaney``: linear below 1 kHz, logarithmic
            above (Auditory Toolbox, 1998), each filter of area 1.

    Returns:
        ``(n_fft // 2 + 1, n_mels)``.
    """
    linear_hz, step, ratio = 1000.0, 200.0 / 3.0, np.log(6.4) / 27.0  # Slaney's constants

    def to_mel(hz: float) -> float:
        if filters == "htk":
            return float(2595.0 * np.log10(1.0 + hz / 700.0))
        return float(hz / step if hz < linear_hz else linear_hz / step + np.log(hz / linear_hz) / ratio)

    mels = np.linspace(to_mel(fmin_hz), to_mel(fmax_hz), n_mels + 2)
    if filters == "htk":
        edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    else:
        edges = np.where(
            mels < linear_hz / step, mels * step, linear_hz * np.exp(ratio * (mels - linear_hz / step))
        )
    bins = np.linspace(0, sample_rate // 2, n_fft // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins) / np.diff(edges)[1:]
    bank = np.maximum(0.0, np.minimum(rising, falling))
    return bank * (2.0 / (edges[2:] - edges[:-2])) if filters == "slaney" else bank


class LogMel(torch.nn.Module):
    """Log-mel spectrogram as ``transformers.ClapFeatureExtractor`` computes it.

    Periodic Hann window, frames centred with reflected edges, power spectrum, triangular mel filters,
    ``10 * log10`` with a floor of -100 dB and no limit on the range below the peak.

    Args:
        sample_rate: in Hz.
        n_fft: length of the Fourier transform and of the window, in samples.
        hop_length: samples from one frame to the next.
        n_mels: mel bins.
        fmin_hz: lower edge of the first filter.
        fmax_hz: upper edge of the last filter.
        filters: ``htk`` for checkpoints with fusion; ``slaney`` (area normalised) for the others.
        dtype: in which the spectrum is computed. The extractor uses float64; in float32 bins that lie more
            than about 100 dB below the loudest of their frame are off by several dB.
    """

    def __init__(
        self,
        sample_rate: int = 48000,
        *,
        n_fft: int = 1024,
        hop_length: int = 480,
        n_mels: int = 64,
        fmin_hz: float = 50.0,
        fmax_hz: float = 14000.0,
        filters: Literal["slaney", "htk"] = "slaney",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.n_mels = n_mels
        bank = mel_filters(
            sample_rate=sample_rate,
            n_fft=n_fft,
            n_mels=n_mels,
            fmin_hz=fmin_hz,
            fmax_hz=fmax_hz,
            filters=filters,
        )
        self.window: torch.Tensor
        self.bank: torch.Tensor
        self.register_buffer("window", torch.hann_window(n_fft, dtype=dtype), persistent=False)
        self.register_buffer("bank", torch.from_numpy(bank).to(dtype), persistent=False)

    def frames(self, samples: int) -> int:
        """Number of frames of so many samples."""
        return samples // self.hop_length + 1

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Compute the spectrogram.

        Args:
            samples: ``(n, samples)`` or ``(samples,)``, full scale -1..1, more than ``n_fft / 2`` long.

        Returns:
            ``(n, frames, n_mels)`` or ``(frames, n_mels)`` in dB, float32, with
            ``frames = samples // hop_length + 1``.
        """
        # Autocast would run the matrix product in half precision, which the logarithm would not forgive.
        with torch.autocast(samples.device.type, enabled=False):
            spectrum = torch.stft(
                samples.to(self.window.dtype),
                self.n_fft,
                self.hop_length,
                window=self.window,
                center=True,
                pad_mode="reflect",
                return_complex=True,
            )
            # A sum over an axis of two took half of the time of the whole spectrogram.
            power = spectrum.real.square() + spectrum.imag.square()
            mel = power.transpose(-1, -2) @ self.bank
            return (10.0 * mel.clamp_min(_POWER_FLOOR).log10()).float()


def repeat_pad(
    windows: Sequence[NDArray[np.float32]], samples: int, padding: str = "repeatpad"
) -> torch.Tensor:
    """Bring windows to one length as CLAP was trained.

    Args:
        windows: each ``(n,)`` with ``1 <= n <= samples``.
        samples: length to reach.
        padding: ``repeatpad``: whole repetitions, then silence (LAION's checkpoints); ``repeat``: repetitions
            to the end; ``pad``: silence.

    Returns:
        ``(len(windows), samples)`` float32.

    Raises:
        ValueError: a window is empty or too long, or there is no such padding.
    """
    if padding not in {"repeatpad", "repeat", "pad"}:
        raise ValueError(f"unknown padding {padding!r}")
    batch = torch.zeros(len(windows), samples)
    for row, window in zip(batch, windows, strict=True):
        count = len(window)
        if not 1 <= count <= samples:
            raise ValueError(f"a window must have 1 to {samples} samples, this one has {count}")
        values = torch.from_numpy(np.asarray(window, np.float32))
        if padding == "repeat":
            row[:] = values.repeat(samples // count + 1)[:samples]
        else:
            repeats = samples // count if padding == "repeatpad" else 1
            row[: repeats * count] = values.repeat(repeats)
    return batch
