"""Following only the channels in which something happens finds what following all of them does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from clap_server.detection import pulses
from clap_server.detection.pulses import Pulse, PulseFinder, PulseLength
from tests.server.detection.test_patterns import RATE, beeps, in_a_room, with_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PlainFinder(PulseFinder):
    """Steps through all frames, with all channels in each."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__(sample_rate)
        self._state = {
            (length, channel): pulses._Open(0, 0, 0.0, 0.0, 0.0)
            for length in PulseLength
            for channel in range(self._count)
        }
        self._on: set[tuple[PulseLength, int]] = set()
        self._last = [np.full(self._count, np.inf)] * 3

    def _find(self, power: NDArray[np.float64], prominence: NDArray[np.float64]) -> list[Pulse]:
        found = []
        for index in range(len(power)):
            frame = self._frames + index
            for (length, channel), state in self._state.items():
                found += self._step(frame, length, channel, state, power[index], prominence[index])
            self._recent = np.maximum(self._recent * pulses._FORGET, power[index])
            self._last = [*self._last[1:], power[index]]
        return found

    def _step(
        self,
        frame: int,
        length: PulseLength,
        channel: int,
        state: pulses._Open,
        powers: NDArray[np.float64],
        prominences: NDArray[np.float64],
    ) -> list[Pulse]:
        power, prominence = float(powers[channel]), float(prominences[channel])
        clear = prominence >= 8.0 and power >= self._recent[channel] * 0.1
        lowest = self._lowest[length]
        if (length, channel) not in self._on:
            if clear and power >= lowest[channel] * 2.5:
                self._on.add((length, channel))
                state.since, state.below, state.peak, state.best, state.sum = (
                    frame,
                    0,
                    power,
                    prominence,
                    power,
                )
            lowest[channel] = min(lowest[channel], power)
            return []
        state.peak, state.best = max(state.peak, power), max(state.best, prominence)
        state.sum += power
        lasts = power >= state.peak * pulses._FALL[length] and prominence >= 3.0
        state.below = 0 if lasts else state.below + 1
        if state.below > 2:
            self._on.remove((length, channel))
            lowest[channel] = power
            return [self._ended(length, channel, state, frame)]
        if clear and power >= self._last[0][channel] * 4.0:
            state.since, state.sum = frame, power
        return []


def sounds() -> dict[str, NDArray[np.float32]]:
    smoke = beeps([0.5, 1.5, 2.5], 0.5, 3100.0, 4.0)
    two = smoke + beeps([0.7, 0.9, 1.1, 1.3], 0.1, 520.0, 4.0, square=True)
    rng = np.random.default_rng(0)
    return {
        "noise": (0.05 * rng.standard_normal(4 * RATE)).astype(np.float32),
        "digital silence": np.zeros(2 * RATE, np.float32),
        "two alarms in noise": with_noise(two, 10.0, seed=1),
        "an alarm in a room": in_a_room(smoke, 0.8, seed=2),
    }


@pytest.mark.parametrize("name", sounds())
@pytest.mark.parametrize("piece", [RATE // 10, 333])
def test_the_same_pulses_are_found_as_by_following_every_channel(name: str, piece: int) -> None:
    sound = sounds()[name]
    finder, plain = PulseFinder(RATE), PlainFinder(RATE)
    pieces = [sound[start : start + piece] for start in range(0, len(sound), piece)]
    found = [pulse for each in pieces for pulse in finder.feed(each)]
    assert found == [pulse for each in pieces for pulse in plain.feed(each)]
    assert (len(found) > 10) == (name != "digital silence")


def test_where_nothing_rises_no_channel_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    followed: list[int] = []
    follow = PulseFinder._follow

    def counting(finder: PulseFinder, length: PulseLength, channel: int, *values: list[float]) -> object:
        followed.append(channel)
        return follow(finder, length, channel, *values)  # type: ignore[arg-type]

    monkeypatch.setattr(PulseFinder, "_follow", counting)
    finder = PulseFinder(RATE)
    sound = beeps([0.5], 0.2, 3100.0, 2.0) + 1e-4 * np.random.default_rng(0).standard_normal(2 * RATE)
    for start in range(0, len(sound), RATE // 10):
        finder.feed(sound[start : start + RATE // 10].astype(np.float32))
    frames = len(sound) // (RATE // 100)
    assert 0 < len(followed) < 0.1 * len(PulseLength) * finder._count * frames / 10
