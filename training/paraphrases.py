"""`python -m training.paraphrases`: do words that were kept out of the training land at the right sounds?

Each paraphrase of ``paraphrases.toml`` becomes a label of its own, as if a user had typed it, and is compared
with the background bank like any other. What counts is how well it tells the recordings of the label that it
paraphrases from all others, beside the library's own prompts; and that unrelated texts stay silent.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from clap_evaluation.manifest import read_manifest
from clap_evaluation.streaming import score_recording
from clap_server.audio.decode import decode
from clap_server.clap.builtin import FOLDER
from clap_server.detection.library import load_library
from clap_server.detection.scoring import LabelScorer
from clap_server.errors import ClapServerError, ConfigurationError
from training.concepts import load_concepts
from training.config import DEFAULT_CONFIG, ROOT, load_config
from training.data import read_recordings
from training.everyday import load_with_bank

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from clap_evaluation.manifest import Recording
    from clap_server.clap.model import ClapModel

HOP_S = 0.5
HEARD = 0.5
_UNRELATED = "unrelated"
_WORST = 15


@dataclass(frozen=True, slots=True)
class LabelResult:
    """How well a label is found by other words.

    Attributes:
        label_id: whose.
        positives: recordings that hold it.
        negatives: recordings that do not.
        own_auc: ROC AUC of the library's prompts.
        aucs: that of each paraphrase alone.
    """

    label_id: str
    positives: int
    negatives: int
    own_auc: float
    aucs: dict[str, float]

    @property
    def mean_auc(self) -> float:
        """Mean over the paraphrases."""
        return float(np.mean(list(self.aucs.values())))

    @property
    def ratio(self) -> float:
        """``mean_auc`` over ``own_auc``; 1 if both find nothing."""
        return self.mean_auc / self.own_auc if self.own_auc else 1.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """All that was found.

    Attributes:
        labels: those with recordings, in the order of the library.
        without_recordings: the other labels.
        unrelated: share of the recordings in which each unrelated text is heard.
    """

    labels: tuple[LabelResult, ...]
    without_recordings: tuple[str, ...]
    unrelated: dict[str, float]


def load_paraphrases() -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Read ``paraphrases.toml``: the paraphrases by label, and the unrelated texts."""
    content = tomllib.loads((ROOT / "paraphrases.toml").read_text("utf-8"))
    unrelated = tuple(content.pop(_UNRELATED))
    return {label: tuple(texts) for label, texts in content.items()}, unrelated


def columns() -> tuple[list[str], list[str]]:
    """What is scored: the ids of the library's labels, and the texts that are labels of their own."""
    paraphrases, unrelated = load_paraphrases()
    texts = [text for label in paraphrases.values() for text in label]
    return [label.id for label in load_library().described], [*texts, *unrelated]


def best_scores(
    model: ClapModel, clips: Iterable[NDArray[np.float32]], total: int | None = None
) -> NDArray[np.float32]:
    """Score recordings.

    Args:
        model: embeds.
        clips: each ``(n,)`` mono at the model's rate, not empty.
        total: how many, for the progress bar.

    Returns:
        ``(clips, labels + texts)``: the highest score of each in the order of ``columns``. Rows of several
        models, each with its own recordings, can be put together.
    """
    library = load_library()
    ids, texts = columns()
    # A user's words may be a label's name; these must not be, or they would score by the library's prompts.
    made = [library.resolve(text) for text in texts]
    scorer = LabelScorer(model, [*(library.resolve(name) for name in ids), *made], library.background)
    column = {name: place for place, name in enumerate(scorer.label_ids)}
    order = [column[name] for name in ids] + [column[label.id] for label in made]
    rows = [
        score_recording(model, scorer, samples, hop_s=HOP_S).best[order]
        for samples in tqdm(clips, total=total, desc="paraphrases", mininterval=10)
    ]
    return np.stack(rows) if rows else np.zeros((0, len(order)), np.float32)


def present(recordings: Sequence[Recording], shown: Sequence[str | None] | None = None) -> NDArray[np.int8]:
    """``(recordings, labels)``: 1 if a recording holds a label of the library, 0 if not, -1 if unknown.

    Args:
        recordings: of a manifest; for the labels that occur in it the manifest tells.
        shown: the concept of each recording, which tells of the other labels; None where it is not known.
    """
    ids = [label.id for label in load_library().described]
    truth = np.array([[name in row.label_ids for name in ids] for row in recordings], np.int8)
    truth = truth.reshape(len(recordings), len(ids))
    if shown is None:
        return truth
    concepts = load_concepts()
    places = [concepts.index[name] for name in ids]
    untold = ~truth.any(axis=0)
    for row, name in zip(truth, shown, strict=True):
        if name is not None:
            row[untold] = np.array(concepts.targets(name))[places][untold]
    return truth


