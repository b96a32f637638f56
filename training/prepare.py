"""Step ``prepare``: recordings and synthesised sounds as log-mel spectrograms in one file.

Everything after this works on spectrograms: sounds are mixed by adding their powers, which costs next to
nothing, and the features are a tenth of the recordings, so that they can be copied to another machine. What
cannot be done to spectrograms, rooms and devices, is done here, to copies of the recordings.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
import zlib
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from clap_server.audio.decode import decode
from clap_server.clap.features import LogMel
from clap_server.errors import AudioError
from training import synthesis
from training.augment import rerecord
from training.concepts import load_concepts
from training.data import read_recordings
from training.rooms import load_rooms

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from training.config import Config
    from training.rooms import Rooms

MELS = 64
SYNTHETIC = "synthetic"
_OWN_LICENCE = "Apache-2.0"
_MAX_SECONDS = 30.0
_SYNTHETIC_COPIED = 0.5
# Which concept each maker's sounds belong to.
MAKERS: dict[str, str] = {
    "glass_break": "glass_breaking",
    "pane_break": "glass_breaking",
    "t3_alarm": "smoke_alarm",
    "t4_alarm": "carbon_monoxide_alarm",
    "horn_alarm": "smoke_alarm",
    "buzzer_alarm": "alarm",
    "bell_alarm": "alarm",
    "sounder_alarm": "alarm",
    "car_alarm": "car_alarm",
    "siren": "siren",
    "impact": "metal_impact",
    "thud": "door_slam",
    "explosion": "explosion_gunshot",
    "gunshot": "explosion_gunshot",
    "fireworks": "fireworks",
    "dishes": "dishes",
    "dishwashing": "dishes",
    "stove": "dishes",
    "cutlery": "cutlery",
    "keys": "keys",
    "coins": "coins",
    "glass_clink": "glass_clink",
    "tap_on_glass": "glass_clink",
    "cupboard": "cupboard",
    "chopping": "chopping",
    "hammering": "wood",
    "chair_scrape": "scraping",
    "crinkle": "paper",
    "frying": "frying",
    "pouring": "pouring",
    "applause": "applause",
    "appliance_beeps": "appliance_beep",
    "reversing_beeps": "reversing_beep",
    "ringtone": "phone_ringing",
    "chimes": "bell",
    "cymbals": "cymbals",
    "babble": "babble",
    "music": "music",
    "noise": "noise",
    "singing_glass": "glass_clink",
    "whistling": "music",
    "bird_calls": "birds",
    "animal_calls": "animal",
    "splash": "water_running",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One spectrogram of the cache.

    Attributes:
        name: file of the recording, or maker and number.
        copy: ``dry``, or what was done to it: ``room`` (simulated) or ``tail`` (of decaying noise),
            ``device`` and its codec, joined by ``+``.
        concept: what it shows.
        label: the manifest's label; ``synthetic`` for a synthesised sound.
        caption: words for it; may be empty.
        source: repository of the recording, or ``synthetic``.
        licence: of the recording; that of this repository for what is synthesised.
        path: of the recording in its source; ``name`` for what is synthesised.
        start: first frame in the cache.
        frames: number of frames.
    """

    name: str
    copy: str
    concept: str
    label: str
    caption: str
    source: str
    licence: str
    path: str
    start: int = 0
    frames: int = 0


@dataclass(frozen=True, slots=True)
class _Sound:
    """One recording, or one sound to synthesise.

    Attributes:
        item: of the sound as it is.
        maker: of ``MAKERS``; empty for a recording.
        copies: how many to make besides; of a synthesised sound there is one spectrogram in any case.
    """

    item: Item
    maker: str
    copies: int


def _item(entry: dict[str, Any]) -> Item:
    """One entry of ``items.json``; raises TypeError if it lacks a field."""
    # Caches made before the folds of cross-validation told what is held out have a field for it.
    return Item(**{name: value for name, value in entry.items() if name != "part"})


