"""What the library's prompts and other names for a label, mostly the audio teacher's, say together.

The prompts learnt from the manifest's labels, which are certain but few; the names learnt from the teacher's
scores, which tell of sounds that no label names. They are wrong about different sounds, so that their sum
tells unheard shouts, doorbells and blows on metal better than either. A model that learns this sum as the
score of its prompts alone (Hinton et al., 2015, the model being its own teacher) does without the names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from clap_server.clap.builtin.text_tower import token_ids
from clap_server.detection.scoring import TEMPERATURE
from training.precision import mixed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tokenizers import Tokenizer

    from training.texts import LibraryScore
    from training.trainee import Trainee


class Consensus:
    """Chances of some labels, by a model that learns no more.

    Args:
        model: is frozen.
        score: of the library.
        tokenizer: of the text tower.
        names: for each of the labels what the audio teacher's classes, or other words, call it.

    Raises:
        SystemExit: the library has no such label.
    """

    def __init__(
        self,
        model: Trainee,
        score: LibraryScore,
        tokenizer: Tokenizer,
        names: Mapping[str, Sequence[str]],
    ) -> None:
        unknown = sorted(set(names) - set(score.label_ids))
        if unknown:
            raise SystemExit(
                f"[train.settle.names] has labels that the library lacks: {', '.join(unknown)}."
                " Mend config.toml."
            )
        self._model, self._score = model.eval().requires_grad_(requires_grad=False), score
        self.columns = [score.label_ids.index(label) for label in names]
        device = next(model.parameters()).device
        with torch.no_grad():
            self._prompts = model.text(score.ids.to(device)).float()
            self._bank = score.bank(self._prompts)
            self._names = [
                model.text(token_ids(tokenizer, list(words)).to(device)).float() for words in names.values()
            ]
        self._scale = torch.ones(len(self.columns), device=device)
        self._bias = torch.zeros(len(self.columns), device=device)

    def _heard(self, mels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Margins by the prompts, and these plus how much the names are like the sound: ``(n, k)`` each."""
        with torch.no_grad():
            with mixed(mels.device.type):
                pooled = self._model.audio.pool(mels)
            audio = functional.normalize(self._model.audio.head(pooled.float()), dim=1)
            margins = self._score.margins(audio, self._prompts, self._bank)[:, self.columns]
            named = [
                TEMPERATURE * torch.log(torch.exp(audio @ names.T / TEMPERATURE).mean(1))
                for names in self._names
            ]
        return margins, margins + torch.stack(named, dim=1)

    def fit(self, batches: Iterable[torch.Tensor]) -> None:
        """Give the sums the mean and spread of the prompts' own logits over windows ``(n, frames, mels)``."""
        heard = [self._heard(mels) for mels in batches]
        margins, sums = (torch.cat(parts) for parts in zip(*heard, strict=True))
        scale, bias = self._model.library_scale.exp(), self._model.library_bias
        self._scale = scale * margins.std(0) / sums.std(0)
        self._bias = scale * margins.mean(0) + bias - self._scale * sums.mean(0)

    def chances(self, mels: torch.Tensor) -> torch.Tensor:
        """How likely each label is in windows ``(n, frames, mels)`` in dB: ``(n, k)`` in 0..1."""
        return torch.sigmoid(self._scale * self._heard(mels)[1] + self._bias)

    def loss(self, logits: torch.Tensor, mels: torch.Tensor) -> torch.Tensor:
        """Binary cross entropy against the chances: the mean over windows of the sum over the labels.

        In a mean over labels the few that are likely would vanish.

        Args:
            logits: ``(n, labels)`` of all labels of the library.
            mels: ``(n, frames, mels)`` in dB of the same windows.
        """
        losses = functional.binary_cross_entropy_with_logits(
            logits[:, self.columns], self.chances(mels), reduction="none"
        )
        return losses.sum(1).mean()
