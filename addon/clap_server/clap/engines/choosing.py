"""Finds the fastest engine on this machine that hears what float32 hears."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from clap_server.clap.checkpoint import first_line
from clap_server.clap.engines.checks import calibration_sounds, check_sounds, nearness
from clap_server.clap.engines.engine import EngineError, Source
from clap_server.clap.engines.kinds import AUTO, EAGER, KINDS
from clap_server.clap.engines.probing import TIMEOUT_S, probe
from clap_server.clap.engines.trials import Trial, TrialStore, device_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from clap_server.clap.engines.engine import Engine
    from clap_server.clap.engines.kinds import Kind
    from clap_server.clap.engines.tower import AudioTower

_LOGGER = logging.getLogger(__name__)

WORTH = 1.1
"""How much faster an engine has to be than one that comes before it in ``KINDS`` and is more exact."""


@dataclass(frozen=True)
class Subject:
    """The model for which an engine is sought.

    Attributes:
        checkpoint: its folder.
        identity: of its weights.
        device: as torch names it.
        sample_rate: in Hz.
        window_s: seconds of a window.
        frames: of a window's features.
        mels: of a window's features.
        threads: to compute with on a CPU.
        tower: gives its audio tower.
        features: of windows, ``(n, 1, frames, mels)``, on the device.
    """

    checkpoint: Path
    identity: str
    device: str
    sample_rate: int
    window_s: float
    frames: int
    mels: int
    threads: int
    tower: Callable[[], AudioTower]
    features: Callable[[Sequence[NDArray[np.float32]]], torch.Tensor]

    def source(self, folder: Path) -> Source:
        """What an engine is made from, when all that it exports lies in a folder."""
        return Source(self.tower, self.device, self.frames, self.mels, self.threads, folder)

    def build(self, kind: Kind, folder: Path) -> Engine:
        """Make an engine of what is there; exports nothing.

        Raises:
            EngineError: it cannot be had; says why.
        """
        try:
            return kind.build(self.source(folder))
        except Exception as error:  # its library raises whatever it raises
            raise EngineError(first_line(error)) from error


@dataclass(frozen=True)
class Choice:
    """The engine that was chosen, and why not the others.

    Attributes:
        engine: ready to use.
        trials: of all engines that came into question, the fastest first.
    """

    engine: Engine
    trials: tuple[Trial, ...]


class _Sounds:
    """What trials need; computed when the first one is made."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    @cached_property
    def checks(self) -> torch.Tensor:
        return self._subject.features(check_sounds(self._subject.sample_rate, self._subject.window_s))

    @cached_property
    def calibration(self) -> torch.Tensor:
        return self._subject.features(calibration_sounds(self._subject.sample_rate, self._subject.window_s))

    @cached_property
    def expected(self) -> NDArray[np.float32]:
        """What float32 makes of the checks; in this process, so that no trial judges itself."""
        return self._subject.build(EAGER, Path()).embed(self.checks)


def choose(
    subject: Subject,
    wanted: str,
    cache_dir: Path,
    tell: Callable[[str], None],
    *,
    kinds: Sequence[Kind] = KINDS,
    timeout_s: float = TIMEOUT_S,
) -> Choice:
    """Choose the engine. Blocks: for minutes when a model comes to a machine, for a moment later.

    What cannot be used is told in the log; in the worst case PyTorch computes in float32 as ever.

    Args:
        subject: the model.
        wanted: ``auto``, or the name of the engine to use if it can be used (see ``kinds.check_name``).
        cache_dir: keeps trials and exported graphs.
        tell: called with a line of text that says how far it is. What it raises ends the choice.
        kinds: the engines that there are; the first is the measure.
        timeout_s: for the trial of one.
    """
    return _Choosing(subject, wanted, cache_dir, tell, kinds, timeout_s).choose()


