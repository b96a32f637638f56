"""Step ``distil``: the model learns what a teacher hears that has heard two million clips.

The recordings with labels are few and clean. The teacher needs no labels: it listens to mixtures made of all
that there is (``scenes``) and tells 527 classes. The model learns its logits as a side task (Hinton et al.,
2015), its decisions against the names of the classes, so that words for them find their sounds, and the
library's labels by half what the mixture is made of and half what a linear head on the teacher's logits says.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from clap_server.clap import builtin
from clap_server.clap.builtin.model import TOKENIZER, WEIGHTS
from clap_server.clap.builtin.text_tower import token_ids
from training.mixing import FLOOR_DB, Batch, begin_stream, begin_with
from training.prepare import MELS
from training.scenes import Shard, Stock
from training.teacher import LOGITS, read_classes
from training.train import CHECKPOINT, Trainer, digest_of, masked, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from training.config import Config

FOLDER = "distil"
# Of the teacher's classes those that mean a label of the library, or are easily mistaken for it: their logits
# count more.
CLOSE = (
    "Shatter",
    "Breaking",
    "Glass",
    "Chink, clink",
    "Dishes, pots, and pans",
    "Cutlery, silverware",
    "Smash, crash",
    "Alarm",
    "Smoke detector, smoke alarm",
    "Fire alarm",
    "Siren",
    "Alarm clock",
    "Car alarm",
    "Buzzer",
    "Beep, bleep",
    "Explosion",
    "Gunshot, gunfire",
    "Burst, pop",
    "Bang",
    "Slam",
    "Thump, thud",
    "Shout",
    "Yell",
    "Bellow",
    "Screaming",
    "Crying, sobbing",
    "Baby cry, infant cry",
    "Clang",
    "Ding",
    "Bark",
    "Dog",
    "Doorbell",
    "Knock",
)
_CLOSE_WEIGHT = 6.0
# A class decides where it does in windows that hold no event: at this quantile.
_DECIDES_AT = 0.98
_LEAST_EVENTS = 30
_RIDGE = 3.0
_HEAD_STEPS, _HEAD_DECAY = 400, 1e-2
_FITTED_WINDOWS, _FITTED_AT_ONCE = 3072, 256
_SCALE_STEPS = 300
_MASKED_BINS = 8
_WARMUP = 100


@dataclass(frozen=True, slots=True)
class Heads:
    """Linear heads on the teacher's logits, one for each label of the library.

    Attributes:
        mean: ``(classes,)`` of the logits.
        spread: ``(classes,)`` their standard deviation.
        weight: ``(labels, classes)``.
        bias: ``(labels,)``; NaN for a label of which there were too few events.
    """

    mean: torch.Tensor
    spread: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor

    @classmethod
    def none(cls, labels: int, classes: int) -> Heads:
        """Heads that tell nothing."""
        nothing = torch.full((labels,), torch.nan)
        return cls(torch.zeros(classes), torch.ones(classes), torch.zeros(labels, classes), nothing)

    def chances(self, logits: torch.Tensor) -> torch.Tensor:
        """How likely each label is by ``(n, classes)`` logits: ``(n, labels)`` in 0..1, or NaN."""
        return torch.sigmoid((logits - self.mean) / self.spread @ self.weight.T + self.bias)


class Distiller(Trainer):
    """One distillation, which can be left and taken up again at any checkpoint.

    It begins with the weights of the step ``train``, or of the package where that was not run.

    Args:
        config: settings.
        data: recordings.
        teacher: folder of the teacher.
        runs: folder of what the steps before made.
        stock: windows with what the teacher hears in them.
        log: called with each line of progress.
        held_out: fold of cross-validation that is not trained on; None to train on all.

    Raises:
        SystemExit: a file is missing.
    """

    def __init__(
        self,
        config: Config,
        data: Path,
        teacher: Path,
        runs: Path,
        stock: Stock,
        log: Callable[[str], None],
        held_out: int | None = None,
    ) -> None:
        self._classes = read_classes(teacher)
        super().__init__(config, data, runs, log, held_out, self._classes)
        before = self.folder / CHECKPOINT
        self.folder = self.folder / FOLDER
        self.folder.mkdir(parents=True, exist_ok=True)
        self.settings = digest_of(config, held_out, distilled=True)
        self.steps = config.distil.steps + config.distil.settle.steps
        self._stock = stock
        self._close = torch.ones(len(self._classes))
        self._close[[self._classes.index(name) for name in CLOSE]] = _CLOSE_WEIGHT
        self._begin(before)
        # With other weights to begin with it would be another outcome.
        began = self.model.audio.head.weight.detach().cpu().numpy().tobytes()
        self.settings += f" {hashlib.sha256(began).hexdigest()}"
        self.average = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.decides = torch.zeros(len(self._classes))
        self.heads = Heads.none(len(self.score.label_ids), len(self._classes))
        self._ready = False

    def _begin(self, checkpoint: Path) -> None:
        """Take over the towers that there are."""
        if checkpoint.is_file():
            state = torch.load(checkpoint, map_location=self.device, weights_only=True)
            if state["step"] < self.config.train.all_steps:
                raise SystemExit(
                    f"{checkpoint}: training was interrupted at step {state['step']} of"
                    f" {self.config.train.all_steps}: run `python -m training train` to finish it."
                )
            kept = {
                name: value
                for name, value in state["average"].items()
                if name.startswith(("audio.", "text.", "recall."))
            }
            self.model.load_state_dict(kept, strict=False)
            self.log(f"begins with {checkpoint}")
            return
        if self.held_out is not None:
            raise SystemExit(f"{checkpoint} is missing: train the fold before it is distilled.")
        package = builtin.FOLDER
        weights = {name: value.float() for name, value in load_file(package / WEIGHTS).items()}
        own = self.tokenizer.get_vocab()
        theirs = json.loads((package / TOKENIZER).read_text("utf-8"))["model"]["vocab"]
        # A piece that the package does not know keeps its meaning from the step ``text``.
        tokens = self.model.text.tokens.weight.detach().clone()
        both = [piece for piece in own if piece in theirs]
        tokens[[own[piece] for piece in both]] = weights["text.tokens.weight"][[theirs[p] for p in both]].to(
            tokens.device
        )
        weights["text.tokens.weight"] = tokens
        self.model.load_state_dict(weights, strict=False)
        self._fit_recall()
        self.log(f"begins with the weights in {package}")

    def _fit_recall(self) -> None:
        """The package has no projection to the sentence encoder's space: fit it by least squares."""
        states = []
        with torch.inference_mode():
            for first in range(0, len(self.corpus), 512):
                ids = token_ids(self.tokenizer, self.corpus[first : first + 512])
                states.append(self.model.text.mean(ids.to(self.device)).float().cpu())
        weight, bias = _least_squares(torch.cat(states), self.meanings)
        self.model.recall.load_state_dict({"weight": weight, "bias": bias})

    def _rate(self) -> float:
        if self.step < _WARMUP:
            return (self.step + 1) / _WARMUP
        settings = self.config.distil
        if self.step >= settings.steps:
            return settings.settle.rate * (self.steps - self.step) / settings.settle.steps
        done = (self.step - _WARMUP) / max(settings.steps - _WARMUP, 1)
        return 0.01 + 0.495 * (1 + float(np.cos(np.pi * min(done, 1.0))))

    @property
    def _settles(self) -> bool:
        """Whether it is among the very last steps."""
        return self.step >= self.config.distil.steps

    def advance(self) -> dict[str, float]:
        """Take one step; everything random in it depends on the seed and its number alone."""
        if not self._ready:
            self._prepare_heads()
            self._ready = True
        settings = self.config.distil
        rng = np.random.default_rng((settings.seed, 1, self.step))
        torch.manual_seed(settings.seed + self.step)
        if self.step == settings.steps:
            self.model.load_state_dict(self.average)
        if self.step >= settings.steps:
            heard = settings.prefix + settings.steps * settings.windows
            numbers = rng.integers(0, heard, settings.settle.earlier)
        else:
            first = settings.prefix + self.step * settings.windows
            earlier = rng.integers(0, first, settings.earlier)
            numbers = np.concatenate([np.arange(first, first + settings.windows), earlier])
        scenes = self._stock.take(numbers)
        self.model.train()
        with sdpa_kernel(SDPBackend.MATH):
            losses = self._distil_loss(scenes, rng)
        return self._follow(losses, settings.learning_rate * self._rate(), settings.average_decay)

    def _distil_loss(self, scenes: Shard, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        settings, device = self.config.distil, self.device
        logits = torch.from_numpy(scenes.logits.astype(np.float32)).clamp(*LOGITS)
        mels = torch.from_numpy(scenes.mels.astype(np.float32))
        self._change(mels, rng)
        mixed_count = settings.settle.mixed if self._settles else settings.mixed
        other = self.mixer.draw(rng, mixed_count)
        count = len(scenes.mels)
        batch = Batch(
            torch.cat([mels, other.mels]),
            torch.cat([torch.from_numpy(scenes.targets.astype(np.float32)), other.targets]),
            torch.cat([torch.sigmoid(logits - self.decides), torch.zeros(mixed_count, len(self._classes))]),
            torch.cat([torch.ones(count), torch.zeros(mixed_count)]),
            [*scenes.captions, *other.captions],
            torch.cat([torch.from_numpy(scenes.concepts.astype(np.int64)), other.concepts]),
        )
        pooled, audio = self._hear(batch)
        pair, prompts = self._pair(audio, batch, rng)
        heard = self._library_logits(audio, prompts)
        library = masked(heard, self.wanted(batch.targets, logits).to(device), smoothing=0.03)
        told = self.model.teacher(pooled[:count])
        weight = ((0.2 + 2 * torch.sigmoid(logits + 4)) * self._close).to(device)
        side = functional.smooth_l1_loss(told, logits.to(device), reduction="none")
        side = (side * weight).sum() / weight.sum()
        named = self._named(audio, batch, rng)
        words = self._words(rng)
        total = (
            settings.logits_weight * side
            + settings.named_weight * named
            + settings.library_weight * library
            + settings.pair_weight * pair
            + settings.words_weight * words
        )
        return {
            "total": total,
            "pair": pair,
            "library": library,
            "teacher": side,
            "named": named,
            "distil": words,
        }

    def _change(self, mels: torch.Tensor, rng: np.random.Generator) -> None:
        """Make some windows, in place, those at the start of a stream, and let some lack a band."""
        settings = self.config.distil
        begun_share = (settings.settle if self._settles else settings).begun_share
        for mel in mels:
            loudest, kind = int(mel.amax(1).argmax()), rng.random()
            if kind < begun_share:
                begin_stream(mel, loudest, rng)
            elif kind < begun_share + settings.first_share:
                begin_with(mel, loudest, rng)
            if rng.random() < settings.masked_share:
                low = int(rng.integers(0, MELS - _MASKED_BINS))
                mel[:, low : low + _MASKED_BINS] = FLOOR_DB

    def wanted(self, targets: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Chances of the library's labels, ``(n, labels)``; -1 where nothing is known.

        Args:
            targets: ``(n, concepts)`` by what a window is made of.
            logits: ``(m, classes)`` of the teacher, for the first ``m`` windows.
        """
        settings = self.config.distil
        share = (settings.settle if self._settles else settings).teacher_share
        wanted = targets[:, self.score.concepts].clone()
        made = wanted[: len(logits)]
        heard = self.heads.chances(logits)
        known = ~torch.isnan(self.heads.bias)
        both = torch.where(made >= 0, (1 - share) * made + share * heard, heard)
        wanted[: len(logits)] = torch.where(known, both, made)
        return wanted

    def _prepare_heads(self) -> None:
        """Fit what stays as it is: where classes decide, and linear heads on the teacher's logits.

        At the first step the model's own heads are fitted, too, so that they need not be learnt by and by.
        """
        scenes = self._stock.take(np.arange(self.config.distil.prefix))
        logits = torch.from_numpy(scenes.logits.astype(np.float32)).clamp(*LOGITS)
        targets = torch.from_numpy(scenes.targets.astype(np.float32))
        wanted = targets[:, self.score.concepts]
        quiet = (wanted <= 0).all(1)
        if not quiet.any():
            quiet[:] = True
        self.decides = torch.quantile(logits[quiet], _DECIDES_AT, dim=0)
        self.heads = fit_heads(logits, wanted)
        fitted = int((~torch.isnan(self.heads.bias)).sum())
        shatter = float(self.decides[self._classes.index("Shatter")])
        self.log(
            f"heads on the teacher's logits for {fitted} labels; {int(quiet.sum())} windows without events:"
            f" Shatter decides at {shatter:.1f}"
        )
        if self.step == 0:
            self._fit_own_heads(scenes, logits)

    def _fit_own_heads(self, scenes: Shard, logits: torch.Tensor) -> None:
        """Fit the side task's head by least squares, and scales and biases by gradient descent."""
        model, device = self.model, self.device
        model.eval()
        pooled = []
        count = min(_FITTED_WINDOWS, len(logits))
        with torch.inference_mode():
            for first in range(0, count, _FITTED_AT_ONCE):
                mels = torch.from_numpy(
                    scenes.mels[first : min(first + _FITTED_AT_ONCE, count)].astype(np.float32)
                )
                pooled.append(model.audio.pool(mels.to(device)).float().cpu())
        states = torch.cat(pooled)
        weight, bias = _least_squares(states, logits[:count])
        model.teacher.load_state_dict({"weight": weight, "bias": bias})
        targets = torch.from_numpy(scenes.targets[:count].astype(np.float32))
        wanted = self.wanted(targets, logits[:count]).to(device)
        rng = np.random.default_rng((self.config.seed, 2))
        with torch.no_grad():
            audio = functional.normalize(model.audio.head(states.to(device)), dim=1)
            phrases = model.text(self.phrases.draw(rng, []).to(device))
            prompts = model.text(self.score.ids.to(device))
            names = model.text(self.names.to(device))
            margins = self.score.margins(audio, prompts, self.score.bank(prompts))
            likeness, named = audio @ phrases.T, audio @ names.T
        owned = targets.to(device)[:, self.phrases.owners.to(device)]
        decisions = torch.sigmoid(logits[:count] - self.decides).to(device)
        scales = [model.pair_scale, model.pair_bias, model.library_scale, model.library_bias]
        scales += [model.named_scale, model.named_bias]
        optimizer = torch.optim.Adam(scales, lr=0.03)
        for _ in range(_SCALE_STEPS):
            loss = (
                masked(likeness * model.pair_scale.exp() + model.pair_bias, owned, smoothing=0.05)
                + masked(margins * model.library_scale.exp() + model.library_bias, wanted, smoothing=0.03)
                + functional.binary_cross_entropy_with_logits(
                    named * model.named_scale.exp() + model.named_bias, decisions
                )
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
            optimizer.step()
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        told = ", ".join(
            f"{s.exp().item():.1f}" for s in (model.pair_scale, model.library_scale, model.named_scale)
        )
        self.log(f"own heads fitted on {count} windows; scales {told}")


def _least_squares(states: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the ridge regression from ``(n, d)`` to ``(n, m)``."""
    mean, target = states.mean(0), wanted.mean(0)
    centred = (states - mean).double()
    matrix = centred.T @ centred
    matrix += _RIDGE * matrix.diagonal().mean() * 1e-2 * torch.eye(len(matrix), dtype=torch.float64)
    weight = torch.linalg.solve(matrix, centred.T @ (wanted - target).double()).T.float()
    return weight.contiguous(), target - weight @ mean


def fit_heads(logits: torch.Tensor, wanted: torch.Tensor) -> Heads:
    """Logistic regressions from ``(n, classes)`` logits to ``(n, labels)`` chances; -1 is unknown."""
    mean, spread = logits.mean(0), logits.std(0).clamp_min(0.1)
    states = (logits - mean) / spread
    weight = torch.zeros(wanted.shape[1], logits.shape[1], requires_grad=True)
    bias = torch.full((wanted.shape[1],), -3.0, requires_grad=True)
    known = wanted >= 0
    optimizer = torch.optim.Adam([weight, bias], lr=0.01)
    for _ in range(_HEAD_STEPS):
        told = states @ weight.T + bias
        losses = functional.binary_cross_entropy_with_logits(told, wanted.clamp_min(0), reduction="none")
        loss = (losses * known).sum() / known.sum() * wanted.shape[1] + _HEAD_DECAY * (weight**2).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        optimizer.step()
    fitted = bias.detach().clone()
    fitted[(wanted > 0).sum(0) < _LEAST_EVENTS] = torch.nan
    return Heads(mean, spread, weight.detach(), fitted)


def distilled(
    config: Config,
    data: Path,
    backgrounds: Path,
    teacher: Path,
    runs: Path,
    log: Callable[[str], None],
    held_out: int | None = None,
) -> dict[str, torch.Tensor]:
    """Distil to the last step, from the last checkpoint if there is one.

    Args:
        config: settings.
        data: recordings.
        backgrounds: everyday sound.
        teacher: folder of the teacher.
        runs: of the steps before; keeps windows and checkpoints.
        log: called with each line of progress.
        held_out: fold of cross-validation that is not trained on; None to train on all.

    Returns:
        The averaged weights of all that learnt.
    """
    settings = config.distil
    count = settings.prefix + settings.steps * settings.windows
    with Stock(config, data, backgrounds, teacher, runs, held_out, count, log) as stock:
        distiller = Distiller(config, data, teacher, runs, stock, log, held_out)
        run(distiller)
        return distiller.average


def distil(config: Config, data: Path, backgrounds: Path, teacher: Path, runs: Path) -> None:
    """Distil the weights of the step ``train``, or those of the package where that was not run."""
    distilled(config, data, backgrounds, teacher, runs, lambda line: print(line, flush=True))