def judge(best: NDArray[np.float32], truth: NDArray[np.int8]) -> Judgement:
    """Compute the figures from the scores of ``best_scores`` and what ``present`` tells."""
    paraphrases, unrelated = load_paraphrases()
    ids, texts = columns()
    place = {text: len(ids) + number for number, text in enumerate(texts)}
    found, without = [], []
    for number, name in enumerate(ids):
        known = truth[:, number] >= 0
        wanted = truth[known, number] > 0
        if not wanted.any() or wanted.all():
            without.append(name)
            continue
        aucs = {text: float(roc_auc_score(wanted, best[known, place[text]])) for text in paraphrases[name]}
        own = float(roc_auc_score(wanted, best[known, number]))
        found.append(LabelResult(name, int(wanted.sum()), int((~wanted).sum()), own, aucs))
    heard = {text: float((best[:, place[text]] >= HEARD).mean()) for text in unrelated}
    return Judgement(tuple(found), tuple(without), heard)


def as_json(judgement: Judgement) -> str:
    """All figures, for machines."""
    labels = [
        {**asdict(label), "mean_auc": label.mean_auc, "ratio": label.ratio} for label in judgement.labels
    ]
    return json.dumps({**asdict(judgement), "labels": labels, **_means(judgement)}, indent=1)


def _means(judgement: Judgement) -> dict[str, float | None]:
    labels = judgement.labels
    own = float(np.mean([label.own_auc for label in labels])) if labels else None
    mean = float(np.mean([label.mean_auc for label in labels])) if labels else None
    return {
        "own_auc": own,
        "mean_auc": mean,
        "ratio": mean / own if mean is not None and own else None,
        "unrelated_heard": float(np.mean(list(judgement.unrelated.values()))),
    }


def as_text(judgement: Judgement) -> str:
    """A table, the worst paraphrases and the loudest unrelated texts."""
    lines = [f"{'label':20} {'with':>5} {'without':>7} {'own AUC':>8} {'paraphrases':>11} {'ratio':>6}"]
    lines += [
        f"{label.label_id:20} {label.positives:5} {label.negatives:7} {label.own_auc:8.3f}"
        f" {label.mean_auc:11.3f} {label.ratio:6.3f}"
        for label in judgement.labels
    ]
    means = _means(judgement)
    if judgement.labels:
        lines.append(f"{'mean':34} {means['own_auc']:8.3f} {means['mean_auc']:11.3f} {means['ratio']:6.3f}")
    if judgement.without_recordings:
        lines.append(f"no recordings: {', '.join(judgement.without_recordings)}")
    worst = sorted((auc, text, row.label_id) for row in judgement.labels for text, auc in row.aucs.items())
    lines += [
        "",
        "worst paraphrases:",
        *(f"  {auc:.3f}  {text} ({name})" for auc, text, name in worst[:_WORST]),
    ]
    loudest = sorted(judgement.unrelated.items(), key=lambda entry: -entry[1])
    lines += [
        "",
        f"{len(loudest)} unrelated texts are heard in {means['unrelated_heard']:.1%} of the recordings:",
        *(f"  {share:.1%}  {text}" for text, share in loudest[:_WORST] if share > 0),
    ]
    return "\n".join(lines)


def shown_by(recordings: Sequence[Recording], data: Path, config: Path = DEFAULT_CONFIG) -> list[str | None]:
    """The concept of each recording that is one of the training data; None for others.

    Args:
        recordings: of any manifest.
        data: folder with the training data's ``MANIFEST.csv``.
        config: settings (TOML).

    Raises:
        SystemExit: that manifest is missing.
    """
    concepts = load_concepts()
    rows = read_recordings(data, load_config(config).split)
    known = {(data / row.file).resolve(): concepts.of_recording(row) for row in rows}
    return [known.get(recording.path.resolve()) for recording in recordings]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 2 if the manifest, a recording or the model is not usable."""
    parser = argparse.ArgumentParser(prog="training.paraphrases", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--manifest", type=Path, required=True, help="CSV file as for clap-server evaluate")
    parser.add_argument("--model", type=Path, default=FOLDER, help="folder of a built-in model")
    parser.add_argument("--data", type=Path, help="training data, whose finer labels then count as well")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(arguments)
    try:
        recordings = read_manifest(options.manifest, load_library())
        missing = [recording for recording in recordings if not recording.path.is_file()]
        if missing:
            raise ConfigurationError(
                f"{options.manifest.name}, row {missing[0].row}: {missing[0].name} is missing."
                " Paths are relative to the manifest."
            )
        model = load_with_bank(options.model)
        clips = (decode(recording.path, model.sample_rate) for recording in recordings)
        best = best_scores(model, clips, len(recordings))
    except ClapServerError as error:
        print(error, file=sys.stderr)
        return 2
    shown = shown_by(recordings, options.data) if options.data else None
    judgement = judge(best, present(recordings, shown))
    print(as_json(judgement) if options.json else as_text(judgement))
    return 0


if __name__ == "__main__":
    sys.exit(main())
