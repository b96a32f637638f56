"""Keeps the sound that a user plays aloud as a test from being an alarm."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from clap_server.listening.self_test import SelfTestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clap_server.detection.detector import Detection

GOES_ON_S = 30.0
"""A sound that lasts so long after it was found is no test any more: it is told after all."""


class Withholding:
    """Of each label that is tested the first detection goes to whoever tests, and to nobody else.

    Other labels, events that were going on before and any second detection are told as always.
    """

    def __init__(self) -> None:
        self._expected: dict[str, asyncio.Future[Detection]] = {}
        self._withheld: dict[str, Detection] = {}

    @property
    def labels(self) -> frozenset[str]:
        """Ids of the labels of which a sound goes on that nobody is told of."""
        return frozenset(self._withheld)

    @property
    def tested(self) -> frozenset[str]:
        """Ids of the labels of which a detection would be a test, or is one."""
        return frozenset(self._withheld.keys() | self._expected.keys())

    def expect(self, label_id: str) -> asyncio.Future[Detection]:
        """Begin a test; the future is for the first detection."""
        future: asyncio.Future[Detection] = asyncio.get_running_loop().create_future()
        self._expected[label_id] = future
        return future

    def give_up(self, label_id: str) -> None:
        """End a test; a sound that was found stays withheld until it ends."""
        self._expected.pop(label_id, None)

    def stop(self) -> None:
        """Listening ends."""
        for future in self._expected.values():
            if not future.done():
                future.set_exception(SelfTestError("interrupted", "Listening stopped during the self-test"))
        self._expected.clear()
        self._withheld.clear()

    def pass_on(self, detections: Sequence[Detection], now_s: float) -> list[Detection]:
        """Those of the detections that are to be told; and what was withheld and goes on for too long.

        Args:
            detections: that started or ended, in their order.
            now_s: stream time.
        """
        told = [detection for detection in detections if not self._keeps(detection)]
        for label_id, detection in list(self._withheld.items()):
            if now_s - detection.detected_s >= GOES_ON_S:
                del self._withheld[label_id]
                told.append(detection)
        return told

    def _keeps(self, detection: Detection) -> bool:
        label_id = detection.watched.label.id
        if detection.ended_s is not None:
            return self._withheld.pop(label_id, None) is not None
        if label_id in self._withheld:
            # Its pattern was recognised since.
            self._withheld[label_id] = detection
            return True
        future = self._expected.pop(label_id, None)
        if future is None or future.done():
            return False
        future.set_result(detection)
        self._withheld[label_id] = detection
        return True
