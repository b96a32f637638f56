"""A second hearing of one microphone's sound with a test sound in it, beside the real one."""

from __future__ import annotations

import asyncio
import time
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from clap_server.audio.ring import RingBuffer
from clap_server.detection.detector import PATTERN_SCORE, Detector
from clap_server.detection.front import Front, Heard
from clap_server.detection.gate import SILENCE_DBFS
from clap_server.detection.patterns import DecodedPattern
from clap_server.errors import AudioError, ModelError
from clap_server.listening.batcher import WindowDroppedError, answer
from clap_server.listening.diary import Fate, GateView, WindowNote
from clap_server.listening.self_test import ABOVE_FLOOR_DB, Finding, Outcome, SelfTestError
from clap_server.listening.words import nearest_words, nearness, score_words
from clap_server.synthesis import loudest_rms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clap_server.audio.block import AudioBlock
    from clap_server.detection.gate import NoiseGate
    from clap_server.detection.labels import WatchedLabel
    from clap_server.detection.patterns import AlarmPattern
    from clap_server.detection.windows import Window
    from clap_server.listening.batcher import Batcher
    from clap_server.listening.scoring import Scoring
    from clap_server.listening.stretch import Stretch

_LOUDEST_S = 0.05
_HIGHEST_PEAK = 0.9
# What the model needs to answer about the last windows with the sound is the caller's patience.
_AFTER_S = 1.0
_KEEP_S = 15.0
# From this part of the threshold on the sound of the room alone may have been what was found.
_LIKE_IT = 0.8


@dataclass(frozen=True, slots=True)
class _Asked:
    window: Window
    gate: GateView
    embedding: asyncio.Future[NDArray[np.float32]] | None
    asked_s: float