class _Choosing:
    """One run of ``choose``, which see."""

    def __init__(
        self,
        subject: Subject,
        wanted: str,
        cache_dir: Path,
        tell: Callable[[str], None],
        kinds: Sequence[Kind],
        timeout_s: float,
    ) -> None:
        self._subject = subject
        self._kinds = [kind for kind in kinds if wanted in {AUTO, kind.name}]
        self._tell = tell
        self._timeout_s = timeout_s
        self._store = TrialStore(
            cache_dir, subject.identity, subject.device, device_name(subject.device), subject.threads
        )
        self._sounds = _Sounds(subject)
        self._loud = wanted != AUTO
        self._trials: dict[str, Trial] = {}

    def choose(self) -> Choice:
        candidates = []
        for kind in self._kinds:
            problem = kind.missing(self._subject.device)
            if problem is None:
                candidates.append(kind)
                continue
            self._trials[kind.name] = Trial(kind.name, problem=problem)
            if self._loud:
                _refused(kind.name, problem)
        if candidates != [EAGER]:
            for kind in candidates:
                self._learn(kind, graphs=False)
        return self._best([kind for kind in candidates if self._usable(kind)], candidates)

    def _usable(self, kind: Kind) -> bool:
        return kind.name in self._trials and self._trials[kind.name].problem is None

    def _learn(self, kind: Kind, *, graphs: bool) -> None:
        """Have a trial of an engine: one that is known, or a new one."""
        trial = self._store.read(kind, graphs=graphs)
        if trial is None:
            trial = self._try(kind)
            try:
                self._store.write(kind, trial)
            except OSError as error:
                _LOGGER.warning("What is known of the engine %s cannot be kept: %s", kind.name, error)
        self._trials[kind.name] = trial
        if trial.problem is not None:
            _refused(kind.name, trial.problem)

    def _try(self, kind: Kind) -> Trial:
        self._tell(f"Trying the engine {kind.name}")
        try:
            ms, found = probe(
                kind,
                checkpoint=self._subject.checkpoint,
                device=self._subject.device,
                threads=self._subject.threads,
                folder=self._store.emptied(kind),
                checks=self._sounds.checks,
                calibration=self._sounds.calibration if kind.dtype == "int8" else self._sounds.checks[:0],
                tell=self._tell,
                timeout_s=self._timeout_s,
            )
        except EngineError as error:
            return Trial(kind.name, problem=str(error))
        except OSError as error:
            return Trial(kind.name, problem=f"its trial cannot be stored ({error.strerror or error})")
        near = nearness(found, self._sounds.expected)
        return Trial(kind.name, ms, near.cosine, near.deviation, near.problem)

    def _best(self, usable: list[Kind], candidates: Sequence[Kind]) -> Choice:
        """Build the best engine that can be built."""
        while usable:
            kind = self._fastest(usable)
            engine = self._built(kind)
            if engine is None:
                usable.remove(kind)
                continue
            self._tell_choice(kind)
            for other in candidates:
                if other is not kind:
                    self._store.drop_graphs(other)
            return Choice(engine, self._sorted())
        return Choice(self._subject.build(EAGER, Path()), self._sorted())

    def _fastest(self, usable: Sequence[Kind]) -> Kind:
        best = usable[0]
        for kind in usable[1:]:
            if WORTH * self._ms(kind) < self._ms(best):
                best = kind
        return best

    def _ms(self, kind: Kind) -> float:
        return self._trials[kind.name].ms_a_window or math.inf

    def _built(self, kind: Kind) -> Engine | None:
        if self._store.read(kind, graphs=True) is None:
            # It lost before, and what it exported was dropped; or that is damaged.
            self._learn(kind, graphs=True)
            if not self._usable(kind):
                return None
        try:
            return self._subject.build(kind, self._store.folder(kind))
        except EngineError as error:
            problem = f"it ran in its trial and does not now ({error})"
        self._trials[kind.name] = replace(self._trials[kind.name], problem=problem)
        _refused(kind.name, problem)
        return None

    def _sorted(self) -> tuple[Trial, ...]:
        return tuple(
            sorted(self._trials.values(), key=lambda t: (t.problem is not None, t.ms_a_window or math.inf))
        )

    def _tell_choice(self, kind: Kind) -> None:
        figures = [
            f"{trial.engine} {trial.ms_a_window:.1f} ms" for trial in self._sorted() if trial.ms_a_window
        ]
        _LOGGER.info("The engine %s is used; a window takes %s", kind.name, ", ".join(figures))


def _refused(name: str, problem: str) -> None:
    _LOGGER.warning("The engine %s is not used: %s", name, problem)
