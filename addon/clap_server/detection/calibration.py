"""Calibrates a checkpoint that came without calibration, on synthesised sounds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import os
import tempfile
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from clap_server import synthesis
from clap_server.clap.model import Calibration, ClapModel
from clap_server.detection.scoring import UNCALIBRATED, LabelScorer, sigmoid
from clap_server.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from clap_server.detection.library import LabelLibrary

    Maker = Callable[[np.random.Generator, int], NDArray[np.float32]]

_LOGGER = logging.getLogger(__name__)

_VERSION = 1  # of the sounds and the fit; part of the cache's key
_SEED = 20261122
_EXAMPLES = 6
_BATCH = 8

# What is synthesised, and which labels are right for it.
_SOUNDS: tuple[tuple[Maker, frozenset[str]], ...] = (
    (synthesis.glass_break, frozenset({"glass_breaking"})),
    (synthesis.t3_alarm, frozenset({"alarm", "smoke_alarm"})),
    (synthesis.t4_alarm, frozenset({"alarm", "smoke_alarm"})),
    (synthesis.siren, frozenset({"alarm", "siren"})),
    (synthesis.explosion, frozenset({"explosion_gunshot"})),
    (synthesis.impact, frozenset({"metal_impact"})),
    (synthesis.babble, frozenset({"speech"})),
    (synthesis.music, frozenset({"music"})),
    (synthesis.dishes, frozenset()),
    (synthesis.cutlery, frozenset()),
    (synthesis.keys, frozenset()),
    (synthesis.appliance_beeps, frozenset({"appliance_beep"})),
    (synthesis.thud, frozenset()),
    (synthesis.noise, frozenset()),
)

# Prior of the fit: the rough guess, with these standard deviations. It decides where the sounds do not, such
# as the scale of sounds that are told apart without an error.
_PRIOR_SD = (20.0, 3.0)
_SMALLEST_SCALE = 2.0


class _Checkpoint(ClapModel, Protocol):
    """A model that takes a calibration and whose weights have an identity."""

    identity: str
    calibration: Calibration | None


def calibrated(
    model: ClapModel, library: LabelLibrary, cache_dir: Path, progress: Callable[[str], None]
) -> ClapModel:
    """Give a model a calibration if it has none: from the cache, else by synthesised sounds.

    Blocks; half a minute on a CPU for a large checkpoint, once.

    Args:
        model: any; one that is calibrated is left as it is.
        library: whose labels and background are used.
        cache_dir: where calibrations are kept.
        progress: called with a line of text.

    Returns:
        The same model.
    """
    if model.calibration is not None:
        return model
    checkpoint = cast("_Checkpoint", model)
    key = f"{checkpoint.identity} {model.dtype} {library.version} {_VERSION}"
    path = cache_dir / "calibration" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    checkpoint.calibration = _read(path)
    if checkpoint.calibration is None:
        checkpoint.calibration = calibrate(model, library, progress)
        _write(path, checkpoint.calibration)
    return model


def preparer(
    library: LabelLibrary, cache_dir: Path
) -> Callable[[ClapModel, Callable[[str], None]], ClapModel]:
    """Make what ``ModelHolder(prepare=...)`` takes, so that each model it loads is calibrated."""

    def prepare(model: ClapModel, progress: Callable[[str], None]) -> ClapModel:
        return calibrated(model, library, cache_dir, progress)

    return prepare


def calibrate(model: ClapModel, library: LabelLibrary, progress: Callable[[str], None]) -> Calibration:
    """Fit scale and bias so that 0.5 means as likely as not, if a label's sound and others come as often.

    Each label's margins on its own synthesised sounds are the positives, those on all other sounds the
    negatives; one scale and one bias serve all labels.

    Args:
        model: whose margins to use.
        library: whose labels and background are used.
        progress: called with a line of text.
    """
    held = frozenset().union(*(right for _, right in _SOUNDS))
    labels = [label for label in library.labels if label.id in held]
    scorer = LabelScorer(model, labels, library.background)
    rng = np.random.default_rng(_SEED)
    total = _EXAMPLES * len(_SOUNDS)
    margins, targets = [], []
    windows: list[NDArray[np.float32]] = []
    for number in range(total):
        maker, right = _SOUNDS[number % len(_SOUNDS)]
        windows.append(_window(maker, rng, model))
        targets.append([label_id in right for label_id in scorer.label_ids])
        if len(windows) == _BATCH or number == total - 1:
            margins.append(scorer.margins(model.embed_audio(windows)))
            windows.clear()
            progress(f"Calibrating {model.name}: {100 * (number + 1) // total} %")
    calibration = fit(np.concatenate(margins).ravel(), np.array(targets).ravel())
    _LOGGER.info(
        "Calibrated %s on %d synthesised sounds: scale %.1f, bias %.2f",
        model.name,
        total,
        calibration.scale,
        calibration.bias,
    )
    if calibration.scale <= _SMALLEST_SCALE:
        _LOGGER.warning("%s hardly tells synthesised sounds apart: its scores will be vague", model.name)
    return calibration


def _window(maker: Maker, rng: np.random.Generator, model: ClapModel) -> NDArray[np.float32]:
    """One sound in a room, amid noise, in a window of the model's length."""
    rate = model.sample_rate
    count = round(model.window_s * rate)
    noise = synthesis.noise(rng, rate, duration_s=model.window_s)[:count]
    background = np.zeros(count, np.float32)
    background[: len(noise)] = noise * rng.uniform(0.02, 0.2)
    sound = synthesis.reverberate(maker(rng, rate), rng, rate)
    onset_s = rng.uniform(0.0, 0.3) * model.window_s
    return synthesis.mix_at(background, sound, onset_s, rng.uniform(10.0, 30.0), rate)


