"""Whether a false alarm that was called one stays away, and what else goes with it.

    python -m benchmarks.feedback --recordings ../shared

For each label the recordings of everyday sound that fire best, of authors that are not in the bank, are
called false alarms. Each is played again, at another moment and level, over the sound of another recording.
Then all recordings of the label are looked for that were found before; also with some others of them called
correct.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import write
from benchmarks.taught import HOP_S, LIBRARY, Heard, bank_of, heard, recordings, share
from clap_server.audio.decode import decode
from clap_server.clap.builtin import load_builtin
from clap_server.detection.examples import Examples, made_for
from clap_server.detection.mistakes import Mistakes, lookalikes
from clap_server.detection.scoring import LabelScorer
from clap_server.listening.traces import MOST_WINDOWS, Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clap_server.clap.everyday import EverydayBank
    from clap_server.clap.model import ClapModel

LABELS = ("glass_breaking", "explosion_gunshot", "alarm", "metal_impact", "fighting_shouting")
FALSE_ALARMS = 6
CORRECT, DRAWS = 3, 20
SNRS_DB = (25.0, 15.0, 8.0)
LONGEST_S = 5.0
THRESHOLD = 0.5


def again(
    sound: NDArray[np.float32], other: NDArray[np.float32], snr_db: float, rng: np.random.Generator, rate: int
) -> NDArray[np.float32]:
    """The sound later, up to 15 dB quieter, over another one."""
    before = np.zeros(round(rng.uniform(0.5, 1.5) * rate), np.float32)
    scene = np.concatenate([before, sound, np.zeros(rate // 2, np.float32)])
    level = np.sqrt(np.mean(sound**2)) / np.sqrt(np.mean(other**2) + 1e-12)
    mixed = scene + np.resize(other, len(scene)) * level * 10 ** (-snr_db / 20)
    return np.asarray(mixed * 10 ** (rng.uniform(-15, 0) / 20) / max(1.0, np.abs(mixed).max()), np.float32)


class Ear:
    """One label on a bank.

    Args:
        model: hears.
        bank: that it has.
        label_id: of the library.
    """

    def __init__(self, model: ClapModel, bank: EverydayBank, label_id: str) -> None:
        label = LIBRARY.resolve(label_id)
        self._scorer = LabelScorer(model, [label], LIBRARY.background)
        self._bank = bank
        self._like = lookalikes(label_id, self._bank, lambda: self._scorer.margins(bank.embeddings())[:, 0])
        self._made_for = made_for(model)

    def scores(self, recording: Heard) -> NDArray[np.float32]:
        """Of each window."""
        return self._scorer.scores(recording.embeddings)[:, 0]

    def learnt(self, *events: Heard, correct: Sequence[Heard] = ()) -> Mistakes:
        """What is learnt of false alarms, and of correct events."""
        right = [self._kept(correct)] if correct else []
        return Mistakes([self._kept(events)], self._bank, self._like, right)

    def _kept(self, events: Sequence[Heard]) -> Examples:
        """What is kept of events, as live listening keeps it."""
        traces = []
        for event in events:
            scores, trace = self.scores(event), Trace(self._made_for)
            for embedding in event.embeddings[scores >= 0.8 * min(THRESHOLD, scores.max())][:MOST_WINDOWS]:
                trace.add(embedding)
            traces.append(trace.embeddings)
        return Examples.of(self._made_for, traces)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=Path, default=Path("../shared"))
    parser.add_argument("--cache", type=Path, help="keeps how the model heard the recordings")
    arguments = parser.parse_args()
    model: Any = load_builtin("cpu")
    rate = model.sample_rate
    everything = recordings(model, arguments.recordings, arguments.cache)
    everyday = [piece for piece in everything if piece.label == "negative"]
    authors = np.random.default_rng(0).permutation(sorted({piece.author for piece in everyday}))
    # The constants were chosen on the false alarms of the other half.
    in_bank = set(authors[1::2])
    model.everyday = bank_of([piece for piece in everyday if piece.author in in_bank], "half")
    others = [piece for piece in everyday if piece.author not in in_bank]
    rng = np.random.default_rng(1)
    figures: dict[str, Any] = {}
    for label_id in LABELS:
        ear = Ear(model, model.everyday, label_id)
        found = sorted(others, key=lambda piece: -float(ear.scores(piece).max()))[:FALSE_ALARMS]
        away: dict[float, list[bool]] = {snr_db: [] for snr_db in SNRS_DB}
        for event in found:
            learnt = ear.learnt(event)
            threshold = min(THRESHOLD, float(ear.scores(event).max()))
            sound = decode(arguments.recordings / event.file, rate)[: round(LONGEST_S * rate)]
            for snr_db in SNRS_DB:
                other = decode(arguments.recordings / others[rng.integers(len(others))].file, rate)
                row = {"label": "", "source_repo": "", "author": ""}
                replay = heard(model, again(sound, other, snr_db, rng, rate), row)
                if replay is not None and ear.scores(replay).max() >= threshold:
                    kept = ear.scores(replay) * learnt.kept(replay.embeddings)
                    away[snr_db].append(bool(kept.max() < threshold))
        meant = [piece for piece in everything if piece.label == label_id]
        meant = [piece for piece in meant if ear.scores(piece).max() >= THRESHOLD]
        every = ear.learnt(*found)
        after_one = [
            bool((ear.scores(piece) * ear.learnt(event).kept(piece.embeddings)).max() >= THRESHOLD)
            for event in found
            for piece in meant
        ]
        after_all = [bool((ear.scores(p) * every.kept(p.embeddings)).max() >= THRESHOLD) for p in meant]
        guarded = []
        for _ in range(DRAWS if len(meant) > CORRECT else 0):
            order = [meant[number] for number in rng.permutation(len(meant))]
            learnt = ear.learnt(*found, correct=order[:CORRECT])
            guarded += [
                bool((ear.scores(p) * learnt.kept(p.embeddings)).max() >= THRESHOLD) for p in order[CORRECT:]
            ]
        figures[label_id] = {
            "false_alarms": len(found),
            "stay_away": {
                f"{snr_db:g} dB": share(sum(told), len(told)) for snr_db, told in away.items() if told
            },
            "fired_again_before": sum(map(len, away.values())),
            "recordings": len(meant),
            "still_found_after_one": round(float(np.mean(after_one)), 2),
            "still_found_after_all": share(sum(after_all), len(after_all)),
            "still_found_with_correct": round(float(np.mean(guarded)), 2) if guarded else None,
        }
        print(label_id, figures[label_id], flush=True)
    parameters = {
        "model": "builtin",
        "hop_s": HOP_S,
        "threshold": THRESHOLD,
        "bank_hours": round(model.everyday.hours, 1),
    }
    write("feedback", "cpu", parameters, figures, table(figures))


def table(figures: dict[str, Any]) -> str:
    """The figures for people."""
    snrs = [f"{snr_db:g} dB" for snr_db in SNRS_DB]
    lines = [
        "| label | " + " | ".join(f"stays away, {snr}" for snr in snrs) + " | still found after one"
        f" | after {FALSE_ALARMS} | with {CORRECT} called correct | recordings |",
        "|---" * (len(snrs) + 5) + "|",
    ]
    for label_id, found in figures.items():
        away = [
            "{} ({} to {})".format(*found["stay_away"][snr]) if snr in found["stay_away"] else ""
            for snr in snrs
        ]
        after = "{} ({} to {})".format(*found["still_found_after_all"])
        one = found["still_found_after_one"]
        guarded, count = found["still_found_with_correct"], found["recordings"]
        lines.append(f"| {label_id} | {' | '.join(away)} | {one} | {after} | {guarded} | {count} |")
    lines += [
        "",
        (
            "The sound again over another one, so many dB under it; in brackets 95 % bounds. Other labels and"
            " other microphones lose nothing, by construction."
        ),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
