"""Makes a bank of everyday sound of a user's own recordings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clap_evaluation.reading import read_blocks
from clap_evaluation.scored import ScoredRecording, score
from clap_server.clap.everyday import Piece
from clap_server.detection.everyday.evidence import maxima
from clap_server.detection.everyday.making import HOP_S, BankMaker
from clap_server.detection.everyday.preparing import model_key
from clap_server.detection.everyday.scale import BLOCK_S, LEAST_BLOCKS
from clap_server.detection.temporal import TOLERANCE_S
from clap_server.errors import AudioError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from clap_evaluation.manifest import Recording
    from clap_server.clap.everyday import EverydayBank
    from clap_server.clap.model import ClapModel
    from clap_server.detection.front import Heard
    from clap_server.detection.labels import Label
    from clap_server.detection.scoring import LabelScorer

# Who writes one of these beside a recording has not said that the others are absent.
_OVERLAPPING = (
    frozenset({"alarm", "smoke_alarm", "carbon_monoxide_alarm", "siren"}),
    frozenset({"fighting_shouting", "scream", "speech"}),
    frozenset({"laughter", "speech"}),
    frozenset({"car_horn", "vehicle"}),
)


@dataclass(frozen=True, slots=True)
class OwnSound:
    """What came out of a user's recordings.

    Attributes:
        bank: all that is above the gate, the recordings in their order.
        results: the recordings, with margins in the place of scores.
        problems: rows that could not be used, and why.
    """

    bank: EverydayBank
    results: tuple[ScoredRecording, ...]
    problems: tuple[str, ...]


class _Margins:
    """What scores recordings by margins, which any scale can turn into scores later."""

    def __init__(self, scorer: LabelScorer) -> None:
        self._scorer = scorer
        self.label_ids = scorer.label_ids

    def scores(self, audio_embeddings: NDArray[np.float32], /) -> NDArray[np.float32]:
        return self._scorer.margins(audio_embeddings).astype(np.float32)


def hear_own(
    model: ClapModel,
    scorer: LabelScorer,
    recordings: Sequence[Recording],
    labels: Mapping[str, Label],
    *,
    sources: str,
    progress: Callable[[], None] | None = None,
) -> OwnSound:
    """Hear recordings as live sound and keep what is above the gate.

    A recording is no everyday sound for the labels that its rows name, nor for those of overlapping meaning;
    for all others it is.

    Args:
        model: embeds.
        scorer: of the same model and of labels that have prompts.
        recordings: of the manifest.
        labels: by id, all that the manifest names.
        sources: what they are, in words.
        progress: called after each recording.

    Raises:
        ConfigurationError: there is too little sound above the gate; the message says how much is needed.
        ModelError: the model is not usable.
    """
    maker = BankMaker(model, hop_s=HOP_S)
    results: list[ScoredRecording] = []
    problems: list[str] = []
    margins = _Margins(scorer)
    for recording in recordings:
        try:
            result, heard = _hear(model, margins, recording)
        except AudioError as error:
            problems.append(f"Row {recording.row}: {recording.name}: {error}")
        else:
            results.append(result)
            maker.take(_within(heard, result.duration_s), piece(recording, labels))
        if progress is not None:
            progress()
    bank = maker.bank(model_key(model), sources)
    _check_enough(bank, problems)
    return OwnSound(bank, tuple(results), tuple(problems))


def _hear(
    model: ClapModel, margins: _Margins, recording: Recording
) -> tuple[ScoredRecording, list[tuple[list[Heard], NDArray[np.float32]]]]:
    """Score a recording, and keep its windows with their embeddings."""
    heard: list[tuple[list[Heard], NDArray[np.float32]]] = []
    result = score(
        model,
        margins,
        read_blocks(recording.path, model.sample_rate),
        recording.occurrences,
        name=recording.name,
        hop_s=HOP_S,
        on_heard=lambda batch, embeddings: heard.append((batch, embeddings)),
    )
    return result, heard


def piece(recording: Recording, labels: Mapping[str, Label]) -> Piece:
    """What a recording of a manifest may hold.

    Args:
        recording: of the manifest.
        labels: by id, all that it names.
    """
    held = recording.label_ids
    overlapping = frozenset().union(*(group for group in _OVERLAPPING if group & held))
    names = tuple(label.names["en"].lower() for label_id, label in labels.items() if label_id in held)
    return Piece(held | overlapping, names)


def _within(
    heard: Sequence[tuple[list[Heard], NDArray[np.float32]]], duration_s: float
) -> Iterator[tuple[list[Heard], NDArray[np.float32]]]:
    """Leave out the windows that go on after the end of a recording, which a bank does not have."""
    for batch, embeddings in heard:
        inside = [each.window.end_s <= duration_s + TOLERANCE_S for each in batch]
        yield [each for each, is_inside in zip(batch, inside, strict=True) if is_inside], embeddings[inside]


def _check_enough(bank: EverydayBank, problems: Sequence[str]) -> None:
    blocks = len(maxima(np.zeros(len(bank.ends_s)), bank.ends_s, bank.recordings, block_s=BLOCK_S))
    if blocks < LEAST_BLOCKS:
        why = f" {problems[0]}" if problems else ""
        raise ConfigurationError(
            f"The recordings have {blocks * BLOCK_S / 60:.0f} minutes of everyday sound above the gate, and "
            f"{LEAST_BLOCKS * BLOCK_S / 60:.0f} are needed: record some evenings in the room, and name the "
            f"recordings in the manifest as negative.{why}"
        )
