"""Step ``train``: both towers together, on sounds, phrases and the library's own scores."""

from __future__ import annotations

import copy
import hashlib
import json
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from clap_server.clap.builtin.text_tower import load_tokenizer, token_ids
from training.consensus import Consensus
from training.mixing import Batch, Mixer
from training.precision import mixed
from training.prepare import Cache
from training.text import UNRELATED
from training.texts import LibraryScore, Phrases
from training.trainee import Trainee

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from training.config import Config

CHECKPOINT = "checkpoint.pt"
_UNRELATED = 24
_RECALLED = 48
_CAPTIONS = 24
# Names of the audio teacher's classes in each step: those that it hears most of in the batch, and others.
_NAMED_HEARD, _NAMED_OTHERS = 64, 64
# The losses of its classes are summed, as nearly all are absent nearly always; about so many are not.
_CLASSES_HEARD = 10
_JUDGED_AT_ONCE = 96
# Of windows whose scores tell the mean and spread of a consensus.
_FITTED_BATCHES = 12
_WEIGHT_OF_YES = 4.0
_TEXT_FACTOR = 0.2
# What decides only where, how often or on how much is measured, not what is learnt.
_OF_NO_CONSEQUENCE: dict[str, Any] = {
    "crossvalidation": True,
    "prepare": {"processes", "shard"},
    "train": {"checkpoint_every", "validation_windows", "threads"},
}


def digest_of(config: Config, held_out: int | None, *, distilled: bool = False) -> str:
    """Tell settings apart that lead to different weights: SHA-256, in hexadecimal.

    Args:
        config: all settings.
        held_out: fold that is not trained on.
        distilled: whether it is of the step ``distil``, whose settings do not decide what comes before it.
    """
    later: dict[str, Any] = {"distil": {"processes"} if distilled else True}
    deciding = config.model_dump(mode="json", exclude=_OF_NO_CONSEQUENCE | later)
    return hashlib.sha256(json.dumps([deciding, held_out], sort_keys=True).encode()).hexdigest()


def device_of() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def masked(
    logits: torch.Tensor,
    targets: torch.Tensor,
    weight: torch.Tensor | float = 1.0,
    smoothing: torch.Tensor | float = 0.0,
) -> torch.Tensor:
    """Mean binary cross entropy over what is known (targets of -1 are not).

    Args:
        logits: ``(n, m)``.
        targets: ``(n, m)``: 1, 0 or between them, or -1.
        weight: of each column, ``(m,)``, or of all.
        smoothing: by how much targets fall short of certainty, ``(m,)`` or for all: 0.1 makes them 0.9 and
            0.1 (label smoothing; the epsilon of Szegedy et al., 2016, is twice that).
    """
    known = (targets >= 0).to(logits.dtype) * weight
    soft = targets.clamp_min(0) * (1 - 2 * smoothing) + smoothing
    losses = functional.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    losses = losses * (1.0 + (_WEIGHT_OF_YES - 1.0) * targets.clamp_min(0))
    return (losses * known).sum() / known.sum().clamp_min(1.0)


