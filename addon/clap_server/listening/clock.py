"""When a moment of the stream was, in the time of day."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta

# Sound that comes so much later at once does not exist: it would have been a stall. The clock was set.
_CLOCK_SET_S = 30.0
_MEMORY_S = 30.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class StreamClock:
    """Maps stream time to UTC.

    A sample cannot arrive before it sounded, and blocks arrive late and in bursts (HLS delivers
    several seconds at once). So the offset is the smallest ``arrival - stream time`` of the last
    half minute, which also follows the slow drift between the clock of a camera and ours. When our
    clock is set (a Raspberry Pi has none of its own until the network is there) it begins anew.
    """

    def __init__(self) -> None:
        # (stream time, offset), offsets rising: the first is the smallest.
        self._offsets: deque[tuple[float, float]] = deque()
        self._last_offset_s: float | None = None

    def observe(self, stream_s: float, captured_at: float) -> None:
        """Learn that the sample at ``stream_s`` arrived at Unix time ``captured_at``."""
        offset = captured_at - stream_s
        if self._last_offset_s is not None and offset - self._last_offset_s > _CLOCK_SET_S:
            self._offsets.clear()
        self._last_offset_s = offset
        while self._offsets and self._offsets[-1][1] >= offset:
            self._offsets.pop()
        self._offsets.append((stream_s, offset))
        while self._offsets[0][0] < stream_s - _MEMORY_S:
            self._offsets.popleft()

    def utc(self, stream_s: float) -> datetime:
        """UTC of a stream time; now, if nothing arrived yet."""
        if not self._offsets:
            return datetime.now(UTC)
        return _EPOCH + timedelta(seconds=self._offsets[0][1] + stream_s)