def fit(margins: NDArray[np.float64], targets: NDArray[np.bool_]) -> Calibration:
    """Fit a logistic curve (Platt scaling) with positives and negatives weighing the same.

    Newton's method on the weighted log-likelihood with a Gaussian prior at ``UNCALIBRATED``. It is concave,
    so it has one maximum; a step that overshoots is halved.

    Args:
        margins: ``(n,)``.
        targets: ``(n,)``, whether the label was right. Both must occur.

    Raises:
        ModelError: a margin is not a number, so the model is unusable.
    """
    if not np.isfinite(margins).all():
        raise ModelError("The model gives embeddings that are not numbers: download it again or use another.")
    weights = np.where(targets, 0.5 / targets.sum(), 0.5 / (~targets).sum()) * len(targets)
    design = np.stack([margins, np.ones_like(margins)], axis=1)
    precision = np.diag([1.0 / _PRIOR_SD[0] ** 2, 1.0 / _PRIOR_SD[1] ** 2])
    centre = np.array([UNCALIBRATED.scale, UNCALIBRATED.bias])

    def loss(parameters: NDArray[np.float64]) -> float:
        signed = np.where(targets, 1.0, -1.0) * (design @ parameters)
        away = parameters - centre
        return float(weights @ np.logaddexp(0.0, -signed) + 0.5 * away @ precision @ away)

    parameters = centre.copy()
    for _ in range(50):
        chance = sigmoid(design @ parameters)
        gradient = design.T @ (weights * (chance - targets)) + precision @ (parameters - centre)
        curvature = design.T @ (design * (weights * chance * (1 - chance))[:, None]) + precision
        step = np.linalg.solve(curvature, gradient)
        while loss(parameters - step) > loss(parameters) and np.abs(step).max() > 1e-9:  # noqa: PLR2004 - rounding
            step /= 2
        parameters -= step
        if np.abs(step).max() < 1e-6:  # noqa: PLR2004 - far below what a score shows
            break
    # A label must never score lower the better it matches.
    return Calibration(scale=max(_SMALLEST_SCALE, float(parameters[0])), bias=float(parameters[1]))


def _read(path: Path) -> Calibration | None:
    try:
        content = json.loads(path.read_text("utf-8"))
        found = Calibration(scale=float(content["scale"]), bias=float(content["bias"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _LOGGER.warning("The stored calibration %s is unreadable and is computed again: %r", path.name, error)
        return None
    return found if found.scale > 0 and math.isfinite(found.scale) and math.isfinite(found.bias) else None


def _write(path: Path, calibration: Calibration) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
            json.dump(dataclasses.asdict(calibration), file)
        os.replace(file.name, path)  # noqa: PTH105 - os.replace is the atomic one by contract
    except OSError as error:
        _LOGGER.warning("The calibration cannot be stored in %s: %s", path.parent, error)