class Trainer:
    """One training run, which can be left and taken up again at any checkpoint.

    Args:
        config: settings.
        data: recordings, for the teacher's scores.
        runs: folder that holds the spectrograms and the distilled text tower.
        log: called with each line of progress.
        held_out: fold of cross-validation that is not trained on; None to train on all.
        classes: of the audio teacher; those of the scores beside the recordings if left out.
    """

    def __init__(
        self,
        config: Config,
        data: Path,
        runs: Path,
        log: Callable[[str], None],
        held_out: int | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.train.threads)
        self.config, self.log, self.held_out = config, log, held_out
        self.settings = digest_of(config, held_out)
        self.folder = runs if held_out is None else runs / f"fold-{held_out}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.device = device_of()
        cache = Cache(runs / "cache")
        self.mixer = Mixer(cache, config, "train", data, held_out)
        self.check = Mixer(cache, config, "validation", data, held_out, synthetic=False)
        folder = runs / "text"
        if not (folder / "text.safetensors").is_file():
            raise SystemExit(f"{folder} is empty: run `python -m training text` first.")
        self.tokenizer = load_tokenizer(folder / "tokenizer.json", config.text.max_tokens)
        names = self.mixer.classes if classes is None else classes
        self.model = Trainee(config, self.tokenizer.get_vocab_size(), len(names))
        state = load_file(folder / "text.safetensors")
        tower = {n.removeprefix("tower."): v for n, v in state.items() if n.startswith("tower.")}
        head = {
            name: value for name, value in self.model.text.state_dict().items() if name.startswith("head.")
        }
        self.model.text.load_state_dict(tower | head)
        self.model.recall.load_state_dict(
            {n.removeprefix("recall."): v for n, v in state.items() if n.startswith("recall.")}
        )
        self.model.text.tokens.weight.requires_grad_(False)
        self.names = token_ids(self.tokenizer, [name.lower() for name in names])
        self.model.to(self.device)
        self.model.audio.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
        self.steps = config.train.all_steps
        self.corpus = json.loads((folder / "texts.json").read_text("utf-8"))
        self.meanings = load_file(folder / "teacher.safetensors")["targets"].float()
        self.score = LibraryScore(self.tokenizer)
        self.phrases = Phrases(
            self.tokenizer,
            config.train.phrases_per_concept,
            config.text.foreign_share,
            json.loads((folder / UNRELATED).read_text("utf-8")),
        )
        self.average = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.optimizer = self._optimizer()
        self.step = 0
        # The weights that settling began with; none before it.
        self.settled: dict[str, torch.Tensor] | None = None
        self._consensus: Consensus | None = None
        self.validation: list[dict[str, float]] = []

    def _optimizer(self) -> torch.optim.Optimizer:
        settings = self.config.train
        text = list(self.model.text.parameters()) + list(self.model.recall.parameters())
        known = {id(parameter) for parameter in text}
        rest = [p for p in self.model.parameters() if id(p) not in known]
        matrices = [p for p in rest if p.ndim > 1]
        vectors = [p for p in rest if p.ndim <= 1]
        return torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": settings.weight_decay, "factor": 1.0},
                {"params": vectors, "weight_decay": 0.0, "factor": 1.0},
                # What the text tower has learnt already is only adjusted.
                {
                    "params": [p for p in text if p.requires_grad],
                    "weight_decay": 0.01,
                    "factor": _TEXT_FACTOR,
                },
            ],
            lr=settings.learning_rate,
        )

    def _rate(self) -> float:
        settings = self.config.train
        last = settings.part_at(self.step)
        if last is not None:
            return last.rate
        if self.step < settings.warmup:
            return (self.step + 1) / settings.warmup
        done = (self.step - settings.warmup) / max(settings.steps - settings.warmup, 1)
        return 0.5 + 0.5 * float(np.cos(np.pi * min(done, 1.0)))

    def _loss(self, batch: Batch, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        model, device, settings = self.model, self.device, self.config.train
        pooled, audio = self._hear(batch)
        pair, prompts = self._pair(audio, batch, rng)
        logits = self._library_logits(audio, prompts)
        wanted = batch.targets.to(device)[:, self.score.concepts]
        settle = audio.new_zeros(())
        if self._consensus is not None:
            settle = self._consensus.loss(logits, batch.mels.to(device))
            wanted[:, self._consensus.columns] = -1.0  # the consensus knows them already
        library = masked(logits, wanted, smoothing=settings.smoothing)

        taught = batch.taught.to(device)
        soft = functional.binary_cross_entropy_with_logits(
            model.teacher(pooled), batch.teacher.to(device), reduction="none"
        ).sum(1)
        teacher = (soft * taught).sum() / taught.sum().clamp_min(1.0) / _CLASSES_HEARD
        named = self._named(audio, batch, rng)
        words = self._words(rng)
        total = (
            settings.pair_weight * pair
            + settings.library_weight * library
            + settings.teacher_weight * teacher
            + settings.named_weight * named
            + settings.distil_weight * words
            + settings.settle.weight * settle
        )
        return {
            "total": total,
            "pair": pair,
            "library": library,
            "teacher": teacher,
            "named": named,
            "distil": words,
            "settle": settle,
        }

    def _hear(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """What the audio tower makes of a batch: ``(n, pooled)``, and embeddings ``(n, d)``."""
        with mixed(self.device.type):
            pooled = self.model.audio.pool(batch.mels.to(self.device))
        pooled = pooled.float()
        audio = self.model.audio
        return pooled, functional.normalize(audio.head(audio.dropout(pooled)), dim=1)

    def _pair(
        self, audio: torch.Tensor, batch: Batch, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Every sound against phrases, captions and unrelated words.

        Returns:
            The loss, a scalar, and the embeddings of the library's prompts, ``(texts, d)``.
        """
        model, device, settings = self.model, self.device, self.config.train
        targets = batch.targets.to(device)
        unrelated = self.phrases.unrelated(rng, _UNRELATED)
        captioned = [row for row, caption in enumerate(batch.captions) if caption][:_CAPTIONS]
        captions = [batch.captions[row] for row in captioned]
        ids = self.phrases.draw(rng, [*unrelated, *captions]).to(device)
        with mixed(device.type):
            texts = model.text(ids)
            prompts = model.text(self.score.ids.to(device))
        logits = audio @ texts.T * model.pair_scale.exp() + model.pair_bias
        owners = self.phrases.owners.to(device)
        own = torch.full((len(audio), len(captions)), -1.0, device=device)
        if captions:
            # A caption belongs to its own sound; sounds of surely different concepts are its counterexamples.
            numbers = batch.concepts.to(device)
            rows = torch.tensor(captioned, device=device)
            apart = targets[:, numbers[rows]] == 0
            own[apart] = 0.0
            own[rows, torch.arange(len(captions), device=device)] = 1.0
        wanted = torch.cat(
            [targets[:, owners], torch.zeros(len(audio), _UNRELATED, device=device), own], dim=1
        )
        weight = torch.ones(logits.shape[1], device=device)
        weight[len(owners) : len(owners) + _UNRELATED] = 0.3
        smoothing = torch.full_like(weight, settings.smoothing)
        smoothing[len(owners) : len(owners) + _UNRELATED] = 0.0  # there is no doubt about these
        return masked(logits, wanted, weight, smoothing), prompts

    def _library_logits(self, audio: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """The library's own scores ``(n, labels)``, given the embeddings of its texts."""
        margins = self.score.margins(audio, prompts, self.score.bank(prompts.detach()))
        return margins * self.model.library_scale.exp() + self.model.library_bias

    def _words(self, rng: np.random.Generator) -> torch.Tensor:
        """The text tower's distillation goes on, so that words keep their meaning: the loss, a scalar."""
        rows = rng.integers(0, len(self.corpus), _RECALLED)
        ids = token_ids(self.tokenizer, [self.corpus[row] for row in rows])
        recalled = self.model.recall(self.model.text.mean(ids.to(self.device)))
        meaning = self.meanings[torch.from_numpy(rows)].to(self.device)
        return 1 - functional.cosine_similarity(recalled, meaning).mean()

    def _named(self, audio: torch.Tensor, batch: Batch, rng: np.random.Generator) -> torch.Tensor:
        """The audio teacher's scores against the names of its classes: words for what labels do not tell.

        The scores of a class have a level of their own, so each class has a bias.

        Args:
            audio: ``(n, d)`` embeddings of the batch, L2-normalised.
            batch: with the soft targets.
            rng: picks the classes.

        Returns:
            The loss, a scalar; 0 if the teacher heard none of the batch.
        """
        model, device = self.model, self.device
        if not batch.taught.any():
            return audio.new_zeros(())
        heard = (batch.teacher * batch.taught[:, None]).sum(0).argsort(descending=True)
        others = heard[_NAMED_HEARD:][torch.from_numpy(rng.permutation(max(len(heard) - _NAMED_HEARD, 0)))]
        chosen = torch.cat([heard[:_NAMED_HEARD], others[:_NAMED_OTHERS]])
        ids = self.names[chosen]
        ids = ids[:, : int((ids != 0).sum(1).max())].to(device)
        with mixed(device.type):
            texts = model.text(ids)
        logits = audio @ texts.T * model.named_scale.exp() + model.named_bias[chosen.to(device)]
        taught = batch.taught.to(device)[:, None]
        losses = functional.binary_cross_entropy_with_logits(
            logits, batch.teacher[:, chosen].to(device), reduction="none"
        )
        return (losses * taught).sum() / taught.sum() / _CLASSES_HEARD

    def advance(self) -> dict[str, float]:
        """Take one step; everything random in it depends on the seed and its number alone."""
        rng = np.random.default_rng((self.config.seed, self.step))
        torch.manual_seed(self.config.seed + self.step)
        self.model.train()
        settings = self.config.train
        shares = settings.shares_at(self.step)
        if settings.part_at(self.step) is settings.settle and self._consensus is None:
            self._settle(shares)
        batch = self.mixer.draw(rng, settings.batch, shares)
        # On short texts the plain formula of attention is several times as fast on a CPU as the blocked one.
        with sdpa_kernel(SDPBackend.MATH):
            losses = self._loss(batch, rng)
        return self._follow(losses, settings.learning_rate * self._rate(), settings.average_decay)

    def _follow(self, losses: dict[str, torch.Tensor], rate: float, decay: float) -> dict[str, float]:
        """Take a step down the gradient of ``total``, and let the averaged weights follow it.

        Args:
            losses: scalars by name.
            rate: of learning.
            decay: of the averaged weights, at most.

        Returns:
            The losses.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimizer.zero_grad()
        losses["total"].backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        keep = min(decay, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            kept = self.average[name]
            if kept.dtype.is_floating_point:
                kept.lerp_(value, 1 - keep)
            else:
                kept.copy_(value)
        self.step += 1
        return {name: value.item() for name, value in losses.items()}

    def _settle(self, shares: Mapping[str, float]) -> None:
        """Begin, or go on with, the part that learns from the averaged weights that it began with."""
        if self.settled is None:
            self.settled = {name: value.clone() for name, value in self.average.items()}
            self.model.load_state_dict(self.average)
        before = copy.deepcopy(self.model)
        before.load_state_dict(self.settled)
        settings = self.config.train
        self._consensus = Consensus(before, self.score, self.tokenizer, settings.settle.names)
        rng = np.random.default_rng((self.config.seed, settings.all_steps))
        self._consensus.fit(
            self.mixer.draw(rng, settings.batch, shares).mels.to(self.device) for _ in range(_FITTED_BATCHES)
        )

    def judge(self, windows: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Margins and targets ``(n, labels)`` of mixed windows of the validation sources.

        The averaged weights are used; the windows are the same each time.
        """
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        self.model.eval()
        rng = np.random.default_rng(self.config.seed)
        margins, targets = [], []
        with torch.inference_mode():
            prompts = self.model.text(self.score.ids.to(self.device))
            bank = self.score.bank(prompts)
            for _ in range(max(windows // _JUDGED_AT_ONCE, 1)):
                batch = self.check.draw(rng, _JUDGED_AT_ONCE)
                audio = self.model.audio(batch.mels.to(self.device))
                margins.append(self.score.margins(audio, prompts, bank).cpu())
                targets.append(batch.targets[:, self.score.concepts])
        self.model.load_state_dict(own)
        return torch.cat(margins).numpy(), torch.cat(targets).numpy()

    def validate(self) -> dict[str, float]:
        """ROC AUC of each label on the validation sources."""
        margin, target = self.judge(self.config.train.validation_windows)
        result = {}
        for column, label in enumerate(self.score.label_ids):
            known = target[:, column] >= 0
            wanted = target[known, column] > 0
            if wanted.any() and not wanted.all():
                result[label] = float(roc_auc_score(wanted, margin[known, column]))
        return result

    def save(self) -> None:
        """Write a checkpoint; the one before is replaced only when this one is whole."""
        state: dict[str, Any] = {
            "step": self.step,
            "settings": self.settings,
            "model": self.model.state_dict(),
            "average": self.average,
            "settled": self.settled,
            "optimizer": self.optimizer.state_dict(),
            "validation": self.validation,
        }
        path = self.folder / CHECKPOINT
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def resume(self) -> None:
        """Go on from the last checkpoint, if there is one.

        Raises:
            SystemExit: it is damaged, or of other settings.
        """
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            settings = state.get("settings")
        except Exception as error:  # torch.load raises whatever the damage leads to
            raise SystemExit(f"{path} cannot be used ({error}): remove it to start anew.") from error
        if settings != self.settings:
            whose = "other settings" if settings else "unknown settings"
            raise SystemExit(
                f"{path} was made with {whose}: remove it to start anew, or restore its settings."
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.step, self.validation = state["average"], state["step"], state["validation"]
        self.settled = state["settled"]
        self.log(f"resumed at step {self.step}")


def train(config: Config, data: Path, runs: Path) -> None:
    """Train on all folds to the last step, from the last checkpoint if there is one."""
    run(Trainer(config, data, runs, lambda line: print(line, flush=True)))


@contextmanager
def _put_off(log: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C wait, so that no step is left half done; a second one interrupts at once.

    Yields:
        Tells whether Ctrl-C was pressed.
    """
    before = signal.getsignal(signal.SIGINT)
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)
        log("stopping after this step")

    # Where a script started it in the background, Ctrl-C is meant for others.
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


def run(trainer: Trainer) -> None:
    """Go on from the last checkpoint, if there is one, to the last step.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; there is a checkpoint of the last step taken.
    """
    trainer.resume()
    with _put_off(trainer.log) as interrupted:
        _advance(trainer, interrupted)


def _advance(trainer: Trainer, interrupted: Callable[[], bool]) -> None:
    """Take steps to the last one or until interrupted, with checkpoints and validations between them."""
    settings, steps = trainer.config.train, trainer.steps
    started, first = time.monotonic(), trainer.step
    sums: dict[str, float] = {}
    every = 20
    while trainer.step < steps:
        for name, value in trainer.advance().items():
            sums[name] = sums.get(name, 0.0) + value / every
        if trainer.step % every == 0:
            pace = (time.monotonic() - started) / (trainer.step - first)
            left = pace * (steps - trainer.step) / 60
            losses = " ".join(f"{name} {value:.3f}" for name, value in sums.items())
            trainer.log(f"step {trainer.step}/{steps} {losses} | {pace:.2f} s/step, {left:.0f} min left")
            sums = {}
        if trainer.step % settings.checkpoint_every == 0 or trainer.step == steps:
            if trainer.step % (4 * settings.checkpoint_every) == 0 or trainer.step == steps:
                areas = trainer.validate()
                trainer.validation.append({"step": float(trainer.step), **areas})
                trainer.log("validation AUC " + " ".join(f"{k} {v:.3f}" for k, v in areas.items()))
            trainer.save()
        elif interrupted():
            trainer.save()
        if interrupted():
            raise KeyboardInterrupt
