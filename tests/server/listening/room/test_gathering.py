"""What is gathered of a room is its everyday sound: no events, no tests, no digital silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server.detection.detector import Detection
from clap_server.detection.labels import WatchedLabel
from clap_server.detection.library import load_library
from clap_server.detection.windows import Window
from clap_server.listening.clock import StreamClock
from clap_server.listening.room.gathering import BEFORE_S, MOST_WINDOWS, PIECE_S, Gathering
from clap_server.listening.room.piece import RoomPiece, coded
from tests.server.listening.spectral import SpectralModel

if TYPE_CHECKING:
    from clap_server.clap.model import ClapModel

HOP_S = 0.5
WINDOW_S = 2.0
MODEL = SpectralModel()
MIDNIGHT = 1_760_054_400.0
GLASS = WatchedLabel(load_library().resolve("glass breaking"), 0.7)
ALARM = WatchedLabel(load_library().resolve("alarm"), 0.7)


class Ear:
    """Remembers what it is given."""

    def __init__(self) -> None:
        self.pieces: list[RoomPiece] = []
        self.made: list[tuple[ClapModel, float]] = []
        self.heard_s = 0.0
        self.sounding_s = 0.0

    def take(self, piece: RoomPiece, model: ClapModel, hop_s: float) -> None:
        self.pieces.append(piece)
        self.made.append((model, hop_s))

    def listened(self, heard_s: float, sounding_s: float) -> None:
        self.heard_s += heard_s
        self.sounding_s += sounding_s

    def seconds(self) -> list[int]:
        """Which windows came, by the embeddings that the tests give them."""
        return [number for piece in self.pieces for number in numbers(piece)]


def numbered(number: int) -> np.ndarray:
    """An embedding that says which window it is of."""
    bits = np.array([1.0, *(float(number >> bit & 1) for bit in range(12))], np.float32)
    return bits / np.float32(np.linalg.norm(bits))


def numbers(piece: RoomPiece) -> list[int]:
    return [sum(1 << bit for bit in range(12) if row[1 + bit] > 0) for row in piece.codes]


class Stream:
    """A stretch, window by window."""

    def __init__(self, *, at: float = MIDNIGHT, hop_s: float = HOP_S) -> None:
        self.ear = Ear()
        self.clock = StreamClock()
        self.clock.observe(0.0, at)
        self.gathering = Gathering(self.ear, self.clock, hop_s=hop_s)
        self.hop_s = hop_s
        self.count = 0

    @property
    def now_s(self) -> float:
        return self.count * self.hop_s

    def hear(
        self,
        seconds: float,
        *,
        open_gate: bool = True,
        level_dbfs: float = -40.0,
        tested: bool = False,
        model: ClapModel = MODEL,
    ) -> None:
        for _ in range(round(seconds / self.hop_s)):
            self.count += 1
            window = Window(max(0.0, self.now_s - WINDOW_S), self.now_s, level_dbfs, None)
            embedding = numbered(self.count) if open_gate else None
            self.gathering.take(window, embedding, model, tested=tested)

    def lose(self, seconds: float) -> None:
        self.count += round(seconds / self.hop_s)

    def starts(self, watched: WatchedLabel, onset_s: float) -> None:
        self.gathering.heard([Detection(watched, onset_s, self.now_s, None, 0.9, 0.9, -20.0)])

    def ends(self, watched: WatchedLabel, ended_s: float) -> None:
        self.gathering.heard([Detection(watched, ended_s - 1, ended_s, ended_s, 0.9, 0.9, -20.0)])

    def finish(self) -> Ear:
        self.gathering.finish()
        return self.ear


@settings(deadline=None)
@given(
    parts=st.lists(st.tuples(st.sampled_from(["open", "shut", "lost"]), st.integers(1, 200)), max_size=15),
    hop_s=st.sampled_from([0.1, 0.5, 2.0]),
)
def test_all_everyday_sound_comes_once_in_order_in_bounded_pieces(
    parts: list[tuple[str, int]], hop_s: float
) -> None:
    stream = Stream(hop_s=hop_s)
    expected: list[int] = []
    for kind, count in parts:
        before = stream.count
        if kind == "lost":
            stream.lose(count * hop_s)
        else:
            stream.hear(count * hop_s, open_gate=kind == "open")
        if kind == "open":
            expected += range(before + 1, stream.count + 1)
    ear = stream.finish()
    assert ear.seconds() == expected
    for piece in ear.pieces:
        assert 0 < len(piece) <= MOST_WINDOWS
        assert len(piece) * hop_s <= PIECE_S + hop_s
        assert piece.ends_s[0] == pytest.approx(hop_s)
        assert np.all(np.diff(piece.ends_s) > 0)
        assert np.diff(piece.ends_s) == pytest.approx(np.diff(numbers(piece)) * hop_s)
    # What follows a loss speaks for one hop.
    judged = sum(count for kind, count in parts if kind != "lost")
    assert ear.heard_s == pytest.approx(judged * hop_s)
    assert ear.sounding_s == pytest.approx(len(expected) * hop_s)


def test_a_piece_ends_with_the_hour() -> None:
    stream = Stream(at=MIDNIGHT - 10)
    stream.hear(20)
    hours = [int(piece.at // 3600) for piece in stream.finish().pieces]
    assert hours == [MIDNIGHT // 3600 - 1, MIDNIGHT // 3600]


@settings(deadline=None)
@given(
    before_s=st.integers(0, 80),
    approach_s=st.floats(0, 14),
    lasts_s=st.integers(1, 60),
    two=st.booleans(),
)
def test_an_event_never_enters_from_before_its_onset_to_its_end(
    before_s: int, approach_s: float, lasts_s: int, two: bool
) -> None:
    stream = Stream()
    stream.hear(before_s + 15)
    onset_s = stream.now_s - approach_s
    stream.starts(GLASS, onset_s)
    stream.hear(lasts_s)
    if two:
        stream.starts(ALARM, stream.now_s - 0.5)
        stream.ends(GLASS, stream.now_s)
        stream.hear(5)
        ended_s = stream.now_s
        stream.ends(ALARM, ended_s)
    else:
        ended_s = stream.now_s
        stream.ends(GLASS, ended_s)
    stream.hear(40)
    last = stream.count
    kept = set(stream.finish().seconds())
    for number in range(1, last + 1):
        end_s = number * HOP_S
        outside = end_s < onset_s - BEFORE_S or end_s - WINDOW_S >= ended_s
        assert (number in kept) == outside


def test_a_pattern_that_is_recognised_later_changes_nothing() -> None:
    stream = Stream()
    stream.hear(10)
    stream.starts(ALARM, 9)
    stream.starts(ALARM, 3)
    stream.ends(ALARM, 10)
    assert stream.finish().seconds() == list(range(1, 16))


def test_sound_that_is_played_as_a_test_never_enters_and_is_no_time() -> None:
    stream = Stream()
    stream.hear(10)
    stream.hear(10, tested=True)
    stream.hear(10)
    ear = stream.finish()
    assert ear.seconds() == [*range(1, 21), *range(44, 61)]
    assert (ear.heard_s, ear.sounding_s) == (20, 18.5)


def test_digital_silence_never_enters_and_is_no_time() -> None:
    stream = Stream()
    stream.hear(10, level_dbfs=-120.0)
    stream.hear(10, open_gate=False)
    ear = stream.finish()
    assert ear.seconds() == []
    assert (ear.heard_s, ear.sounding_s) == (10, 0)


def test_no_piece_holds_two_models_or_two_hops() -> None:
    stream = Stream()
    other = SpectralModel(name="other")
    stream.hear(10)
    stream.hear(10, model=other)
    stream.gathering.change(hop_s=1.0)
    stream.hear(10, model=other)
    ear = stream.finish()
    assert ear.made == [(MODEL, 0.5), (other, 0.5), (other, 1.0)]
    assert ear.seconds() == list(range(1, 61))


def test_without_an_ear_nothing_is_gathered() -> None:
    gathering = Gathering(None, StreamClock(), hop_s=0.5)
    gathering.take(Window(0, 2, -40.0, None), numbered(1), MODEL, tested=False)
    gathering.heard([Detection(GLASS, 1, 2, None, 0.9, 0.9, -20.0)])
    gathering.finish()
    assert not gathering._waiting


@settings(deadline=None)
@given(seed=st.integers(0, 1000), dimension=st.sampled_from([24, 256, 512]))
def test_embeddings_come_back_nearly(seed: int, dimension: int) -> None:
    embeddings = np.random.default_rng(seed).standard_normal((20, dimension)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    piece = RoomPiece(0.0, np.arange(1.0, 21.0), coded(embeddings))
    assert piece.codes.nbytes == 20 * dimension
    cosines = (piece.embeddings() * embeddings).sum(axis=1)
    assert np.all(cosines > 0.9995)
