"""The settings in ``config.toml``, checked and typed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parent
DEFAULT_CONFIG = ROOT / "config.toml"
DEFAULT_RUNS = ROOT / "runs"
DEFAULT_DATA = ROOT.parent.parent / "shared" / "sounds"
DEFAULT_BACKGROUNDS = ROOT.parent.parent / "shared" / "backgrounds"
DEFAULT_TEACHER = ROOT.parent.parent / "shared" / "teacher"


class SettingsError(ValueError):
    """Settings cannot be used; the message says which and why, in one line."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Features(_Section):
    """What the model hears."""

    sample_rate: int
    window_s: float
    frames: int


class Split(_Section):
    """Which sources are never trained on, and which are held out together."""

    test_licence: str
    folds: tuple[tuple[str, ...], ...]
    everyday_heard: tuple[str, ...]
    everyday_halved: tuple[str, ...]


class Prepare(_Section):
    """What is made before training."""

    processes: int
    shard: int
    rooms: int
    rare: tuple[str, ...]
    rare_copies: int
    common_copies: int
    room_share: float
    image_source_share: float
    device_share: float
    codec_share: float
    synthetic: dict[str, int]


class Text(_Section):
    """The text tower and its distillation."""

    vocabulary: str
    width: int
    layers: int
    heads: int
    feed_forward: int
    max_tokens: int
    steps: int
    batch: int
    learning_rate: float
    token_learning_rate: float
    limit: int
    words: int
    sentences: int
    foreign_share: float


class Model(_Section):
    """The audio tower and the joint space."""

    channels: tuple[int, ...]
    dimension: int


class Finish(_Section):
    """A last part of the joint training, at a constant rate; its shares replace those of the parts before."""

    steps: int
    rate: float
    shares: dict[str, float]


class Settle(Finish):
    """The last part of the training: a model learns what its prompts and other names say together."""

    weight: float
    names: dict[str, tuple[str, ...]]


class Train(_Section):
    """The joint training."""

    steps: int
    batch: int
    learning_rate: float
    weight_decay: float
    warmup: int
    average_decay: float
    reverberant_share: float
    phrases_per_concept: int
    pair_weight: float
    library_weight: float
    smoothing: float
    teacher_weight: float
    named_weight: float
    distil_weight: float
    checkpoint_every: int
    validation_windows: int
    threads: int
    shares: dict[str, float]
    finish: Finish
    polish: Finish
    everyday: Finish
    steady: Finish
    settle: Settle

    @property
    def all_steps(self) -> int:
        """How many there are with those of the last parts."""
        return self.steps + sum(part.steps for part in self._last_parts)

    @property
    def _last_parts(self) -> tuple[Finish, ...]:
        return (self.finish, self.polish, self.everyday, self.steady, self.settle)

    def part_at(self, step: int) -> Finish | None:
        """The last part to which a step belongs; None for the steps before them."""
        end = self.steps
        if step < end:
            return None
        for part in self._last_parts:
            end += part.steps
            if step < end:
                return part
        return self._last_parts[-1]

    def shares_at(self, step: int) -> dict[str, float]:
        """The shares of a step: those of all steps, replaced by those of each last part up to its own."""
        shares, part = dict(self.shares), self.part_at(step)
        for earlier in self._last_parts if part is not None else ():
            shares |= earlier.shares
            if earlier is part:
                break
        return shares


class DistilSettle(_Section):
    """The very last steps, which hear no new windows: more of what recordings with labels say."""

    steps: int
    rate: float
    earlier: int
    mixed: int
    teacher_share: float
    begun_share: float


class Distil(_Section):
    """What is learnt from the teacher."""

    seed: int
    processes: int
    shard: int
    steps: int
    windows: int
    earlier: int
    mixed: int
    prefix: int
    learning_rate: float
    average_decay: float
    logits_weight: float
    named_weight: float
    library_weight: float
    pair_weight: float
    words_weight: float
    teacher_share: float
    begun_share: float
    first_share: float
    masked_share: float
    synthetic: int
    synthetic_share: float
    shares: dict[str, float]
    settle: DistilSettle


class CrossValidation(_Section):
    """The models that are judged on the sources that they never heard."""

    steps: int
    finish_steps: int
    polish_steps: int
    everyday_steps: int
    steady_steps: int
    settle_steps: int
    distil_steps: int
    rooms: int
    home_minutes: float


class Config(_Section):
    """All of ``config.toml``."""

    seed: int
    features: Features
    split: Split
    prepare: Prepare
    text: Text
    model: Model
    train: Train
    distil: Distil
    crossvalidation: CrossValidation


def load_config(path: Path = DEFAULT_CONFIG, overrides: Mapping[str, object] | None = None) -> Config:
    """Read the settings.

    Args:
        path: a TOML file.
        overrides: values by dotted name, ``{"train.steps": 2}``, for trying things out.

    Raises:
        SettingsError: the file is missing or no TOML, or a setting is missing, unknown or of the wrong kind.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read as settings: {error}") from error
    for name, value in (overrides or {}).items():
        *sections, last = name.split(".")
        target = content
        for section in sections:
            inner = target.get(section)
            if not isinstance(inner, dict):
                raise SettingsError(f"there is no setting {name} in {path}")
            target = inner
        target[last] = value
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = ".".join(map(str, wrong["loc"]))
        raise SettingsError(f"{path}: {name}: {wrong['msg']}") from error
