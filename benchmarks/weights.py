"""Weights against other weights at equal false alarms, on recordings that neither learnt from.

    .venv/server/bin/python -m benchmarks.weights before=FOLDER after=FOLDER [--teacher FOLDER]

Each folder is one that ``python -m training export`` wrote. Events are the recordings under a share-alike
licence, which are never trained on, as they are and placed in everyday sound; false alarms are counted in the
rest of these and in the everyday sound that is kept from the training. What a label's threshold would be is
found on these negatives alone: the lowest one with so few false alarms an hour. Thresholds and scores of the
product play no part, so that weights are compared and not their banks.

With ``--teacher`` words that are no label of the library are judged, too. What holds them is said by the
teacher's scores, as no label says it; the recordings of everyday sound are the rest.

What it would bring to join windows, each averaged with those just before, is told likewise: a sound lasts,
while noise differs from one window to the next.
"""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from benchmarks.report import write
from clap_evaluation.conditions import CONDITIONS, place
from clap_evaluation.manifest import NEGATIVE, Occurrence
from clap_evaluation.manifest import Recording as Named
from clap_evaluation.reading import read_blocks
from clap_evaluation.scored import score
from clap_server.clap.builtin.model import BuiltinClap
from clap_server.detection.library import load_library
from clap_server.detection.scoring import LabelScorer
from training.concepts import load_concepts
from training.config import DEFAULT_BACKGROUNDS, DEFAULT_CONFIG, DEFAULT_DATA, load_config
from training.crossvalidate import LABELS
from training.data import heard_backgrounds, read_recordings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from clap_evaluation.conditions import Placement
    from training.data import Recording

LIMITS_PER_HOUR = (2.0, 0.5)
OCCASION_S = 5.0
PLACED = ("clean", "10 dB", "0 dB", "5 m")
LEAST_EVENTS = 5
# So many windows are averaged, each with those just before; the first is the product's.
JOINED = (1, 2, 3)
_HOP_S = 0.5
# A class is heard in a recording where the teacher gives it this, and not where it gives it less than that.
_HEARD, _UNHEARD = 0.15, 0.02
_LEAST_HEARD = 3
# What people may type, and what the teacher's classes call it.
WORDS = {
    "piano": "Piano",
    "guitar": "Guitar",
    "electronic music": "Electronic music",
    "synthesizer": "Synthesizer",
    "xylophone": "Marimba, xylophone",
    "glockenspiel": "Glockenspiel",
    "drum": "Drum",
    "harp": "Harp",
    "bird song": "Bird vocalization, bird call, bird song",
    "birds chirping": "Chirp, tweet",
    "chicken clucking": "Chicken, rooster",
    "crow cawing": "Caw",
    "owl hooting": "Owl",
    "sheep bleating": "Sheep",
    "goat": "Goat",
    "horse": "Horse",
    "crickets": "Cricket",
    "insects buzzing": "Insect",
    "rain": "Rain",
    "rain on a roof": "Rain on surface",
    "a stream": "Stream",
    "waterfall": "Waterfall",
    "ocean waves": "Waves, surf",
    "water trickling": "Trickle, dribble",
    "wind": "Wind",
    "fire crackling": "Fire",
    "train": "Train",
    "subway": "Subway, metro, underground",
    "boat": "Boat, Water vehicle",
    "engine running": "Engine",
    "car honking": "Vehicle horn, car horn, honking",
    "people chatting": "Chatter",
    "whispering": "Whispering",
    "sighing": "Sigh",
    "chewing": "Chewing, mastication",
    "heartbeat": "Heart sounds, heartbeat",
    "clicking": "Clicking",
    "writing": "Writing",
    "tearing paper": "Tearing",
    "zipper": "Zipper (clothing)",
    "crunching": "Crunch",
    "hissing": "Hiss",
    "steam": "Steam",
    "humming of a machine": "Hum",
    "static": "Static",
    "white noise": "White noise",
    "whoosh": "Whoosh, swoosh, swish",
    "whistling": "Whistle",
    "spray can": "Spray",
    "ringtone": "Ringtone",
}


