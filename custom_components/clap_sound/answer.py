"""Answers for an assistant: data that says what it means, in the user's language, without any address."""

from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from homeassistant.helpers.translation import async_get_translations

from .const import DOMAIN
from .exposure import sounds_of
from .meaning import Meanings, false_alarms_per_day
from .question import QuestionError, is_meant, local, names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from homeassistant.core import HomeAssistant

    from .client.models import Explanation
    from .exposure import ToldMicrophone
    from .heard import HeardSound, HeardSounds
    from .listened import Span
    from .question import Question, Times

_ALWAYS = "the whole time"
MAX_GAPS = 10
TOP_SCORES = 5


class Words:
    """The integration's own words, in one language."""

    def __init__(self, texts: Mapping[str, str], meanings: Meanings) -> None:
        self._texts = texts
        self._meanings = meanings

    @classmethod
    async def of_language(cls, hass: HomeAssistant, language: str) -> Self:
        """Load the words of a language."""
        texts = await async_get_translations(hass, language, "entity", {DOMAIN})
        prefix = f"component.{DOMAIN}.entity."
        return cls(
            {key.removeprefix(prefix): text for key, text in texts.items()},
            await Meanings.of_language(hass, language),
        )

    def label(self, label_id: str, name: str) -> str:
        """Name a label; ``name`` is the server's, for what the user described."""
        return self._texts.get(f"binary_sensor.{label_id}.name", name)

    def reason(self, state: str, code: str) -> str:
        """Say why a microphone is in a state.

        Not in the server's words, which may hold an address.
        """
        status = "sensor.status"
        state_words = self._texts.get(f"{status}.state.{state}", state)
        return self._texts.get(f"{status}.state_attributes.code.state.{code}", state_words)

    def score(self, score: float) -> dict[str, Any]:
        return {
            "score": round(score, 2),
            "false_alarms_at_this_score": self._meanings.false_alarms(false_alarms_per_day(score)),
        }


def answer_heard(
    question: Question, times: Times, heard: HeardSounds, words: Words, max_microphones: int
) -> dict[str, Any]:
    """Answer what was heard.

    Raises:
        QuestionError: no server answers.
    """
    if len(heard.away) == len(question.microphones):
        away = names(microphone.name for microphone in heard.away)
        raise QuestionError(
            f"The CLAP Sound server of {away} does not answer, so what was heard cannot be told now."
            " It may go on listening; ask again later."
        )
    wanted, least = question.labels, question.values.get("minimum_score", 0)
    sounds = [
        sound
        for sound in heard.sounds
        if _is_wanted(wanted, _names_of(sound.event.label_id, sound.event.label_name, words))
        and (sound.event.pattern is not None or sound.event.peak_score >= least)
    ]
    limit: int = question.values["limit"]
    by_id = {microphone.id: microphone.name for microphone in question.told}
    microphones = [_listening(microphone, times, words) for microphone in question.microphones]
    known = [_names_of(*label, words) for label in sounds_of(question.microphones).items()]
    unknown = [label for label in wanted if not any(is_meant(label, label_names) for label_names in known)]
    answer: dict[str, Any] = {
        "result": _result(sounds, question, microphones, heard, unknown),
        "since": local(times.since),
        "until": local(times.until),
        "counts": _counts(sounds, words),
        "sounds": [_sound(sound, words, by_id) for sound in sounds[:limit]],
        "microphones": microphones[:max_microphones],
    }
    answer |= {
        key: value
        for key, value in {
            "nobody_listens_for": unknown,
            "sounds_left_out": max(0, len(sounds) - limit),
            "microphones_left_out": max(0, len(microphones) - max_microphones),
            "server_does_not_answer_for": [microphone.name for microphone in heard.away][:max_microphones],
        }.items()
        if value
    }
    if heard.complete_since > times.since:
        answer["too_much_to_look_further_back_than"] = local(heard.complete_since)
    return answer


def _result(
    sounds: Sequence[HeardSound],
    question: Question,
    microphones: Sequence[Mapping[str, Any]],
    heard: HeardSounds,
    unknown: Sequence[str],
) -> str:
    """Say in a sentence what is in the answer."""
    if sounds:
        return f"Detections: {len(sounds)}. See counts and sounds."
    nothing = "No such sound" if question.labels or question.values.get("minimum_score") else "No sound"
    if heard.away:
        return f"{nothing} is known to have been detected, but not every server answers."
    if unknown:
        return (
            f"{nothing} was detected, but no microphone listens for {names(unknown)}: that may have sounded."
        )
    if all(microphone["listened"] == _ALWAYS for microphone in microphones):
        return f"{nothing} was detected, and the microphones listened the whole time."
    return (
        f"{nothing} was detected, but not all microphones are known to have listened all the time: see gaps."
    )


def _is_wanted(wanted: Sequence[str], known: Sequence[str]) -> bool:
    return not wanted or any(is_meant(label, known) for label in wanted)