class Cache:
    """The spectrograms, read as needed.

    Args:
        folder: written by ``prepare``.

    Raises:
        SystemExit: it is missing or was written by an older version.
    """

    def __init__(self, folder: Path) -> None:
        index = folder / "items.json"
        if not index.is_file():
            raise SystemExit(f"{index} is missing: run `python -m training prepare` first.")
        try:
            self.items = [_item(entry) for entry in json.loads(index.read_text("utf-8"))]
        except TypeError as error:
            raise SystemExit(
                f"{folder} is of an older version: remove it and run `python -m training prepare`."
            ) from error
        total = sum(item.frames for item in self.items)
        self.mels = np.memmap(folder / "mels.f16", np.float16, "r", shape=(total, MELS))

    def spectrogram(self, item: Item) -> NDArray[np.float16]:
        """``(frames, 64)`` in dB."""
        return self.mels[item.start : item.start + item.frames]


def seeded(seed: int, name: str) -> np.random.Generator:
    """A generator of its own for each sound, so that adding one changes no other."""
    return np.random.default_rng((seed, zlib.crc32(name.encode())))


def _sounds(config: Config, data: Path) -> Iterator[_Sound]:
    """What there is to do, in the order of the manifest and of the settings.

    Raises:
        SystemExit: the settings name a maker or a concept that is not known.
    """
    concepts = load_concepts()
    settings = config.prepare
    unknown = sorted((set(settings.synthetic) - set(MAKERS)) | (set(settings.rare) - set(concepts.index)))
    if unknown:
        raise SystemExit(
            f"[prepare] names sounds that are not known: {', '.join(unknown)}. Mend config.toml."
        )
    for recording in read_recordings(data, config.split):
        concept = concepts.of_recording(recording)
        if concept is None:
            continue
        item = Item(
            name=recording.file,
            copy="dry",
            concept=concept,
            label=recording.label,
            caption=recording.caption,
            source=recording.source_repo,
            licence=recording.licence,
            path=recording.source_path,
        )
        yield _Sound(item, "", settings.rare_copies if concept in settings.rare else settings.common_copies)
    for maker, count in settings.synthetic.items():
        for index in range(count):
            name = f"{maker}/{index}"
            item = Item(name, "dry", MAKERS[maker], SYNTHETIC, "", SYNTHETIC, _OWN_LICENCE, name)
            yield _Sound(item, maker, 0)


