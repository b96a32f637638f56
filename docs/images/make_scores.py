"""Draws the pictures of docs/detection.md from what the built-in model ships with.

Run ``python docs/images/make_scores.py`` in the server's development environment.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from clap_server.clap.builtin import FOLDER, load_builtin
from clap_server.detection.everyday.about import pieces_about
from clap_server.detection.everyday.evidence import evidence, maxima
from clap_server.detection.everyday.preparing import prepared
from clap_server.detection.everyday.rate import SOUNDING_HOURS_A_DAY, rate_of_score
from clap_server.detection.everyday.scale import BLOCK_S, UNHEARD, tail_of
from clap_server.detection.everyday.tail import bounds
from clap_server.detection.library import load_library
from clap_server.detection.scoring import LabelScorer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HERE = Path(__file__).resolve().parent
DPI = 120
EVERYDAY, SOUND, MUTED = "#d55e00", "#0072b2", "#666666"
LABEL = "glass_breaking"
SHOWN = ("glass_breaking", "explosion_gunshot", "fighting_shouting", "alarm", "speech")


def scale_picture() -> Figure:
    """False alarms a day over the score."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    scores = np.linspace(0.4, 0.95, 100)
    axes.semilogy(scores, [rate_of_score(score) for score in scores], color=EVERYDAY)
    for score, words in (
        (0.5, "monitoring:\none an hour"),
        (0.7, "security:\none a day"),
        (0.9, "one a month"),
    ):
        axes.plot(score, rate_of_score(score), "o", color=EVERYDAY)
        axes.annotate(words, (score, rate_of_score(score)), (8, 4), textcoords="offset points")
    axes.set(xlabel="score, or threshold", ylabel="false alarms a day")
    axes.grid(alpha=0.3)
    return figure


def tail_picture() -> Figure:
    """How often everyday sound reaches a margin: counted, fitted, with bounds."""
    library, model = load_library(), prepared(load_builtin("cpu"), HERE, print)
    label, bank = library.resolve(LABEL), model.everyday
    if bank is None:
        raise SystemExit("the built-in model has no bank of everyday sound")
    margins = LabelScorer(model, [label], library.background).margins(bank.embeddings())[:, 0]
    # As the scale does it: what holds the sound itself is no false alarm.
    kept = ~pieces_about(bank, model, label)[bank.recordings]
    tail = tail_of(margins, bank, kept, label.kind)
    if tail is None:
        raise SystemExit("the bank says too little of the label")
    ends_s, recordings = bank.ends_s[kept], bank.recordings[kept]
    decided = evidence(margins[kept], ends_s, recordings, label.kind, hop_s=bank.hop_s)
    highest = np.sort(maxima(decided, ends_s, recordings, block_s=BLOCK_S))[::-1]
    grid = np.linspace(np.median(highest), highest[0] + 0.1, 200)
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(highest, np.arange(1, len(highest) + 1) / tail.hours, ".", color=MUTED, label="counted")
    fitted = tail.per_hour(grid)
    axes.semilogy(grid, fitted, color=EVERYDAY, label="fitted")
    limits = np.array([bounds(rate * tail.hours, tail.hours) for rate in fitted])
    axes.fill_between(grid, *limits.T, color=EVERYDAY, alpha=0.15, label="95 % bounds of a count")
    for score in (0.5, 0.7):
        rate = rate_of_score(score) / SOUNDING_HOURS_A_DAY / UNHEARD
        margin = float(np.interp(-rate, -fitted, grid))
        axes.axvline(margin, color=SOUND, linestyle=":")
        axes.annotate(f"score {score:g}", (margin, 300), color=SOUND, ha="right", rotation=90, va="top")
    axes.set(xlabel="margin of glass breaking, cosine", ylabel="events an hour of sound", ylim=(1e-2, 500))
    axes.legend(loc="lower left")
    axes.grid(alpha=0.3)
    return figure


def found_picture() -> Figure:
    """Which share of recorded events reaches a threshold, with exact 95 % bounds."""
    known = json.loads((FOLDER / "found.json").read_text("utf-8"))
    library = load_library()
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes: Axes = figure.subplots()
    thresholds = np.linspace(0.4, 0.9, 101)
    for label_id in SHOWN:
        label = library.resolve(label_id)
        scores, events = np.array(known[label_id]["scores"]), known[label_id]["events"]
        counts = [(scores >= threshold).sum() for threshold in thresholds]
        exact = [stats.binomtest(int(count), events).proportion_ci() for count in counts]
        [line] = axes.plot(thresholds, np.array(counts) / events, label=f"{label.names['en']} ({events})")
        axes.fill_between(
            thresholds,
            [each.low for each in exact],
            [each.high for each in exact],
            color=line.get_color(),
            alpha=0.1,
        )
    axes.set(xlabel="threshold", ylabel="share of the events that is found", ylim=(0, 1))
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def main() -> None:
    """Write the pictures beside this file."""
    for name, figure in (("scale", scale_picture()), ("tail", tail_picture()), ("found", found_picture())):
        figure.savefig(HERE / f"score-{name}.png", dpi=DPI)


if __name__ == "__main__":
    main()
