"""Windows of sound as a microphone hears them, mixed from samples, each with what the teacher hears in it.

Where spectrograms are mixed (``mixing``), nothing but the recording's own label is known of a window. Here
the mixture is made of samples, so that the teacher can listen to it, and it needs no labels: everyday sound
teaches as well. Rooms, the microphone's timbre, its noise and its sampling rate are put on anew each time.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from scipy import fft
from scipy.signal import oaconvolve

from clap_server.audio.decode import decode
from clap_server.clap.features import LogMel
from clap_server.errors import AudioError
from training import synthesis
from training.concepts import OTHER, load_concepts
from training.data import ROOM_RESPONSE, heard_backgrounds, read_recordings
from training.mixing import HEARD_DB, IMPULSIVE, LOUD_DB
from training.prepare import MAKERS, seeded
from training.rooms import AHEAD, load_rooms
from training.teacher import MODEL, Teacher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from training.config import Config

# The shares of kinds of windows; the rest are two recordings of no event, one over the other.
_EVENT_SHARE, _COUNTEREXAMPLE_SHARE, _BACKGROUND_SHARE = 0.45, 0.27, 0.13
_OVER_BACKGROUND_SHARE = 0.8
_SNR_DB = (-5.0, 25.0)
_ROOM_SHARE, _BACKGROUND_ROOM_SHARE = 0.5, 0.2
_TEMPO_SHARE, _TEMPO = 0.35, (0.85, 1.18)
_LONGEST_S = 60.0
# An event in a background is told by the teacher from the mixture and from one in which the background is so
# much weaker: it hears clean what the model has to hear in noise.
_CLEANER_DB, _CLEANER_BELOW_DB, _CLEANER_WEIGHT = 10.0, 15.0, 0.5
_FLOOR_SHARE, _FLOOR_DB = 0.6, (20.0, 60.0)
_CUT_HZ, _CUT_SHARES = (24_000, 11_000, 8_000, 4_000), (0.5, 0.1, 0.3, 0.1)
_CUT_DB = 70.0
_CLIPPED_SHARE = 0.06
_PEAK_DB = (-30.0, 0.0)
# Of a blow the first parts that are so near to its loudest are its onset.
_ONSET_DB = 6.0
_KNOTS = 9
_LEVEL_BLOCK_S = 0.01
_TOLD_EVERY_S = 10.0
# Of how windows are made; what another version made is not used.
_VERSION = 2


@dataclass(frozen=True, slots=True)
class Source:
    """One recording, or one sound to synthesise.

    Attributes:
        name: of its file, or maker and number.
        folder: of the file; None if it is synthesised.
        concept: what it shows.
        caption: words for it; may be empty.
    """

    name: str
    folder: Path | None
    concept: str
    caption: str


@dataclass(frozen=True, slots=True)
class Shard:
    """``n`` windows.

    Attributes:
        mels: ``(n, frames, 64)`` in dB.
        logits: ``(n, classes)`` of the teacher.
        targets: ``(n, concepts)``: 1 yes, 0 no, -1 unknown, by what the mixture is made of.
        concepts: ``(n,)`` number of the foreground's concept; -1 if there is none.
        captions: a text for each window; empty if there is none.
    """

    mels: NDArray[np.float16]
    logits: NDArray[np.float16]
    targets: NDArray[np.int8]
    concepts: NDArray[np.int16]
    captions: list[str]


def sources(config: Config, data: Path, backgrounds: Path, held_out: int | None) -> list[Source]:
    """What scenes are made of: recordings, everyday sound and synthesised sounds.

    Args:
        config: says what is never trained on, and how much is synthesised.
        data: the recordings.
        backgrounds: everyday sound, of which half is kept for the bank.
        held_out: fold of cross-validation whose sources are left out; None to use all.

    Raises:
        SystemExit: a manifest is missing or lacks a column.
    """
    concepts = load_concepts()
    recordings = read_recordings(data, config.split)
    away = {row.source_repo for row in recordings if held_out is not None and row.fold == held_out}
    rows = [(data, row) for row in recordings if row.fold is not None and row.fold != held_out]
    rows += [
        (backgrounds, row)
        for row in heard_backgrounds(read_recordings(backgrounds, config.split), config.split)
        if row.source_repo not in away
    ]
    found = [
        Source(row.file, folder, concept, row.caption)
        for folder, row in rows
        if (concept := concepts.of_recording(row)) is not None
    ]
    for maker, count in config.prepare.synthetic.items():
        kept = min(count, config.distil.synthetic)
        found += [Source(f"{maker}/{number}", None, MAKERS[maker], "") for number in range(kept)]
    return found


@dataclass(frozen=True, slots=True)
class _Layer:
    samples: NDArray[np.float32]
    source: Source


class Scenes:
    """Makes windows; each depends on the seed and its number alone.

    Args:
        config: the settings.
        found: of ``sources``.
        runs: holds the simulated rooms.
        backgrounds: holds the measured ones.
        teacher: folder of the teacher.
    """

    def __init__(
        self, config: Config, found: list[Source], runs: Path, backgrounds: Path, teacher: Path
    ) -> None:
        self._config, self._rate = config, config.features.sample_rate
        self._count = round(config.features.window_s * self._rate)
        self._teacher = Teacher(teacher)
        self._log_mel = LogMel(self._rate, dtype=torch.float32)
        concepts = load_concepts()
        self._index, self._all = concepts.index, concepts.all
        self._rows = np.array([concepts.targets(concept.name) for concept in concepts.all], np.float32)
        self._samples: dict[tuple[Path | None, str], NDArray[np.int16]] = {}
        events = set(config.distil.shares)
        by_concept: dict[str, tuple[list[Source], list[Source]]] = {}
        for source in found:
            recorded, made = by_concept.setdefault(source.concept, ([], []))
            (made if source.folder is None else recorded).append(source)
        self._events = [
            (lists, config.distil.shares[name]) for name, lists in by_concept.items() if name in events
        ]
        # The root keeps a concept of one recording from being heard as often as one of a hundred.
        self._others = [
            (lists, len(lists[0]) ** 0.5 + 1) for name, lists in by_concept.items() if name not in events
        ]
        self._everyday = [
            source for source in found if source.folder is not None and source.concept not in events
        ]
        simulated = load_rooms(
            runs / "rooms.npz", config.seed, config.prepare.rooms, config.features.sample_rate
        )
        self._rooms = list(simulated.responses)
        self._measured = self._measured_rooms(backgrounds)

    def _measured_rooms(self, backgrounds: Path) -> list[NDArray[np.float32]]:
        rooms = []
        for row in read_recordings(backgrounds, self._config.split):
            if row.label == ROOM_RESPONSE and row.fold is not None:
                response = decode(backgrounds / row.file, self._rate)
                peak = int(np.argmax(np.abs(response)))
                response = response[max(peak - AHEAD, 0) :][: self._rate]
                response = np.pad(response, (max(AHEAD - peak, 0), 0))
                rooms.append(response / max(float(np.abs(response).max()), 1e-9))
        return rooms

    def _sound(self, source: Source) -> NDArray[np.float32]:
        kept = self._samples.get((source.folder, source.name))
        if kept is None:
            if source.folder is None:
                maker = source.name.partition("/")[0]
                samples = synthesis.maker(maker)(seeded(self._config.seed, source.name), self._rate)
            else:
                try:
                    samples = decode(source.folder / source.name, self._rate)
                except AudioError as error:
                    raise AudioError(f"{source.name}: {error}") from error
                samples = samples[: int(_LONGEST_S * self._rate)]
            peak = max(float(np.max(np.abs(samples), initial=0.0)), 1e-6)
            kept = np.asarray(np.rint(samples / peak * 32000), np.int16)
            self._samples[source.folder, source.name] = kept
        return kept.astype(np.float32) / np.float32(32000)

    def _pick(
        self, rng: np.random.Generator, groups: list[tuple[tuple[list[Source], list[Source]], float]]
    ) -> Source:
        weights = np.array([weight for _, weight in groups])
        recorded, made = groups[int(rng.choice(len(groups), p=weights / weights.sum()))][0]
        share = self._config.distil.synthetic_share if recorded else 1.0
        chosen = made if made and rng.random() < share else recorded
        return chosen[int(rng.integers(len(chosen)))]

    def _levels(self, samples: NDArray[np.float32]) -> NDArray[np.float64]:
        """Power of each 10 ms."""
        block = int(_LEVEL_BLOCK_S * self._rate)
        whole = np.pad(samples, (0, -len(samples) % block)).reshape(-1, block)
        return np.asarray((whole.astype(np.float64) ** 2).mean(1))

    def _cut(self, source: Source, rng: np.random.Generator) -> NDArray[np.float32]:
        """A window that holds the sound's onset, or a loud part of it, at any place."""
        samples = self._sound(source)
        if rng.random() < _TEMPO_SHARE:
            tempo = rng.uniform(*_TEMPO)
            places = np.arange(0, len(samples) - 1, tempo)
            samples = np.interp(places, np.arange(len(samples)), samples).astype(np.float32)
        levels = 10 * np.log10(self._levels(samples) + 1e-12)
        impulsive = source.concept in IMPULSIVE
        loud = np.flatnonzero(levels >= levels.max() - (_ONSET_DB if impulsive else LOUD_DB))
        if impulsive:
            loud = loud[:3]
        anchor = int(loud[int(rng.integers(len(loud)))])
        block = int(_LEVEL_BLOCK_S * self._rate)
        # At least 120 ms of it are heard.
        place = int(rng.integers(0, self._count - 12 * block))
        first = anchor * block - place
        before = min(max(first, 0), self._rate)
        return self._played(samples, first, before, rng, _ROOM_SHARE)

    def _played(
        self,
        samples: NDArray[np.float32],
        first: int,
        before: int,
        rng: np.random.Generator,
        share: float,
    ) -> NDArray[np.float32]:
        """The window from ``first``, often as in a room, with the late sound of what was ``before``."""
        begin, end = first - before, first + self._count
        heard = samples[max(begin, 0) : max(end, 0)]
        heard = np.pad(heard, (max(-begin, 0), 0))
        heard = np.pad(heard, (0, self._count + before - len(heard)))
        if rng.random() < share:
            measured = self._measured and rng.random() < 0.3
            rooms = self._measured if measured else self._rooms
            response = rooms[int(rng.integers(len(rooms)))].astype(np.float32)
            heard = oaconvolve(heard, response)[AHEAD : AHEAD + len(heard)]
        return np.asarray(heard[before:], np.float32)

    def _anywhere(self, rng: np.random.Generator) -> _Layer:
        """A window of everyday sound from any place; what is shorter is repeated."""
        source = self._everyday[int(rng.integers(len(self._everyday)))]
        samples = self._sound(source)
        first = int(rng.integers(0, max(len(samples) - self._count, 0) + 1))
        if len(samples) < self._count:
            samples = np.resize(samples, self._count)
        return _Layer(self._played(samples, first, 0, rng, _BACKGROUND_ROOM_SHARE), source)

    def _loudest(self, samples: NDArray[np.float32]) -> float:
        """Power of the loudest 100 ms."""
        return float(np.convolve(self._levels(samples), np.full(10, 0.1), "valid").max())

    def _floor(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Noise of some colour with a power of 1."""
        spectrum = fft.rfft(rng.standard_normal(self._count, np.float32))
        slope = rng.uniform(-0.6, 0.3)
        spectrum *= (np.maximum(np.arange(len(spectrum)), 20.0) ** slope).astype(np.float32)
        noise = fft.irfft(spectrum, self._count)
        return np.asarray(noise / np.sqrt((noise**2).mean()), np.float32)

    def _by_device(self, samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """A microphone's frequency response, sampling rate and level."""
        hertz = fft.rfftfreq(self._count, 1 / self._rate)
        knots = np.geomspace(60, self._rate / 2, _KNOTS)
        decibel = np.interp(hertz, knots, 4.0 * rng.standard_normal(_KNOTS))
        if rng.random() < 0.3:
            corner = rng.uniform(60, 500)
            decibel -= 10 * np.log10(1 + (corner / np.maximum(hertz, 1.0)) ** 2)
        if rng.random() < 0.2:
            decibel -= 10 * np.log10(1 + (hertz / rng.uniform(2_000, 8_000)) ** 2)
        cut = _CUT_HZ[int(rng.choice(len(_CUT_HZ), p=_CUT_SHARES))]
        decibel -= np.clip((hertz - 0.94 * cut) / (0.06 * cut), 0, 1) * _CUT_DB
        spectrum = fft.rfft(samples) * (10 ** (decibel / 20)).astype(np.float32)
        heard = fft.irfft(spectrum, self._count).astype(np.float32)
        heard /= max(float(np.abs(heard).max()), 1e-9)
        if rng.random() < _CLIPPED_SHARE:
            limit = np.float32(rng.uniform(0.2, 0.8))
            heard = heard.clip(-limit, limit) / limit
        return np.asarray(heard * 10 ** (rng.uniform(*_PEAK_DB) / 20), np.float32)

    def _add(self, targets: NDArray[np.float32], source: Source, snr_db: float) -> None:
        """What a sound beneath says: of a faint one, nothing."""
        if source.concept == OTHER:
            return
        row = self._rows[self._index[source.concept]]
        targets[(row == 1) & (targets != 1)] = 1.0 if snr_db < HEARD_DB else -1.0
        targets[(row == -1) & (targets == 0)] = -1.0

    def make(
        self, number: int
    ) -> tuple[NDArray[np.float16], NDArray[np.float16], NDArray[np.int8], int, str]:
        """One window: mels, logits, targets, concept and caption, as in ``Shard``."""
        rng = np.random.default_rng((self._config.distil.seed, 7, number))
        kind = rng.random()
        under: _Layer | None = None
        if kind < _EVENT_SHARE + _COUNTEREXAMPLE_SHARE:
            source = self._pick(rng, self._events if kind < _EVENT_SHARE else self._others)
            front = _Layer(self._cut(source, rng), source)
            if rng.random() < _OVER_BACKGROUND_SHARE:
                under = self._anywhere(rng)
        else:
            front = self._anywhere(rng)
            if kind >= _EVENT_SHARE + _COUNTEREXAMPLE_SHARE + _BACKGROUND_SHARE:
                under = self._anywhere(rng)
        snr_db = float(rng.uniform(*_SNR_DB))
        concept = self._index[front.source.concept]
        targets = self._rows[concept].copy()
        level = max(self._loudest(front.samples), 1e-9)
        mixture = cleaner = front.samples
        if rng.random() < _FLOOR_SHARE:
            noise = self._floor(rng) * np.float32((level * 10 ** (-rng.uniform(*_FLOOR_DB) / 10)) ** 0.5)
            mixture = cleaner = front.samples + noise
        if under is not None:
            gain = level / max(float((under.samples**2).mean()), 1e-9) * 10 ** (-snr_db / 10)
            mixture = mixture + under.samples * np.float32(gain**0.5)
            cleaner = cleaner + under.samples * np.float32((gain * 10 ** (-_CLEANER_DB / 10)) ** 0.5)
            self._add(targets, under.source, snr_db)
        logits = self._logits(mixture)
        event = kind < _EVENT_SHARE + _COUNTEREXAMPLE_SHARE
        if under is not None and event and snr_db < _CLEANER_BELOW_DB:
            logits += _CLEANER_WEIGHT * (self._logits(cleaner) - logits)
        heard = self._by_device(mixture, rng)
        with torch.inference_mode():
            mel: torch.Tensor = self._log_mel(torch.from_numpy(heard)[None])[0]
        return (
            np.asarray(mel.numpy(), np.float16),
            logits.astype(np.float16),
            targets.astype(np.int8),
            concept,
            front.source.caption,
        )

    def _logits(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        level = np.float32(0.5 / max(float(np.abs(samples).max()), 1e-9))
        return self._teacher.logits(samples * level, self._rate)


# What a process of the pool makes windows with: the sounds that it has decoded stay with it.
_OWN: dict[str, Scenes] = {}


def _start(config: Config, found: list[Source], runs: Path, backgrounds: Path, teacher: Path) -> None:
    torch.set_num_threads(1)
    # Ctrl-C is for the training, which then stops after its step; these are ended with the pool.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _OWN["scenes"] = Scenes(config, found, runs, backgrounds, teacher)


def _make(numbers: range, path: Path) -> None:
    """Make the windows of these numbers and keep them in ``path``."""
    mels, logits, targets, concepts, captions = zip(
        *(_OWN["scenes"].make(number) for number in numbers), strict=True
    )
    # A file under its own name is a whole one, whatever interrupts this, and whoever makes it as well.
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    with unfinished.open("wb") as out:
        np.savez(
            out,
            mels=np.stack(mels),
            logits=np.stack(logits),
            targets=np.stack(targets),
            concepts=np.array(concepts, np.int16),
            captions=np.array(json.dumps(captions)),
        )
    unfinished.replace(path)


class Stock:
    """The windows of a training in their order; several processes make them ahead of it.

    What is made is kept, 26 kB a window: the same settings, teacher and names of recordings find it again.
    Use it as a context manager.

    Args:
        config: the settings.
        data: recordings.
        backgrounds: everyday sound.
        teacher: folder of the teacher.
        runs: keeps rooms and windows.
        held_out: fold of cross-validation that is left out; None to use all.
        count: of windows that are needed in all.
        log: called with a line of progress while it waits for windows.

    Raises:
        SystemExit: the teacher, or a manifest, is missing.
    """

    def __init__(
        self,
        config: Config,
        data: Path,
        backgrounds: Path,
        teacher: Path,
        runs: Path,
        held_out: int | None,
        count: int,
        log: Callable[[str], None],
    ) -> None:
        self._log = log
        Teacher(teacher)  # says at once what it lacks
        found = sources(config, data, backgrounds, held_out)
        load_rooms(runs / "rooms.npz", config.seed, config.prepare.rooms, config.features.sample_rate)
        deciding = config.distil.model_dump(
            include={"seed", "shard", "synthetic", "synthetic_share", "shares"}
        )
        names = [(source.name, source.concept, source.caption) for source in found]
        heard = hashlib.sha256((teacher / MODEL).read_bytes()).hexdigest()
        rooms = config.prepare.rooms
        facts = [_VERSION, config.seed, config.features.model_dump(), rooms, deciding, names, heard]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        self._folder = runs / f"scenes-{digest[:12]}"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._arguments = (config, found, runs, backgrounds, teacher)
        # The training itself needs a core; a GPU is fed by all of them.
        self._processes = config.distil.processes or max((os.cpu_count() or 1) - 1, 1)
        self._size = config.distil.shard
        self._shards = -(-count // self._size)
        self._pool: ProcessPoolExecutor | None = None
        self._waiting: dict[int, Future[None]] = {}
        self._read: dict[int, Shard] = {}

    def __enter__(self) -> Self:
        missing = [number for number in range(self._shards) if not self._path(number).is_file()]
        if missing:
            # Forked processes may hang on the locks of torch's threads.
            self._pool = ProcessPoolExecutor(
                min(self._processes, len(missing)),
                multiprocessing.get_context("spawn"),
                _start,
                self._arguments,
            )
            self._waiting = {
                number: self._pool.submit(
                    _make, range(number * self._size, (number + 1) * self._size), self._path(number)
                )
                for number in missing
            }
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:05}.npz"

    def _shard(self, number: int) -> Shard:
        kept = self._read.get(number)
        if kept is not None:
            return kept
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            try:
                self._wait(waiting)
            except AudioError as error:
                raise SystemExit(f"{error} Mend it or remove its row from MANIFEST.csv.") from error
            except BrokenProcessPool as error:
                raise SystemExit(
                    "A process was ended from outside, perhaps for lack of memory. What is finished is"
                    " kept: run the same command again to go on."
                ) from error
        with np.load(self._path(number)) as content:
            captions: list[str] = json.loads(str(content["captions"]))
            kept = Shard(
                content["mels"], content["logits"], content["targets"], content["concepts"], captions
            )
        self._read[number] = kept
        return kept

    def _wait(self, waiting: Future[None]) -> None:
        while True:
            try:
                return waiting.result(_TOLD_EVERY_S)
            except TimeoutError:
                made = self._shards - sum(not future.done() for future in self._waiting.values()) - 1
                self._log(
                    f"waiting for windows to be mixed: {made * self._size} of {self._shards * self._size}"
                )

    def take(self, numbers: NDArray[np.intp]) -> Shard:
        """The windows of these numbers, for which it waits."""
        of = [(self._shard(int(number) // self._size), int(number) % self._size) for number in numbers]
        return Shard(
            np.stack([shard.mels[row] for shard, row in of]),
            np.stack([shard.logits[row] for shard, row in of]),
            np.stack([shard.targets[row] for shard, row in of]),
            np.array([shard.concepts[row] for shard, row in of]),
            [shard.captions[row] for shard, row in of],
        )
