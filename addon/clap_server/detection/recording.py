"""Hears whole recordings as if they were live, faster than real time."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clap_server.detection.front import Front, Heard
from clap_server.detection.gate import NoiseGate
from clap_server.detection.patterns import DecodedPattern
from clap_server.detection.windows import PIECE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from clap_server.clap.model import ClapModel
    from clap_server.detection.detector import Detection, Detector
    from clap_server.detection.scoring import LabelScorer
    from clap_server.detection.windows import Window

_WINDOWS_AT_ONCE = 16


def hear(
    model: ClapModel,
    blocks: Iterable[NDArray[np.float32]],
    *,
    hop_s: float,
    reporting: bool = False,
    tail_s: float = 0.0,
    on_pattern: Callable[[DecodedPattern], None] | None = None,
    denoise: bool = False,
) -> Iterator[tuple[list[Heard], NDArray[np.float32]]]:
    """Cut a recording into the windows of live sound, with one more up to its end, and embed them all.

    Only some seconds of it are held in memory. Blocks.

    Args:
        model: embeds.
        blocks: each ``(n,)`` mono at the model's rate.
        hop_s: seconds between windows.
        reporting: whether the gate is told all the time that an event is going on.
        tail_s: see ``Front.finish``.
        on_pattern: called with each pattern that is decoded or stops.
        denoise: see ``Front``.

    Yields:
        Some windows, with what the gate says of each, and their embeddings ``(windows, dimension)``; nothing
        if there are no samples.
    """
    for batch, samples in cut(
        model,
        blocks,
        hop_s=hop_s,
        reporting=reporting,
        tail_s=tail_s,
        on_pattern=on_pattern,
        denoise=denoise,
    ):
        yield batch, model.embed_audio(samples)


def cut(
    model: ClapModel,
    blocks: Iterable[NDArray[np.float32]],
    *,
    hop_s: float,
    reporting: bool = False,
    tail_s: float = 0.0,
    on_pattern: Callable[[DecodedPattern], None] | None = None,
    denoise: bool = False,
) -> Iterator[tuple[list[Heard], list[NDArray[np.float32]]]]:
    """As ``hear``, with the sound of the windows in place of their embeddings."""
    front = Front(model.sample_rate, window_s=model.window_s, hop_s=hop_s, denoise=denoise)
    batch: list[Heard] = []
    samples: list[NDArray[np.float32]] = []
    for heard in _windows(front, blocks, reporting=reporting, tail_s=tail_s):
        if isinstance(heard, DecodedPattern):
            if on_pattern is not None:
                on_pattern(heard)
            continue
        batch.append(heard)
        samples.append(front.samples(heard.window))
        if len(batch) == _WINDOWS_AT_ONCE:
            yield batch, samples
            batch, samples = [], []
    if batch:
        yield batch, samples


def hear_wanted(
    model: ClapModel,
    scorer: LabelScorer,
    blocks: Iterable[NDArray[np.float32]],
    detector: Detector,
    *,
    hop_s: float,
    on_pattern: Callable[[DecodedPattern], None],
) -> Iterator[tuple[list[Window], NDArray[np.float32], list[bool]]]:
    """Score a recording as live sound is scored: no window that the gate keeps out is embedded.

    Only until the first one is admitted all are, so that there are scores if none ever is.

    Args:
        model: embeds.
        scorer: of the same model.
        blocks: each ``(n,)`` mono at the model's rate.
        detector: has heard nothing yet.
        hop_s: seconds between windows.
        on_pattern: called with each pattern that is decoded or stops.

    Yields:
        Some windows; their scores ``(windows, labels)``, 0 where not embedded; whether each is admitted.
    """
    gate = NoiseGate()
    any_admitted = False
    waiting: deque[DecodedPattern] = deque()

    def decoded(pattern: DecodedPattern) -> None:
        waiting.append(pattern)
        on_pattern(pattern)

    for batch, samples in cut(model, blocks, hop_s=hop_s, on_pattern=decoded):
        table = np.zeros((len(batch), len(scorer.label_ids)), np.float32)
        missing = set(range(len(batch)))

        def embed(
            numbers: list[int],
            *,
            samples: list[NDArray[np.float32]] = samples,
            table: NDArray[np.float32] = table,
            missing: set[int] = missing,
        ) -> None:
            if numbers:
                table[numbers] = scorer.scores(model.embed_audio([samples[number] for number in numbers]))
                missing.difference_update(numbers)

        # Until an event goes on, both gates say the same.
        any_admitted = any_admitted or any(heard.admitted for heard in batch)
        embed([number for number, heard in enumerate(batch) if heard.admitted or not any_admitted])
        admitted = []
        for number, (window, _) in enumerate(batch):
            while waiting and waiting[0].known_s <= window.end_s:
                detector.take_pattern(waiting.popleft())
            is_open = gate.admits(window, reporting=detector.reporting)
            if is_open and number in missing:
                # What is being reported goes on quietly: the windows that follow will be wanted as well.
                embed([later for later in sorted(missing) if later >= number])
            row = dict(zip(scorer.label_ids, map(float, table[number]), strict=True))
            detector.update(window, row if is_open else {})
            admitted.append(is_open)
        yield [window for window, _ in batch], table, admitted


def _windows(
    front: Front, blocks: Iterable[NDArray[np.float32]], *, reporting: bool, tail_s: float
) -> Iterator[Heard | DecodedPattern]:
    def told() -> bool:
        return reporting

    for block in _joined(blocks, round(PIECE_S * front.ring.sample_rate)):
        yield from front.take(block, told)
    yield from front.finish(told, tail_s=tail_s)


def _joined(blocks: Iterable[NDArray[np.float32]], least: int) -> Iterator[NDArray[np.float32]]:
    """Join short blocks, because each costs the same however short it is."""
    waiting: list[NDArray[np.float32]] = []
    length = 0
    for block in blocks:
        waiting.append(block)
        length += len(block)
        if length >= least:
            yield np.concatenate(waiting)
            waiting, length = [], 0
    if length:
        yield np.concatenate(waiting)


class Judged(NamedTuple):
    """What gate and detector make of a window."""

    admitted: bool
    detections: list[Detection]


def judge(
    windows: Iterable[Window],
    scores: Iterable[Mapping[str, float]],
    detector: Detector,
    patterns: Sequence[DecodedPattern] = (),
) -> Iterator[Judged]:
    """Run gate and detector together over windows that were scored, as live sound runs them.

    The gate heeds what is being reported, so it can be judged only where the scores are known.

    Args:
        windows: of one recording, from its beginning.
        scores: of each, by label id.
        detector: has heard nothing yet.
        patterns: that were decoded or stopped, in order.
    """
    gate = NoiseGate()
    waiting = deque(patterns)
    for window, row in zip(windows, scores, strict=True):
        detections: list[Detection] = []
        while waiting and waiting[0].known_s <= window.end_s:
            detections += detector.take_pattern(waiting.popleft())
        admitted = gate.admits(window, reporting=detector.reporting)
        yield Judged(admitted, detections + detector.update(window, row if admitted else {}))
