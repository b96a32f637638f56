"""Step ``prepare``: recordings and synthesised sounds as log-mel spectrograms in one file.

Everything after this works on spectrograms: sounds are mixed by adding their powers, which costs next to
nothing, and the features are a tenth of the recordings, so that they can be copied to another machine.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from clap_server import synthesis
from clap_server.audio.decode import decode
from clap_server.clap.features import LogMel
from training.concepts import load_concepts
from training.data import read_recordings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from training.config import Config

MELS = 64
_MAX_SECONDS = 30.0
# Which concept each maker's sounds belong to.
MAKERS: dict[str, str] = {
    "glass_break": "glass_breaking",
    "t3_alarm": "smoke_alarm",
    "t4_alarm": "smoke_alarm",
    "buzzer_alarm": "alarm",
    "siren": "siren",
    "impact": "metal_impact",
    "thud": "door_slam",
    "explosion": "explosion_gunshot",
    "dishes": "dishes",
    "cutlery": "cutlery",
    "keys": "keys",
    "coins": "coins",
    "glass_clink": "glass_clink",
    "appliance_beeps": "appliance_beep",
    "ringtone": "phone_ringing",
    "babble": "babble",
    "music": "music",
    "noise": "noise",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One spectrogram of the cache.

    Attributes:
        name: file of the recording, or maker and number.
        copy: ``dry`` or ``room``.
        concept: what it shows.
        label: the manifest's label; ``synthetic`` for a synthesised sound.
        caption: words for it; may be empty.
        part: ``train``, ``validation`` or ``test``.
        start: first frame in the cache.
        frames: number of frames.
        window: the half window of the teacher's scores at frame 0 is 0; rows are looked up by time.
    """

    name: str
    copy: str
    concept: str
    label: str
    caption: str
    part: str
    start: int
    frames: int


class Cache:
    """The spectrograms, read as needed.

    Args:
        folder: written by ``prepare``.
    """

    def __init__(self, folder: Path) -> None:
        index = folder / "items.json"
        if not index.is_file():
            raise SystemExit(f"{index} is missing: run `python -m training prepare` first.")
        self.items = [Item(**entry) for entry in json.loads(index.read_text("utf-8"))]
        total = sum(item.frames for item in self.items)
        self.mels = np.memmap(folder / "mels.f16", np.float16, "r", shape=(total, MELS))

    def spectrogram(self, item: Item) -> NDArray[np.float16]:
        """``(frames, 64)`` in dB."""
        return self.mels[item.start : item.start + item.frames]


def seeded(seed: int, name: str) -> np.random.Generator:
    """A generator of its own for each sound, so that adding one changes no other."""
    return np.random.default_rng((seed, zlib.crc32(name.encode())))


def _sounds(config: Config, data: Path) -> Iterator[tuple[Item, Callable[[], NDArray[np.float32]]]]:
    rate = config.features.sample_rate
    concepts = load_concepts()
    for recording in read_recordings(data, config.split):
        concept = concepts.of_recording(recording)
        if concept is None:
            continue
        for copy in range(1 + config.prepare.reverberated_copies):
            if copy and recording.part == "test":
                continue

            def make(path: Path = data / recording.file, copy: int = copy) -> NDArray[np.float32]:
                samples = decode(path, rate)[: int(_MAX_SECONDS * rate)]
                if copy:
                    return synthesis.reverberate(samples, seeded(config.seed + copy, path.name), rate)
                return samples

            yield (
                Item(
                    recording.file,
                    "room" if copy else "dry",
                    concept,
                    recording.label,
                    recording.caption,
                    recording.part,
                    0,
                    0,
                ),
                make,
            )
    for maker, count in config.prepare.synthetic.items():
        for index in range(count):
            name = f"{maker}/{index}"

            def synthesise(name: str = name, maker: str = maker, index: int = index) -> NDArray[np.float32]:
                rng = seeded(config.seed, name)
                samples: NDArray[np.float32] = getattr(synthesis, maker)(rng, rate)
                return synthesis.reverberate(samples, rng, rate) if index % 2 else samples

            part = "validation" if index % 6 == 5 else "train"
            copy_name = "room" if index % 2 else "dry"
            yield Item(name, copy_name, MAKERS[maker], "synthetic", "", part, 0, 0), synthesise


def prepare(config: Config, data: Path, runs: Path) -> None:
    """Write ``items.json`` and ``mels.f16`` into the runs folder; what is there already is kept.

    Raises:
        SystemExit: there are no recordings.
    """
    folder = runs / "cache"
    if (folder / "items.json").is_file():
        print(f"{folder} is there already; remove it to make it anew")
        return
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    log_mel = LogMel(config.features.sample_rate, dtype=torch.float32)
    items: list[Item] = []
    start = 0
    with (folder / "mels.f16").open("wb") as out:
        for item, make in tqdm(list(_sounds(config, data)), desc="prepare", mininterval=10):
            samples = make()
            shortest = config.features.sample_rate // 20
            if len(samples) < shortest:
                samples = np.pad(samples, (0, shortest - len(samples)))
            with torch.inference_mode():
                mel = log_mel(torch.from_numpy(samples)[None])[0].numpy().astype(np.float16)
            mel.tofile(out)
            items.append(Item(**{**asdict(item), "start": start, "frames": len(mel)}))
            start += len(mel)
    (folder / "items.json").write_text(json.dumps([asdict(item) for item in items]), "utf-8")
    print(f"{len(items)} spectrograms, {start / 6000:.0f} minutes, in {folder}")
