"""Who made the recordings that the built-in model and its bank of everyday sound come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.data import Recording

FILE = "ATTRIBUTION.md"
EVERYDAY_FILE = "ATTRIBUTION-everyday.md"

_TRAINING = """# Recordings that the built-in model was trained on

Made by `python -m training export` from the manifest of the recordings. None of them is in this package; the
weights were fitted to them. For the training the sounds were changed: resampled, cut, mixed
and played in simulated rooms. Clips under a share-alike licence were not used for training. The text tower
was distilled from all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0), whose word pieces it keeps; both
towers had the scores of YAMNet (Google, Apache-2.0) and then those of EfficientAT's mn04_as (Florian Schmid,
Khaled Koutini and Gerhard Widmer, MIT, https://github.com/fschmid56/EfficientAT) with the names of their
classes as targets. Of these two audio models nothing is in this package.

The licences: [CC0-1.0](https://creativecommons.org/publicdomain/zero/1.0/),
[CC-BY-2.0](https://creativecommons.org/licenses/by/2.0/),
[CC-BY-3.0](https://creativecommons.org/licenses/by/3.0/),
[CC-BY-4.0](https://creativecommons.org/licenses/by/4.0/),
[Apache-2.0](https://www.apache.org/licenses/LICENSE-2.0), [MIT](https://opensource.org/license/mit) and
[BSD-3-Clause](https://opensource.org/license/bsd-3-clause). Where no version is named, the source names none;
*repository* means that the repository as a whole is under it.

"""

_EVERYDAY = """# Recordings of everyday sound that the built-in model is measured against

Made by `python -m training everyday` from the manifest of the recordings. None of them is in this package:
`everyday.npz` holds, for each half second of them, 96 numbers that the model makes of the two seconds
before. The model was trained on none of them, and none is under a share-alike licence.

The licences are those of `ATTRIBUTION.md`.

"""

# If the manifest's author is a link or a list of files: repository, how that begins, a piece of the path and
# whom the source's own lists (sources.md, planet/Sound.ocg/authors.txt) name.
_CREDITED = (
    ("AntumMT/mod-sounds", "[", "gorilla_", "Anton Baotic, Florian Sicks, Angela S. Stoeger"),
    ("AntumMT/mod-sounds", "[", "hyena_", "N. Mathevon, A. Koralek, M. Weldele, S. Glickman, F. Theunissen"),
    ("AntumMT/mod-sounds", "[", "piano", "Scott Joplin, Tim Starling"),
    ("openclonk/openclonk", "Confirm1", "/Farmer.ocg/Die", "Clonkonaut"),
    ("openclonk/openclonk", "Confirm1", "/Farmer.ocg/Hurt", "bennychico11"),
    ("openclonk/openclonk", "Confirm1", "", "ala"),
    ("openclonk/openclonk", "Die1-5", "", "ala"),
    ("openclonk/openclonk", "Chirp", "", "ala"),
    ("openclonk/openclonk", "Structures/DoorOpen", "", "ala"),
    ("openclonk/openclonk", "Structures/Repair", "", "ala, after JoelAudio and cmusounddesign"),
    ("openclonk/openclonk", "DiamondDigOut", "", "Sven2"),
    ("openclonk/openclonk", "Winbag/", "", "Ringwaul"),
)


def of_training(recordings: Iterable[Recording]) -> str:
    """Name the authors of what is trained on among recordings."""
    return _TRAINING + _groups(row for row in recordings if row.part == "train")


def of_everyday_sound(recordings: Iterable[Recording]) -> str:
    """Name the authors of the recordings of a bank of everyday sound."""
    return _EVERYDAY + _groups(recordings)


def _groups(recordings: Iterable[Recording]) -> str:
    """One line for each author's clips of one source and licence."""
    groups: dict[tuple[str, str, str], set[str]] = {}
    for row in recordings:
        # What follows a # is the second at which a piece of a long recording begins.
        path = row.source_path.partition("#")[0]
        groups.setdefault((row.source_repo, row.licence, _name(row)), set()).add(path)
    lines = []
    repo_before = ""
    for (repo, licence, author), paths in sorted(groups.items()):
        if repo != repo_before:
            lines.append(f"\n## https://github.com/{repo}\n\n")
            repo_before = repo
        lines.append(f"- {author} ({licence}): {', '.join(sorted(paths))}\n")
    return "".join(lines)


def _name(row: Recording) -> str:
    """The author as text."""
    for repo, author, piece, name in _CREDITED:
        if row.source_repo == repo and row.author.startswith(author) and piece in row.source_path:
            return name
    return "named in the source's own list" if "](" in row.author else row.author or "unnamed"
