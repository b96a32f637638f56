"""How surely alarms are decoded in measured rooms, how often anything else is, and what that costs.

    .venv/server/bin/python -m benchmarks.patterns [--backgrounds FOLDER] [--sounds FOLDER]

The folders hold recordings with a ``MANIFEST.csv`` (file, label, fine_label); responses of rooms are in
``room_response/`` of the first. Of each kind of sound all recordings are played one after the other, as one
long stream, because chirps are told from minutes of it.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import write
from clap_server import synthesis
from clap_server.audio.decode import decode
from clap_server.detection.patterns import AlarmPattern, PatternDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from clap_server.detection.patterns import DecodedPattern

SHARED = Path(__file__).resolve().parents[2] / "shared"
RATE = 16_000
PIECE_S = 0.05
CARRIERS_HZ = (520.0, 1000.0, 3100.0, 3400.0)
CYCLES = 4
# A dry living room rings for 0.4 s, a bare one for 0.8 s.
REVERBERATION_S = (0.8, 1.6, np.inf)
ALARMS = {AlarmPattern.T3: synthesis.t3_alarm, AlarmPattern.T4: synthesis.t4_alarm}


def feed(decoder: PatternDecoder, samples: NDArray[np.float32], rate: int = RATE) -> list[DecodedPattern]:
    """Decode in pieces as they come live."""
    size = round(PIECE_S * rate)
    return [
        found
        for start in range(0, len(samples), size)
        for found in decoder.feed(samples[start : start + size])
        if not found.ended
    ]


def reverberation_s(response: NDArray[np.float32]) -> float:
    """RT60 from the slope between -5 and -25 dB (ISO 3382, T20)."""
    energy = np.cumsum(response[::-1].astype(np.float64) ** 2)[::-1]
    level_db = 10 * np.log10(energy / energy[0] + 1e-12)
    return 3 * float(np.argmax(level_db < -25) - np.argmax(level_db < -5)) / RATE


def in_room(sound: NDArray[np.float32], response: NDArray[np.float32]) -> NDArray[np.float32]:
    """Play it there."""
    size = len(sound) + len(response) - 1
    wet = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size).astype(np.float32)
    return np.asarray(0.3 * wet / np.abs(wet).max(), np.float32)


def rooms(folder: Path) -> list[dict[str, Any]]:
    """Each alarm at each carrier in each room."""
    quiet = np.zeros(RATE, np.float32)
    rows = []
    for path in sorted(folder.glob("*.flac")):
        response = decode(path, RATE)
        found = {}
        for pattern, make in ALARMS.items():
            for carrier_hz in CARRIERS_HZ:
                alarm = make(np.random.default_rng(1), RATE, carrier_hz=carrier_hz, cycles=CYCLES)
                heard = feed(PatternDecoder(RATE), in_room(np.concatenate((quiet, alarm, quiet)), response))
                found[f"{pattern} {carrier_hz:g} Hz"] = [each.pattern for each in heard] == [pattern]
        rows.append({"room": path.stem, "rt60_s": round(reverberation_s(response), 2), "decoded": found})
    return rows


def everyday(folders: list[Path]) -> Iterator[tuple[str, list[Path]]]:
    """Recordings without alarms, by kind of sound."""
    kinds: dict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        with (folder / "MANIFEST.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                # What is labelled as an alarm may be one with a pattern.
                if row["label"] != "alarm" and not row["file"].startswith("room_response/"):
                    kinds[f"{folder.name}/{row['file'].partition('/')[0]}"].append(folder / row["file"])
    yield from sorted(kinds.items())


def false_decodes(kinds: Iterator[tuple[str, list[Path]]]) -> tuple[list[dict[str, Any]], float]:
    """What is decoded where there is nothing, and the seconds of processor that all took."""
    rows = []
    took_s = 0.0
    for kind, paths in kinds:
        decoder, heard, length_s = PatternDecoder(RATE), [], 0.0
        for path in paths:
            samples = decode(path, RATE)
            began = time.process_time()
            heard += feed(decoder, samples)
            took_s += time.process_time() - began
            length_s += len(samples) / RATE
        false = [f"{each.pattern} at {each.onset_s:.0f} s, {each.carrier_hz:.0f} Hz" for each in heard]
        rows.append({"kind": kind, "hours": round(length_s / 3600, 3), "decoded": false})
    return rows, took_s


def main() -> None:
    """Run and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backgrounds", type=Path, default=SHARED / "backgrounds")
    parser.add_argument("--sounds", type=Path, default=SHARED / "sounds")
    arguments = parser.parse_args()
    measured = rooms(arguments.backgrounds / "room_response")
    lines = ["| rooms that ring for | rooms | T3 decoded | T4 decoded |", "|---|---|---|---|"]
    shortest_s = 0.0
    for longest_s in REVERBERATION_S:
        these = [row for row in measured if shortest_s <= row["rt60_s"] < longest_s]
        cells = []
        for pattern in ALARMS:
            results = [ok for row in these for name, ok in row["decoded"].items() if name.startswith(pattern)]
            cells.append(f"{sum(results)} of {len(results)}")
        until = f"to {longest_s:g} s" if np.isfinite(longest_s) else "s and more"
        name = f"{shortest_s:g} {until}"
        lines.append(f"| {name} | {len(these)} | {' | '.join(cells)} |")
        shortest_s = longest_s
    false, took_s = false_decodes(everyday([arguments.backgrounds, arguments.sounds]))
    hours = sum(row["hours"] for row in false)
    count = sum(len(row["decoded"]) for row in false)
    share = took_s / (3600 * hours)
    lines += ["", f"In {hours:.1f} hours of other sound, {count} decoded; {100 * share:.2f} % of a core."]
    lines += [f"- {row['kind']}: {'; '.join(row['decoded'])}" for row in false if row["decoded"]]
    parameters = {"sample_rate": RATE, "carriers_hz": list(CARRIERS_HZ), "cycles": CYCLES}
    figures = {"rooms": measured, "false": false, "hours": round(hours, 2), "share_of_core": round(share, 5)}
    write("patterns", "cpu", parameters, figures, "\n".join(lines))


if __name__ == "__main__":
    main()
