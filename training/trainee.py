"""What learns: both towers and what only the training needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from clap_server.clap.builtin.audio_tower import AudioTower
from clap_server.clap.builtin.text_tower import TextTower
from training.text import HIDDEN, TEACHER_DIMENSION, text_settings

if TYPE_CHECKING:
    from training.config import Config


class Trainee(nn.Module):
    """Everything that learns: the two towers and what only the training needs.

    Args:
        config: sizes.
        vocabulary: of the tokenizer.
        classes: of the audio teacher.
    """

    def __init__(self, config: Config, vocabulary: int, classes: int) -> None:
        super().__init__()
        self.audio = AudioTower(config.model.channels, config.model.dimension)
        self.text = TextTower(**text_settings(config, vocabulary))
        self.teacher = nn.Linear(self.audio.pooled, classes)
        nn.init.constant_(self.teacher.bias, -6.0)  # nearly all classes are absent nearly always
        self.named_scale = nn.Parameter(torch.tensor(10.0).log())
        self.named_bias = nn.Parameter(torch.full((classes,), -6.0))
        self.recall = nn.Linear(HIDDEN, TEACHER_DIMENSION)
        self.pair_scale = nn.Parameter(torch.tensor(10.0).log())
        self.pair_bias = nn.Parameter(torch.tensor(-3.0))
        self.library_scale = nn.Parameter(torch.tensor(8.0).log())
        self.library_bias = nn.Parameter(torch.tensor(0.0))
