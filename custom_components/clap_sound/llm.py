"""Tools for assistants: what was heard, and what is heard now."""

import asyncio
import logging
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, override

import probatio
from homeassistant.components.llm import LLMTools
from homeassistant.const import MATCH_ALL
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.llm import (
    LLM_API_ASSIST,
    LLMContext,
    Tool,
    ToolAnnotations,
    ToolInput,
    ToolResult,
)

from .answer import Words, answer_heard, heard_now, state
from .client import ClapSoundError
from .const import DOMAIN, STATE_LISTENING
from .exposure import sounds_of, told_microphones
from .heard import ask_servers
from .question import Question, QuestionError, names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .exposure import ToldMicrophone

_LOGGER = logging.getLogger(__name__)

DEFAULT_SOUNDS = 20
MAX_SOUNDS = 100
MAX_MICROPHONES = 20
NEWEST_S = 10
"""Windows may be 5 s apart."""

_READS = ToolAnnotations(read_only=True, destructive=False, idempotent=True, open_world=False)
_PROMPT = (
    f"{DOMAIN}__list_sounds tells what the home's microphones heard (breaking glass, alarms and the like),"
    f" {DOMAIN}__listen_now what they hear at this moment. That nothing was heard means something only for"
    " times in which they listened: the answer says when they did not, and so should you."
)
_NOTHING_EXPOSED = (
    "Only if the user asks what was heard in the home: tell them to expose the entity 'Sound detected' of a"
    " CLAP Sound microphone to Assist."
)


@callback
def async_get_tools(hass: HomeAssistant, llm_context: LLMContext, api_id: str) -> LLMTools | None:
    """Offer the tools if the user has exposed anything that they could tell of."""
    if api_id != LLM_API_ASSIST:
        return None
    told = told_microphones(hass, llm_context.assistant)
    if not told:
        return LLMTools([], _NOTHING_EXPOSED)
    return LLMTools([ListSounds(told), ListenNow(told)], _PROMPT)


class MicrophoneTool(Tool):
    """Answers from the microphones of which the assistant may be told."""

    annotations = _READS
    integration = DOMAIN

    @override
    async def async_call(
        self, hass: HomeAssistant, tool_input: ToolInput, llm_context: LLMContext
    ) -> ToolResult:
        given = {key: value for key, value in tool_input.tool_args.items() if value not in (None, "")}
        values = self.parameters(given)
        language = llm_context.language
        words = await Words.of_language(
            hass, hass.config.language if language in (None, MATCH_ALL) else language
        )
        # What is exposed may have changed since the tool was offered.
        told = told_microphones(hass, llm_context.assistant)
        try:
            return ToolResult(await self.answer(Question.asked(hass, values, told), words))
        except QuestionError as error:
            return ToolResult({"error": str(error)}, error=True)

    @abstractmethod
    async def answer(self, question: Question, words: Words) -> dict[str, Any]:
        """Answer a question.

        Raises:
            QuestionError: it cannot be answered.
        """


def _which(told: Sequence[ToldMicrophone]) -> dict[probatio.Marker, Any]:
    """Make the parameters that choose microphones."""
    areas = names(microphone.area for microphone in told if microphone.area)
    microphones = names(microphone.name for microphone in told)
    schema: dict[probatio.Marker, Any] = {
        probatio.Optional("microphone", description=f"Only this one of: {microphones}"): cv.string
    }
    if areas:
        schema[probatio.Optional("area", description=f"Only the microphones in one of: {areas}")] = cv.string
    return schema


class ListSounds(MicrophoneTool):
    """Lists what was heard between two times."""

    name = f"{DOMAIN}__list_sounds"
    title = "List sounds that were heard"
    description = (
        "Lists the sounds that the home's microphones detected between two times, the newest first, with"
        " time, room and score, and says for each microphone when it listened and when not. Times are local."
        " A score says how rarely everyday sound alone reaches it: 0.5 about once an hour, 0.7 once a day,"
        " 0.9 once a month; a detection with a low score may well be a false alarm."
    )

    def __init__(self, told: Sequence[ToldMicrophone]) -> None:
        sounds = names(sounds_of(told).values())
        self.parameters = probatio.Schema(
            {
                probatio.Optional(
                    "since",
                    description="Local time such as 2026-11-27T22:00:00; a day before 'until' if left out",
                ): cv.string,
                probatio.Optional("until", description="Local time; now if left out"): cv.string,
                probatio.Optional(
                    "labels", description=f"Only these sounds. Listened for are: {sounds or 'not known now'}"
                ): probatio.All(cv.ensure_list, [cv.string]),
                **_which(told),
                probatio.Optional("minimum_score", description="0 to 1"): probatio.All(
                    probatio.Coerce(float), probatio.Range(min=0, max=1)
                ),
                probatio.Optional(
                    "limit", description="List at most so many sounds", default=DEFAULT_SOUNDS
                ): (probatio.All(probatio.Coerce(int), probatio.Range(min=1, max=MAX_SOUNDS))),
            }
        )

    @override
    async def answer(self, question: Question, words: Words) -> dict[str, Any]:
        times = question.times()
        heard = await ask_servers(question.microphones, times)
        return answer_heard(question, times, heard, words, MAX_MICROPHONES)


class ListenNow(MicrophoneTool):
    """Tells what the microphones hear at this moment."""

    name = f"{DOMAIN}__listen_now"
    title = "Listen now"
    description = (
        "Tells for each of the home's microphones whether it listens, and if not, why; how loud it is there"
        " now, in dBFS, what that is most like, with scores, and which detected sounds are going on."
    )

    def __init__(self, told: Sequence[ToldMicrophone]) -> None:
        self.parameters = probatio.Schema(_which(told))

    @override
    async def answer(self, question: Question, words: Words) -> dict[str, Any]:
        microphones = question.microphones
        answer: dict[str, Any] = {
            "microphones": await asyncio.gather(
                *(_told_now(microphone, words) for microphone in microphones[:MAX_MICROPHONES])
            )
        }
        if len(microphones) > MAX_MICROPHONES:
            answer["microphones_left_out"] = len(microphones) - MAX_MICROPHONES
        return answer


async def _told_now(microphone: ToldMicrophone, words: Words) -> dict[str, Any]:
    told, coordinator = state(microphone, words), microphone.coordinator
    if coordinator is None or told["state"] != STATE_LISTENING:
        return told
    going_on = microphone.going_on
    told["going_on"] = [
        words.label(each, name) for each, name in microphone.sounds.items() if each in going_on
    ]
    try:
        explanation = await coordinator.client.explain(microphone.id, NEWEST_S)
    except ClapSoundError as error:
        _LOGGER.debug("Could not ask what %s hears: %s", microphone.name, error)
        return {**told, "heard": "its server could not be asked"}
    return told | heard_now(microphone, explanation, words)