class _Workshop:
    """Makes spectrograms.

    Args:
        config: the settings.
        data: folder of the recordings.
        runs: holds the rooms.
    """

    def __init__(self, config: Config, data: Path, runs: Path) -> None:
        self._config, self._data = config, data
        self._rate = config.features.sample_rate
        self._rooms = _load_rooms(config, runs)
        self._log_mel = LogMel(self._rate, dtype=torch.float32)

    def _mel(self, samples: NDArray[np.float32]) -> NDArray[np.float16]:
        padded = np.pad(samples, (0, max(self._rate // 20 - len(samples), 0)))
        with torch.inference_mode():
            mel: torch.Tensor = self._log_mel(torch.from_numpy(padded)[None])[0]
        return np.asarray(mel.numpy(), np.float16)

    def _copy(
        self, samples: NDArray[np.float32], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], str]:
        return rerecord(samples, rng, self._rooms, self._rate, self._config.prepare)

    def make(self, sound: _Sound) -> Iterator[tuple[Item, NDArray[np.float16]]]:
        """The spectrograms of one sound.

        Raises:
            AudioError: the recording cannot be read; its name is in the message.
        """
        item, seed = sound.item, self._config.seed
        if sound.maker:
            rng = seeded(seed, item.name)
            samples = synthesis.maker(sound.maker)(rng, self._rate)
            copy = "dry"
            if rng.random() < _SYNTHETIC_COPIED:
                samples, copy = self._copy(samples, rng)
            yield replace(item, copy=copy), self._mel(samples)
            return
        try:
            samples = decode(self._data / item.name, self._rate)[: int(_MAX_SECONDS * self._rate)]
        except AudioError as error:
            raise AudioError(f"{item.name}: {error}") from error
        yield item, self._mel(samples)
        for number in range(sound.copies):
            copied, copy = self._copy(samples, seeded(seed + 1 + number, item.name))
            yield replace(item, copy=copy), self._mel(copied)


def _load_rooms(config: Config, runs: Path) -> Rooms:
    return load_rooms(runs / "rooms.npz", config.seed, config.prepare.rooms, config.features.sample_rate)


def _make_shard(config: Config, data: Path, runs: Path, sounds: list[_Sound], path: Path) -> None:
    """Make the spectrograms of some sounds, in their order, and keep them in ``path``; in any process."""
    torch.set_num_threads(1)
    workshop = _Workshop(config, data, runs)
    made = [entry for sound in sounds for entry in workshop.make(sound)]
    items = [asdict(replace(item, frames=len(mel))) for item, mel in made]
    # A file under its own name is a whole one, whatever interrupts this.
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as out:
        np.savez(out, mels=np.concatenate([mel for _, mel in made]), items=np.array(json.dumps(items)))
    unfinished.replace(path)


def _make_all(config: Config, data: Path, runs: Path, shards: list[tuple[list[_Sound], Path]]) -> None:
    """Make the shards that are not there yet.

    Raises:
        SystemExit: a recording cannot be read, or a process ended; the shards that are finished are kept.
    """
    _load_rooms(config, runs)
    missing = [(sounds, path) for sounds, path in shards if not path.is_file()]
    total = sum(len(sounds) for sounds, _ in shards)
    done = total - sum(len(sounds) for sounds, _ in missing)
    kept = "What is finished is kept: run the same command again to go on."
    bar = tqdm(desc="prepare", total=total, initial=done, unit=" sounds", mininterval=10)
    try:
        with bar:
            if config.prepare.processes == 1:
                for sounds, path in missing:
                    _make_shard(config, data, runs, sounds, path)
                    bar.update(len(sounds))
                return
            # Forked processes may hang on the locks of torch's threads.
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(config.prepare.processes, mp_context=context)
            try:
                waiting = {
                    pool.submit(_make_shard, config, data, runs, sounds, path): len(sounds)
                    for sounds, path in missing
                }
                for future in as_completed(waiting):
                    future.result()
                    bar.update(waiting[future])
            finally:
                # Shards that are being made are still finished.
                pool.shutdown(wait=True, cancel_futures=True)
    except AudioError as error:
        raise SystemExit(f"{error} Mend it or remove its row from MANIFEST.csv. {kept}") from error
    except BrokenProcessPool as error:
        raise SystemExit(f"A process was ended from outside, perhaps for lack of memory. {kept}") from error


def prepare(config: Config, data: Path, runs: Path) -> None:
    """Write ``items.json`` and ``mels.f16`` into the runs folder; what is there already is kept.

    The sounds are made in shards by several processes; the outcome is the same with any number of them, and
    after any interruption.

    Raises:
        SystemExit: there are no recordings, one cannot be read, or the settings are wrong.
    """
    folder = runs / "cache"
    if (folder / "items.json").is_file():
        print(f"{folder} is there already; remove it to make it anew")
        return
    sounds = list(_sounds(config, data))
    # Shards of other settings or recordings are of no use.
    facts = [config.seed, config.features.model_dump(), config.prepare.model_dump(exclude={"processes"})]
    digest = hashlib.sha256(json.dumps([facts, [asdict(sound) for sound in sounds]]).encode()).hexdigest()
    kept = folder / f"shards-{digest[:12]}"
    kept.mkdir(parents=True, exist_ok=True)
    size = config.prepare.shard
    shards = [
        (sounds[first : first + size], kept / f"{number:05}.npz")
        for number, first in enumerate(range(0, len(sounds), size))
    ]
    _make_all(config, data, runs, shards)
    items: list[Item] = []
    start = 0
    with (folder / "mels.f16").open("wb") as out:
        for _, path in shards:
            with np.load(path) as shard:
                shard["mels"].tofile(out)
                for entry in json.loads(str(shard["items"])):
                    items.append(Item(**{**entry, "start": start}))
                    start += items[-1].frames
    unfinished = folder / "items.part"
    unfinished.write_text(json.dumps([asdict(item) for item in items]), "utf-8")
    unfinished.replace(folder / "items.json")
    for stale in folder.glob("shards-*"):
        shutil.rmtree(stale)
    print(f"{len(items)} spectrograms, {start / 6000:.0f} minutes, in {folder}")
