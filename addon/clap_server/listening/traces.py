"""Keeps how the model heard the sounds of events, in case the user says that one was wrong, or right."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from clap_server.detection.detector import Detection
    from clap_server.detection.labels import WatchedLabel

MOST_WINDOWS = 8
"""Of an event; of a longer one they are spread over its whole length."""

# From this part of its threshold on a window has something of the sound in it.
_NEAR = 0.8
# Of the time before the decision, as a sustained sound needs more than one window.
_BEFORE = 3
# Open events: of one that nobody is told of, such as a self-test's, the end is not told either.
_MOST_OPEN = 250


@dataclass(slots=True)
class Trace:
    """Embeddings of the windows of one event in which its label came near.

    Attributes:
        made_for: the model that heard them.
        hop_s: seconds between its regular windows; None where that is not known.
        denoise: whether noise was suppressed before; None where that is not known.
    """

    made_for: str
    hop_s: float | None = None
    denoise: bool | None = None
    _windows: list[NDArray[np.float32]] = field(default_factory=list)
    _every: int = 1
    _seen: int = 0

    def add(self, embedding: NDArray[np.float32]) -> None:
        """Take the next window, ``(dimension,)``; every second is forgotten whenever there are too many."""
        if self._seen % self._every == 0:
            if len(self._windows) == MOST_WINDOWS:
                self._windows = self._windows[::2]
                self._every *= 2
            if self._seen % self._every == 0:
                self._windows.append(embedding)
        self._seen += 1

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """``(1 to MOST_WINDOWS, dimension)``."""
        return np.stack(self._windows)


class Traces:
    """Of the events of one stretch.

    Args:
        hop_s: seconds between regular windows; may be set to another.
        denoise: whether noise is suppressed before the model.
    """

    def __init__(self, *, hop_s: float, denoise: bool) -> None:
        self.hop_s = hop_s
        self._denoise = denoise
        self._recent: dict[str, deque[NDArray[np.float32]]] = {}
        self._open: OrderedDict[tuple[str, float], Trace] = OrderedDict()
        self._made_for = ""

    def take(
        self,
        made_for: str,
        embedding: NDArray[np.float32],
        scores: Mapping[str, float],
        watched: Iterable[WatchedLabel],
        detections: Iterable[Detection],
    ) -> None:
        """Take a window that was judged.

        Args:
            made_for: the model that heard it.
            embedding: ``(dimension,)``.
            scores: of it, by label id.
            watched: the labels with the thresholds in force.
            detections: that it started or ended.
        """
        if made_for != self._made_for:
            self._made_for = made_for
            self._recent.clear()
        for each in watched:
            label_id = each.label.id
            if scores.get(label_id, 0.0) < _NEAR * each.threshold:
                self._recent.pop(label_id, None)
                continue
            self._recent.setdefault(label_id, deque(maxlen=_BEFORE)).append(embedding)
            for (of, _), trace in self._open.items():
                if of == label_id and trace.made_for == made_for:
                    trace.add(embedding)
        for detection in detections:
            # One that became doubtful is told again.
            if detection.ended_s is None and self._key(detection) not in self._open:
                self._begin(detection)

    def _begin(self, detection: Detection) -> None:
        label_id = detection.watched.label.id
        trace = Trace(self._made_for, self.hop_s, self._denoise)
        for embedding in self._recent.get(label_id, ()):
            trace.add(embedding)
        self._open[self._key(detection)] = trace
        while len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)

    def of(self, detection: Detection) -> Trace | None:
        """What is known of an event so far; None if a pattern decided. At its end it is forgotten."""
        key = self._key(detection)
        trace = self._open.get(key) if detection.ended_s is None else self._open.pop(key, None)
        return trace if trace is not None and len(trace) else None

    @staticmethod
    def _key(detection: Detection) -> tuple[str, float]:
        return detection.watched.label.id, detection.detected_s
