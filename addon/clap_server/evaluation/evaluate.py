"""Measures a model on recordings of which it is known what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_server.audio.decode import decode
from clap_server.detection.scoring import LabelScorer
from clap_server.errors import AudioError, ConfigurationError
from clap_server.evaluation.metrics import LabelMetrics, label_metrics
from clap_server.evaluation.streaming import score_recording

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from clap_server.clap.model import ClapModel
    from clap_server.detection.labels import Label
    from clap_server.evaluation.manifest import Recording


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came out for one model.

    Attributes:
        model: its name.
        clips: recordings that were scored.
        duration_s: their length in all.
        labels: figures of each label.
        problems: recordings that could not be used, and why.
    """

    model: str
    clips: int
    duration_s: float
    labels: tuple[LabelMetrics, ...]
    problems: tuple[str, ...]


def check_files(recordings: Sequence[Recording]) -> None:
    """Make sure that every recording is there, before hours are spent.

    Raises:
        ConfigurationError: files are missing; the message names the first with its row.
    """
    missing = [recording for recording in recordings if not recording.path.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ConfigurationError(
            f"Row {missing[0].row}: the file {missing[0].name} is missing{more}: paths are relative to the"
            " manifest."
        )


def evaluate(
    model: ClapModel,
    recordings: Sequence[Recording],
    labels: Sequence[Label],
    background: Sequence[str],
    *,
    hop_s: float = 0.5,
    progress: Callable[[], None] | None = None,
) -> Evaluation:
    """Score recordings as live sound and compare with what they hold.

    Args:
        model: to be measured.
        recordings: of the manifest.
        labels: to be measured.
        background: bank of the label library.
        hop_s: seconds between windows.
        progress: called after each recording.

    Returns:
        The figures. A recording that is no audio is left out and named in ``problems``.

    Raises:
        ConfigurationError: not one recording could be used.
    """
    scorer = LabelScorer(model, labels, background)
    best: list[NDArray[np.float32]] = []
    held: list[frozenset[str]] = []
    problems: list[str] = []
    duration_s = 0.0
    for recording in recordings:
        try:
            samples = decode(recording.path, model.sample_rate)
        except AudioError as error:
            problems.append(f"Row {recording.row}: {recording.name}: {error}")
        else:
            best.append(score_recording(model, scorer, samples, hop_s=hop_s).best)
            held.append(recording.label_ids)
            duration_s += len(samples) / model.sample_rate
        if progress is not None:
            progress()
    if not best:
        raise ConfigurationError(f"No recording could be used. {problems[0]}")
    scores = np.stack(best)
    figures = tuple(
        label_metrics(
            label.id,
            label.threshold,
            np.array([label.id in ids for ids in held]),
            scores[:, scorer.label_ids.index(label.id)],
        )
        for label in labels
    )
    return Evaluation(model.name, len(best), duration_s, figures, tuple(problems))
