"""Gives each model its calibration: the stored one, its own, or one fitted on synthesised sounds."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from clap_server import synthesis
from clap_server.clap.model import Calibration, ClapModel
from clap_server.detection.calibration import store as calibration_store
from clap_server.detection.scoring import UNCALIBRATED, LabelScorer, sigmoid
from clap_server.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from clap_server.detection.library import LabelLibrary

    Maker = Callable[[np.random.Generator, int], NDArray[np.float32]]

_LOGGER = logging.getLogger(__name__)

_VERSION = 2  # of the sounds and the fit; part of the cache's key
_SEED = 20261122
_EXAMPLES = 6
_BATCH = 8

NEGATIVES_PER_POSITIVE = 8.0
"""How much more other windows count than those with the sound: a home is quiet for hours between two alarms.

As for the built-in model's own calibration (``training/``), so that a score means the same for all models.
"""

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

# Standard deviations of the fit's prior. It decides where the sounds do not, such as the scale of sounds that
# are told apart without an error.
_PRIOR_SD = (20.0, 3.0)
KNOWN_SD = (5.0, 1.0)
"""The same for a prior that was fitted on many recordings: a few move it a little, a hundred replace it."""

_SMALLEST_SCALE = 2.0


class _Checkpoint(ClapModel, Protocol):
    """A model that takes a calibration."""

    calibration: Calibration | None


@dataclass(frozen=True, slots=True)
class JudgedMargins:
    """Margins of which it is known whether the label was right.

    Attributes:
        margins: ``(n,)`` in cosine.
        targets: ``(n,)`` whether the label was right.
        weights: ``(n,)`` how much each counts.
    """

    margins: NDArray[np.float64]
    targets: NDArray[np.bool_]
    weights: NDArray[np.float64]


def calibrated(
    model: ClapModel,
    library: LabelLibrary,
    cache_dir: Path,
    progress: Callable[[str], None],
    *,
    models_dir: Path,
) -> ClapModel:
    """Give a model the calibration that is in force for it.

    What ``clap-server calibrate`` stored in the data folder goes before what came with the model. A model
    that has neither gets one from the cache, else one fitted on synthesised sounds.

    Blocks; half a minute on a CPU for a large checkpoint, once.

    Args:
        model: any.
        library: whose labels and background are used.
        cache_dir: where calibrations on synthesised sounds are kept.
        progress: called with a line of text.
        models_dir: folder ``models`` of the data folder.

    Returns:
        The same model.
    """
    checkpoint = cast("_Checkpoint", model)
    own = known(model, library, cache_dir, models_dir=models_dir)
    if own is None:
        own = calibrate(model, library, progress)
        path = _cached_path(model, library, cache_dir)
        try:
            calibration_store.write(path, dataclasses.asdict(own))
        except OSError as error:
            _LOGGER.warning("The calibration cannot be stored in %s: %s", path.parent, error)
    checkpoint.calibration = own
    return model


def known(
    model: ClapModel, library: LabelLibrary, cache_dir: Path, *, models_dir: Path
) -> Calibration | None:
    """Find the calibration that is in force for a model, without computing one; see ``calibrated``."""
    return (
        calibration_store.stored(model, library, models_dir)
        or model.calibration
        or calibration_store.read(_cached_path(model, library, cache_dir), "is computed again")
    )


def _cached_path(model: ClapModel, library: LabelLibrary, cache_dir: Path) -> Path:
    key = f"{calibration_store.model_key(model, library)} {_VERSION}"
    return cache_dir / calibration_store.FOLDER / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def preparer(
    library: LabelLibrary, cache_dir: Path
) -> Callable[[ClapModel, Callable[[str], None]], ClapModel]:
    """Make what ``ModelHolder(prepare=...)`` takes, so that each model it loads is calibrated.

    Args:
        library: whose labels and background are used.
        cache_dir: folder ``models`` of the server's data folder.
    """

    def prepare(model: ClapModel, progress: Callable[[str], None]) -> ClapModel:
        return calibrated(model, library, cache_dir, progress, models_dir=cache_dir)

    return prepare


def calibrate(model: ClapModel, library: LabelLibrary, progress: Callable[[str], None]) -> Calibration:
    """Fit scale and bias on synthesised sounds; see ``synthesised_margins`` and ``fit``.

    Args:
        model: whose margins to use.
        library: whose labels and background are used.
        progress: called with a line of text.
    """
    judged = synthesised_margins(model, library, progress)
    calibration = fit(judged.margins, judged.targets, judged.weights)
    _LOGGER.info(
        "Calibrated %s on %d synthesised sounds: scale %.1f, bias %.2f",
        model.name,
        _EXAMPLES * len(_SOUNDS),
        calibration.scale,
        calibration.bias,
    )
    if is_vague(calibration):
        _LOGGER.warning("%s hardly tells synthesised sounds apart: its scores will be vague", model.name)
    return calibration


def is_vague(calibration: Calibration) -> bool:
    """Whether margins tell so little that scores hardly leave the middle."""
    return calibration.scale <= _SMALLEST_SCALE


def synthesised_margins(
    model: ClapModel, library: LabelLibrary, progress: Callable[[str], None]
) -> JudgedMargins:
    """Judge synthesised sounds, one a window.

    Each label's margins on its own sounds are the positives, those on all other sounds the negatives; these
    count ``NEGATIVES_PER_POSITIVE`` times as much, however many there are.

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
    present = np.array(targets).ravel()
    weights = np.where(present, 1.0 / present.sum(), NEGATIVES_PER_POSITIVE / (~present).sum())
    weights *= len(present) / weights.sum()
    return JudgedMargins(np.concatenate(margins).ravel(), present, weights)


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


def fit(
    margins: NDArray[np.float64],
    targets: NDArray[np.bool_],
    weights: NDArray[np.float64],
    prior: Calibration = UNCALIBRATED,
    prior_sd: tuple[float, float] = _PRIOR_SD,
) -> Calibration:
    """Fit a logistic curve to margins (Platt scaling).

    Newton's method on the weighted log-likelihood with a Gaussian prior. It is concave,
    so it has one maximum; a step that overshoots is halved.

    Args:
        margins: ``(n,)``.
        targets: ``(n,)``, whether the label was right. Both must occur.
        weights: ``(n,)``; their sum says against how many observations the prior stands.
        prior: what was known before; decides where the margins do not.
        prior_sd: standard deviations of the prior's scale and bias.

    Raises:
        ModelError: a margin is not a number, so the model is unusable.
    """
    if not np.isfinite(margins).all():
        raise ModelError("The model gives embeddings that are not numbers: download it again or use another.")
    design = np.stack([margins, np.ones_like(margins)], axis=1)
    precision = np.diag([1.0 / sd**2 for sd in prior_sd])
    centre = np.array([prior.scale, prior.bias])

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
        while loss(parameters - step) > loss(parameters) and np.abs(step).max() > 1e-9:
            step /= 2
        parameters -= step
        if np.abs(step).max() < 1e-6:
            break
    # A label must never score lower the better it matches.
    return Calibration(scale=max(_SMALLEST_SCALE, float(parameters[0])), bias=float(parameters[1]))