def _names_of(label_id: str, name: str, words: Words) -> tuple[str, str, str]:
    return label_id, name, words.label(label_id, name)


def _listening(microphone: ToldMicrophone, times: Times, words: Words) -> dict[str, Any]:
    coordinator = microphone.coordinator
    spans = coordinator.listened.spans(microphone.id, times.since, times.until) if coordinator else []
    return {
        **state(microphone, words),
        **_listened(spans, times, words),
        "listens_for": [words.label(label_id, name) for label_id, name in microphone.sounds.items()],
    }


def _counts(sounds: Iterable[HeardSound], words: Words) -> list[dict[str, Any]]:
    """Count the detections of each label, the most frequent first; several may be of one sound."""
    detections: Counter[str] = Counter()
    groups: dict[str, set[str]] = {}
    for sound in sounds:
        event = sound.event
        name = words.label(event.label_id, event.label_name)
        detections[name] += 1
        groups.setdefault(name, set()).add(event.group.id if event.group else event.id)
    return [
        {"sound": name, "detections": count, "different_sounds": len(groups[name])}
        for name, count in detections.most_common()
    ]


def _sound(sound: HeardSound, words: Words, microphones: Mapping[str, str]) -> dict[str, Any]:
    """Tell of a sound; ``microphones`` are the names of those that may be told of, by id."""
    event = sound.event
    told: dict[str, Any] = {
        "sound": words.label(event.label_id, event.label_name),
        "started_at": local(event.started_at),
        "ended_at": local(event.ended_at) if event.ended_at else "it goes on",
        **_microphone(sound.microphone),
    }
    if event.pattern is not None:
        told["recognised_by_its_beeps"] = event.pattern
    else:
        told |= words.score(event.peak_score)
    if (group := event.group) is not None and len(group.microphones) > 1 and group.nearest in microphones:
        told["stood_out_most_at"] = microphones[group.nearest]
    if event.replaced_by is not None:
        told["rather_was"] = words.label(event.replaced_by, event.replaced_by)
    if event.feedback is not None:
        told["verdict_of_the_user"] = event.feedback
    return told


def _listened(spans: Sequence[Span], times: Times, words: Words) -> dict[str, Any]:
    """Tell when a microphone listened and when not, or that it is not known."""
    gaps: list[tuple[datetime, datetime, str]] = []
    known = times.since

    def add(begin: datetime, end: datetime, why: str) -> None:
        if gaps and gaps[-1][1:] == (begin, why):
            begin = gaps.pop()[0]
        gaps.append((begin, end, why))

    for span in spans:
        if span.begin > known:
            add(known, span.begin, "not known")
        if not span.hears:
            add(span.begin, span.end, words.reason(span.state, span.code))
        known = span.end
    if known < times.until:
        add(known, times.until, "not known")
    if not gaps:
        return {"listened": _ALWAYS}
    longest = sorted(gaps, key=lambda gap: gap[0] - gap[1])[:MAX_GAPS]
    told: dict[str, Any] = {
        "listened": "all the time but for the gaps",
        "gaps": [
            {"from": local(begin), "until": local(end), "why": why} for begin, end, why in sorted(longest)
        ],
    }
    if len(gaps) > MAX_GAPS:
        told["shorter_gaps_left_out"] = len(gaps) - MAX_GAPS
    return told


def state(microphone: ToldMicrophone, words: Words) -> dict[str, Any]:
    """Tell what a microphone does now."""
    if (status := microphone.status) is None:
        return {**_microphone(microphone), "state": "not known", "reason": "no connection to its server"}
    return {
        **_microphone(microphone),
        "state": status.state,
        "reason": words.reason(status.state, status.code),
        "since": local(status.since),
    }


def heard_now(microphone: ToldMicrophone, explanation: Explanation, words: Words) -> dict[str, Any]:
    """Tell the newest window."""
    if not explanation.windows:
        return {"heard": "no sound has come for some seconds"}
    window = explanation.windows[-1]
    told: dict[str, Any] = {
        "at": local(window.ended_at),
        "level_dbfs": round(window.level_dbfs, 1),
        "noise_floor_dbfs": round(window.noise_floor_dbfs, 1),
    }
    if window.outcome == "gated":
        return {**told, "heard": "quiet: nothing rises above its own noise"}
    if window.outcome != "scored":
        return {**told, "heard": f"not judged: {window.outcome}"}
    scores = sorted(window.scores.items(), key=lambda item: item[1], reverse=True)
    sounds = microphone.sounds
    told["top_scores"] = [
        {"sound": words.label(label_id, sounds[label_id]), **words.score(score)}
        for label_id, score in scores
        if label_id in sounds
    ][:TOP_SCORES]
    return told


def _microphone(microphone: ToldMicrophone) -> dict[str, Any]:
    told = {"microphone": microphone.name}
    return {**told, "area": microphone.area} if microphone.area else told