class Shadow:
    """Hears the live sound with an example mixed in; the real path goes on undisturbed.

    So no alarm can come of a test, and none is lost to it. It begins with the last window of the real stream,
    the noise floor as it is, and a detector that has heard nothing yet.

    Args:
        microphone_id: for the batcher.
        stretch: of the stream that goes on.
        gate: knows the microphone's noise; it is copied.
        scoring: has model and scorer.
        watched: the label to test.
        hop_s: seconds between windows.
        sound: ``(n,)`` of the example at the stretch's rate.
        batcher: runs the model.
        denoise: see ``Front``.
    """

    def __init__(
        self,
        microphone_id: str,
        stretch: Stretch,
        gate: NoiseGate,
        *,
        scoring: Scoring,
        watched: WatchedLabel,
        hop_s: float,
        sound: NDArray[np.float32],
        batcher: Batcher,
        denoise: bool = False,
    ) -> None:
        # No microphone can have this id.
        self._owner = f"{microphone_id} self-test"
        self._batcher = batcher
        self._scoring = scoring
        self._watched = watched
        self._clock = stretch.clock
        self._zero_s = stretch.length_s
        window_s = scoring.model.window_s
        rate = self._rate = stretch.sample_rate
        self._front = Front(rate, window_s=window_s, hop_s=hop_s, keep_s=window_s + _KEEP_S, denoise=denoise)
        # The same without the example.
        self._live = RingBuffer(rate, window_s + _KEEP_S)
        ring = stretch.front.ring
        since = max(ring.first_sample, ring.total_samples - round((window_s + hop_s) * rate))
        history = ring.read(since, ring.total_samples)
        self._live.append(history)
        self._detector = Detector([watched], hop_s=hop_s)
        for heard in self._front.take(history):
            if isinstance(heard, Heard):
                self._detector.update(heard.window, {})
        self._front.gate = deepcopy(gate)
        self._begin = self._front.ring.total_samples
        self._zero_s -= self._begin / rate
        gain = _gain(sound, rate, gate.floor_dbfs)
        self._sound = sound * np.float32(gain)
        self._level_dbfs = 20 * float(np.log10(max(gain * loudest_rms(sound, rate, _LOUDEST_S), 1e-6)))
        self._over_s = (self._begin + len(sound)) / rate + window_s + _AFTER_S
        self._asked: asyncio.Queue[_Asked | None] = asyncio.Queue()
        self._best: WindowNote | None = None
        self._pattern: AlarmPattern | None = None

    def take(self, block: AudioBlock) -> list[asyncio.Future[NDArray[np.float32]]]:
        """Hear the next block of the live sound, with the example in it; return what the model is asked."""
        done = self._front.ring.total_samples - self._begin
        self._live.append(block.samples)
        samples = block.samples.copy()
        part = self._sound[done : done + len(samples)]
        samples[: len(part)] += part
        under_way = []
        for heard in self._front.take(np.clip(samples, -1.0, 1.0), self._reporting):
            if isinstance(heard, DecodedPattern):
                if self._detector.take_pattern(heard):
                    self._pattern = heard.pattern
                continue
            window, admitted = heard
            gate = GateView.of(self._front.gate, reporting=self._reporting())
            embedding = self._ask(window) if admitted else None
            self._asked.put_nowait(_Asked(window, gate, embedding, time.monotonic()))
            if embedding is not None:
                under_way.append(embedding)
        return under_way

    def break_off(self) -> None:
        """The stream is interrupted: nothing can be learnt any more."""
        self._asked.put_nowait(None)

    async def run(self, timeout_s: float) -> Finding:
        """Wait until the example is found or over.

        Raises:
            SelfTestError: the stream was interrupted.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._judge()
        except TimeoutError:
            why = self._why() if self._best is not None else "nothing was judged"
            return self._missed(f"not found within {timeout_s:g} s: {why}")
        finally:
            self._batcher.forget(self._owner)

    def _reporting(self) -> bool:
        return bool(self._detector.active)

    def _ask(self, window: Window) -> asyncio.Future[NDArray[np.float32]]:
        longest = round(self._scoring.model.window_s * self._rate)
        return self._batcher.submit(
            self._owner, self._scoring.model, lambda: self._front.samples(window)[-longest:]
        )

    async def _judge(self) -> Finding:
        while (asked := await self._asked.get()) is not None:
            window = asked.window
            note = await self._note(asked)
            if self._best is None or nearness(note, self._watched) > nearness(self._best, self._watched):
                self._best = note
            score = note.score(self._watched.label.id)
            if self._detector.active and (score is not None or self._pattern is not None):
                delay_s = window.end_s - self._begin / self._rate + time.monotonic() - asked.asked_s
                return self._found(score, delay_s, await self._live_score(window))
            if window.end_s >= self._over_s:
                return self._missed(f"not found: {self._why()}")
        raise SelfTestError(
            "interrupted", "The stream was interrupted during the self-test; try again when it is steady"
        )

    async def _note(self, asked: _Asked) -> WindowNote:
        """Judge a window, as live sound is judged."""
        window, scorer = asked.window, self._scoring.scorer
        ended_at = self._clock.utc(self._zero_s + window.end_s)

        def note(fate: Fate, problem: str | None = None) -> WindowNote:
            return WindowNote(window, ended_at, asked.gate, fate, (self._watched,), problem=problem)

        if asked.embedding is None:
            self._detector.update(window, {})
            return note(Fate.GATED)
        embedding = await answer(asked.embedding)
        if isinstance(embedding, WindowDroppedError):
            self._detector.tick(window.end_s)
            return note(Fate.DROPPED)
        if isinstance(embedding, ModelError):
            self._detector.tick(window.end_s)
            return note(Fate.FAILED, str(embedding))
        values = scorer.scores(embedding[None])[0]
        scores = dict(zip(scorer.label_ids, map(float, values), strict=True))
        self._detector.update(window, scores)
        return WindowNote(
            window,
            ended_at,
            asked.gate,
            Fate.SCORED,
            (self._watched,),
            scorer.label_ids,
            values,
            tuple(self._detector.judgements(window, scores)),
        )

    def _why(self) -> str:
        return nearest_words(self._best, self._watched) if self._best is not None else "no window came"

    async def _live_score(self, window: Window) -> float | None:
        """What the room alone scores in a window; None if the model does not answer."""
        first, last = round(window.start_s * self._rate), round(window.end_s * self._rate)
        try:
            # As a file, because what waits there is never dropped.
            embeddings = await self._batcher.embed(self._scoring.model, [self._live.read(first, last)])
        except (AudioError, ModelError):
            return None
        scorer = self._scoring.scorer
        scores = scorer.scores(embeddings)[0]
        return float(scores[scorer.label_ids.index(self._watched.label.id)])

    def _found(self, score: float | None, delay_s: float, live_score: float | None) -> Finding:
        if live_score is not None and live_score >= _LIKE_IT * self._watched.threshold:
            outcome = Outcome.UNCLEAR
            words = "unclear: the room alone sounds like it at the moment; test again when it is quiet"
        elif self._pattern is not None or score is None:
            outcome, score = Outcome.FOUND, PATTERN_SCORE
            words = f"found after {delay_s:.1f} s by the pattern of its beeps, {self._pattern}"
        else:
            outcome = Outcome.FOUND
            words = f"found after {delay_s:.1f} s: {score_words(self._watched, score)}"
        return replace(self._finding(outcome, words, score, delay_s), live_score=live_score)

    def _missed(self, words: str) -> Finding:
        score = None if self._best is None else self._best.score(self._watched.label.id)
        return self._finding(Outcome.NOT_FOUND, words, score, None)

    def _finding(self, outcome: Outcome, words: str, score: float | None, delay_s: float | None) -> Finding:
        floor_dbfs = self._front.gate.floor_dbfs
        return Finding(self._watched, outcome, words, score, delay_s, self._level_dbfs, floor_dbfs)


def _gain(sound: NDArray[np.float32], sample_rate: int, floor_dbfs: float) -> float:
    """Bring a sound to its height above the noise floor, as far as full scale allows."""
    wanted_dbfs = max(floor_dbfs, SILENCE_DBFS) + ABOVE_FLOOR_DB
    gain = 10 ** (wanted_dbfs / 20) / max(loudest_rms(sound, sample_rate, _LOUDEST_S), 1e-9)
    return min(gain, _HIGHEST_PEAK / max(float(np.abs(sound).max(initial=0.0)), 1e-9))