@dataclass(frozen=True, slots=True)
class Heard:
    """One recording's windows.

    Attributes:
        row: of the manifest.
        folder: of its file.
        ends_s: ``(w,)`` of those that the gate lets through.
        margins: ``(w, labels)`` of these.
        duration_s: of the recording.
    """

    row: Recording
    folder: Path
    ends_s: NDArray[np.float64]
    margins: NDArray[np.float64]
    duration_s: float


class _Margins:
    """Margins in place of scores, which are the same for all weights only with a bank."""

    def __init__(self, scorer: LabelScorer) -> None:
        self.label_ids = scorer.label_ids
        self._scorer = scorer

    def scores(self, audio_embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(self._scorer.margins(audio_embeddings), np.float32)


def unheard(sounds: Path, backgrounds: Path) -> list[tuple[Path, Recording]]:
    """What is never trained on, each with its folder."""
    split = load_config(DEFAULT_CONFIG).split
    everyday = read_recordings(backgrounds, split)
    heard = {row.file for row in heard_backgrounds(everyday, split)}
    kept = [row for row in everyday if row.label == NEGATIVE and row.file not in heard]
    judged = load_concepts().judged(read_recordings(sounds, split), None)
    return [*((sounds, row) for row in judged), *((backgrounds, row) for row in kept)]


def occasions(ends_s: NDArray[np.float64], above: NDArray[np.bool_]) -> int:
    """How often something is above, if what follows within ``OCCASION_S`` is the same."""
    count, until = 0, -np.inf
    for end_s in ends_s[above]:
        if end_s > until:
            count += 1
            until = end_s + OCCASION_S
    return count


def joined(ends_s: NDArray[np.float64], margins: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Each window averaged with those just before it, ``count`` in all, less those that the gate kept out.

    Args:
        ends_s: ``(w,)``, rising.
        margins: ``(w, labels)``.
        count: 1 changes nothing.
    """
    first = np.searchsorted(ends_s, ends_s - (count - 0.5) * _HOP_S)
    sums = np.concatenate([np.zeros((1, margins.shape[1])), np.cumsum(margins, axis=0)])
    after = np.arange(1, len(ends_s) + 1)
    return np.asarray((sums[after] - sums[first]) / (after - first)[:, None])


def threshold(negatives: Sequence[Heard], column: int, limit_per_hour: float) -> float:
    """The lowest margin with at most so many false alarms an hour of recordings."""
    hours = sum(heard.duration_s for heard in negatives) / 3600
    allowed = int(limit_per_hour * hours)
    peaks = np.sort(np.concatenate([heard.margins[:, column] for heard in negatives]))[::-1]
    low, high = 0, min(len(peaks) - 1, 50 * (allowed + 1))
    # The higher the margin the fewer occasions, so that halving finds where there are just too many.
    while low < high:
        middle = (low + high) // 2
        count = sum(occasions(h.ends_s, h.margins[:, column] >= peaks[middle]) for h in negatives)
        low, high = (middle + 1, high) if count <= allowed else (low, middle)
    return float(np.nextafter(peaks[low], np.inf))


def _sure(label_id: str) -> Iterable[str]:
    """The concepts that surely do not show a label."""
    concepts = load_concepts()
    place = concepts.index[label_id]
    return [c.name for c in concepts.all if concepts.targets(c.name)[place] == 0]


def judge(folder: Path, rows: Sequence[tuple[Path, Recording]], words: Sequence[str]) -> dict[str, Any]:
    """What one folder's weights find."""
    model = BuiltinClap(folder, "cpu")
    library = load_library()
    labels = [library.resolve(name) for name in LABELS] + [library.resolve(word) for word in words]
    scorer = _Margins(LabelScorer(model, labels, library.background))
    heard = []
    for root, row in tqdm(rows, desc=f"{folder.name}: recordings", mininterval=10):
        occurrence = Occurrence(0, None, None, None, "")
        result = score(model, scorer, read_blocks(root / row.file, model.sample_rate), [occurrence])
        windows = result.windows
        admitted = windows.admitted
        heard.append(
            Heard(
                row, root, windows.ends_s[admitted], windows.scores[admitted].astype(float), result.duration_s
            )
        )
    placed = _placed(model, scorer, rows, labels)
    told: dict[str, Any] = {}
    concepts = load_concepts()
    for column, name in enumerate(LABELS):
        sure = set(_sure(name))
        negatives = [h for h in heard if h.row.label != name and (concepts.of_recording(h.row) or "") in sure]
        events = [h for h in heard if h.row.label == name]
        if not events:
            continue
        best = [float(h.margins[:, column].max(initial=-1e9)) for h in events]
        # What the gate keeps out is below all that it lets through.
        others = [float(h.margins[:, column].max(initial=-1e9)) for h in negatives]
        told[name] = {
            "events": len(events),
            "negatives": len(negatives),
            "hours": sum(h.duration_s for h in negatives) / 3600,
            "roc_auc": float(roc_auc_score([1] * len(best) + [0] * len(others), [*best, *others])),
            "found": _found(negatives, events, placed, column, name, 1),
            "joined": {
                str(count): _found(negatives, events, placed, column, name, count) for count in JOINED[1:]
            },
        }
    return {
        "labels": told,
        "best": {h.row.file: h.margins[:, len(LABELS) :].max(0, initial=-9).tolist() for h in heard},
    }


def _found(
    negatives: Sequence[Heard],
    events: Sequence[Heard],
    placed: dict[tuple[str, str, int], list[float]],
    column: int,
    name: str,
    count: int,
) -> dict[str, dict[str, list[int]]]:
    """Found and all, by limit and condition, when ``count`` windows are joined."""

    def of(heard: Heard) -> Heard:
        return replace(heard, margins=joined(heard.ends_s, heard.margins[:, column : column + 1], count))

    peaks = [float(of(event).margins.max(initial=-1e9)) for event in events]
    quiet = [of(negative) for negative in negatives]
    found: dict[str, dict[str, list[int]]] = {}
    for limit in LIMITS_PER_HOUR:
        least = threshold(quiet, 0, limit)
        values = {"as they are": peaks} | {
            condition: places
            for (label, condition, n), places in placed.items()
            if (label, n) == (name, count)
        }
        found[str(limit)] = {
            condition: [sum(value >= least for value in each), len(each)]
            for condition, each in values.items()
        }
    return found


def _placed(
    model: BuiltinClap, scorer: _Margins, rows: Sequence[tuple[Path, Recording]], labels: Sequence[Any]
) -> dict[tuple[str, str, int], list[float]]:
    """The highest margin of each placed event, by label, condition and windows joined."""
    named = [
        Named(
            root / row.file,
            row.file,
            (Occurrence(0, row.label if row.label in LABELS else None, None, None, row.source_repo),),
        )
        for root, row in rows
        # Everyday sound lies beneath; the hard effects are too short for that.
        if row.label in LABELS or root.name == "backgrounds"
    ]
    found: dict[tuple[str, str, int], list[float]] = {}
    ids = [label.id for label in labels]
    placements: list[Placement] = place(named, LABELS, clips_per_label=66)
    for placement in tqdm(placements, desc="placed", mininterval=10):
        made = placement.make()
        for condition in CONDITIONS:
            if condition.name not in PLACED:
                continue
            samples = made.heard(condition, np.random.default_rng(placement.seed))
            occurrence = Occurrence(0, placement.label_id, made.onset_s, made.offset_s, "")
            windows = score(model, scorer, [samples], [occurrence]).windows
            ends_s = windows.ends_s[windows.admitted]
            inside = (ends_s >= made.onset_s) & (ends_s <= made.offset_s + windows.window_s)
            margins = windows.scores[windows.admitted].astype(float)
            for count in JOINED:
                values = joined(ends_s, margins, count)[inside, ids.index(placement.label_id)]
                found.setdefault((placement.label_id, condition.name, count), []).append(
                    float(values.max(initial=-np.inf))
                )
    return found


def words_told(teacher: Path, rows: Sequence[tuple[Path, Recording]]) -> dict[str, dict[str, bool]]:
    """For each of ``WORDS`` which files hold it, by the teacher's scores; those that may are left out."""
    told: dict[str, dict[str, bool]] = {}
    scores = {name: np.load(teacher / f"{name}_10s.npz") for name in ("sounds", "backgrounds")}
    classes = [str(name) for name in scores["sounds"]["__classes__"]]
    for root, row in rows:
        if row.file not in scores[root.name]:
            continue
        best = scores[root.name][row.file].astype(np.float32).max(0)
        for word, name in WORDS.items():
            value = float(best[classes.index(name)])
            if value >= _HEARD or value < _UNHEARD:
                told.setdefault(word, {})[row.file] = value >= _HEARD
    return {word: files for word, files in told.items() if sum(files.values()) >= _LEAST_HEARD}


def _cell(hits: int, count: int) -> str:
    bounds = stats.binomtest(hits, count).proportion_ci()
    return f"{hits}/{count} ({bounds.low:.2f}-{bounds.high:.2f})"


def as_markdown(figures: dict[str, Any]) -> str:
    """The tables for people."""
    names = list(figures["weights"])
    first = figures["weights"][names[0]]["labels"]
    hours = next(iter(first.values()))["hours"]
    lines = [
        f"Found of all, with exact 95 % bounds. A label has about {hours:.1f} hours of negatives:",
        f"2 an hour are {int(2 * hours)} false alarms in all, 0.5 an hour {int(0.5 * hours)}.",
        "",
    ]
    conditions = ("as they are", *PLACED)
    for limit in LIMITS_PER_HOUR:
        lines += [
            f"## At most {limit:g} false alarms an hour",
            "",
            "| label | weights | ROC AUC | " + " | ".join(conditions) + " |",
            "|---" * (3 + len(conditions)) + "|",
        ]
        for label, entry in first.items():
            for name in names:
                told = figures["weights"][name]["labels"][label]
                cells = " | ".join(_cell(*told["found"][str(limit)][condition]) for condition in conditions)
                lines.append(f"| {label} ({entry['events']}) | {name} | {told['roc_auc']:.3f} | {cells} |")
        lines.append("")
    lines += [
        f"## Windows joined, at most {LIMITS_PER_HOUR[0]:g} false alarms an hour",
        "",
        "| label | weights | windows | " + " | ".join(conditions) + " |",
        "|---" * (3 + len(conditions)) + "|",
    ]
    for label, entry in first.items():
        for name in names:
            told = figures["weights"][name]["labels"][label]
            for count, found in (("1", told["found"]), *told["joined"].items()):
                shares = found[str(LIMITS_PER_HOUR[0])]
                cells = " | ".join(_cell(*shares[condition]) for condition in conditions)
                lines.append(f"| {label} ({entry['events']}) | {name} | {count} | {cells} |")
    lines.append("")
    if figures["words"]:
        lines += [
            "## Words that are no label: ROC AUC by the teacher's scores",
            "",
            "| words | recordings | " + " | ".join(names) + " |",
            "|---" * (2 + len(names)) + "|",
        ]
        for word, entry in figures["words"].items():
            cells = " | ".join(f"{entry['roc_auc'][name]:.3f}" for name in names)
            lines.append(f"| {word} | {entry['recordings']} | {cells} |")
        means = [np.mean([e["roc_auc"][name] for e in figures["words"].values()]) for name in names]
        lines.append("| **mean** | | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--sounds", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--backgrounds", type=Path, default=DEFAULT_BACKGROUNDS)
    parser.add_argument("--teacher", type=Path, help="folder of the teacher's scores")
    arguments = parser.parse_args()
    rows = unheard(arguments.sounds, arguments.backgrounds)
    told = {} if arguments.teacher is None else words_told(arguments.teacher, rows)
    folders = {name: Path(folder) for name, _, folder in (w.partition("=") for w in arguments.weights)}
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        judged = [pool.submit(judge, folder, rows, list(told)) for folder in folders.values()]
        results = {name: future.result() for name, future in zip(folders, judged, strict=True)}
    best = {name: result.pop("best") for name, result in results.items()}
    words = {
        word: {
            "recordings": sum(files.values()),
            "roc_auc": {
                name: float(roc_auc_score(list(files.values()), [best[name][file][place] for file in files]))
                for name in results
            },
        }
        for place, (word, files) in enumerate(told.items())
    }
    figures = {"weights": results, "words": words}
    write("weights", "cpu", {"model": "builtin", "recordings": len(rows)}, figures, as_markdown(figures))


if __name__ == "__main__":
    main()
