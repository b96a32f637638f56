"""The audio tower: a small residual CNN on CLAP's log-mel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:
    from collections.abc import Sequence

# The loudest bin of a window is brought to 0 dB, so that the distance of a sound does not matter; below this
# level (about -90 dBFS for a sine) a window is left as quiet as it is: silence must not become noise.
PEAK_FLOOR_DB = -60.0
# What lies further below the loudest bin is not seen: a recording out of digital silence and one in a quiet
# room look alike.
RANGE_DB = 60.0
# What lies before and after a window that is too short: in each mel bin the level that a tenth of its frames
# are below.
QUIET_SHARE = 0.1
# Frames (of 10 ms) of it that lie before: the first sound of a stream needs an onset.
QUIET_LEAD = 8


def fill_up(mel_db: torch.Tensor, frames: int) -> None:
    """Put a short window into its own quiet, in place, ``QUIET_LEAD`` frames after its start.

    After digital silence a room's noise would end like a crash, and one would be heard at each start; without
    a lead a bang at the very start would have no beginning.

    Args:
        mel_db: ``(frames of the window, mels)`` in dB.
        frames: how many of them are sound; at least 1.
    """
    if frames >= len(mel_db):
        return
    lead = min(QUIET_LEAD, len(mel_db) - frames)
    sound = mel_db[:frames].clone()
    mel_db[:] = sound.quantile(QUIET_SHARE, dim=0)
    mel_db[lead : lead + frames] = sound


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al., 2016).

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        stride: of the first convolution, in both directions.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1: nn.Module = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2: nn.Module = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True), nn.Conv2d(inputs, outputs, 1, bias=False)
            )

    def fuse(self) -> None:
        """Fold the normalisations into the convolutions."""
        self.conv1, self.norm1 = _folded(self.conv1, self.norm1), nn.Identity()
        self.conv2, self.norm2 = _folded(self.conv2, self.norm2), nn.Identity()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Map ``(n, inputs, time, mel)`` to ``(n, outputs, time / stride, mel / stride)``."""
        inner = functional.relu(self.norm1(self.conv1(values)))
        inner = self.norm2(self.conv2(inner))
        return functional.relu(inner + self.shortcut(values))


def _folded(convolution: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    return fuse_conv_bn_eval(convolution, norm) if isinstance(norm, nn.BatchNorm2d) else convolution


class AudioTower(nn.Module):
    """Embeds log-mel windows.

    Args:
        channels: of the stem and of each of the stages; each stage halves time and frequency.
        dimension: of the embedding.
    """

    def __init__(self, channels: Sequence[int], dimension: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels[0], 3, 2, 1, bias=False)
        self.stem_norm: nn.Module = nn.BatchNorm2d(channels[0])
        blocks: list[nn.Module] = []
        last_stage = len(channels) - 1
        for stage in range(1, len(channels)):
            blocks.append(Block(channels[stage - 1], channels[stage], 2))
            if stage != last_stage:
                blocks.append(Block(channels[stage], channels[stage], 1))
        self.blocks = nn.Sequential(*blocks)
        self.pooled = 2 * channels[-1]
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(self.pooled, dimension)

    def fuse(self) -> None:
        """Fold each normalisation into the convolution before it; for running only, it cannot train after."""
        self.stem, self.stem_norm = _folded(self.stem, self.stem_norm), nn.Identity()
        for block in self.blocks:
            if isinstance(block, Block):
                block.fuse()

    def pool(self, mel_db: torch.Tensor) -> torch.Tensor:
        """Reduce ``(n, frames, mels)`` in dB to ``(n, pooled)``: the mean and the maximum over time."""
        peak = mel_db.amax(dim=(1, 2), keepdim=True).clamp_min(PEAK_FLOOR_DB)
        level = (mel_db - peak).clamp(-RANGE_DB, 0.0) / (RANGE_DB / 2) + 1.0
        values = level.unsqueeze(1).contiguous(memory_format=torch.channels_last)
        values = functional.relu(self.stem_norm(self.stem(values)))
        values = self.blocks(values).mean(dim=3)
        return torch.cat([values.mean(dim=2), values.amax(dim=2)], dim=1)

    def forward(self, mel_db: torch.Tensor) -> torch.Tensor:
        """Embed ``(n, frames, mels)`` in dB as ``(n, dimension)``, L2-normalised."""
        pooled: torch.Tensor = self.head(self.dropout(self.pool(mel_db)))
        return functional.normalize(pooled.float(), dim=1)
