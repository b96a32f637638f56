"""POST /api/microphones/{id}/self-test: whether a microphone finds a sound."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from clap_server.api.context import context, has_left, json_response
from clap_server.api.microphones import existing
from clap_server.api.present import score
from clap_server.api.problems import ProblemError, invalid, read_body
from clap_server.api.route import Route
from clap_server.api.schemas import SelfTest, SelfTestResult
from clap_server.errors import LabelError
from clap_server.listening.examples import TESTABLE
from clap_server.listening.self_test import ABOVE_FLOOR_DB, SelfTestError

if TYPE_CHECKING:
    from aiohttp import web

    from clap_server.api.context import Context
    from clap_server.listening.self_test import Finding

_CALLER_GONE_EVERY_S = 0.5


async def self_test(request: web.Request) -> web.Response:
    """Test one microphone; answers when it is known whether the sound was found."""
    shared = context(request)
    microphone_id = existing(shared, request.match_info["id"]).id
    wanted = await read_body(request, SelfTest)
    if shared.self_tests.locked():
        raise ProblemError(
            503, "busy", "Other microphones are being tested; try again", headers={"Retry-After": "5"}
        )
    async with shared.self_tests:
        try:
            listener = shared.supervisor.listener(microphone_id)
            label_id = _label_id(shared, microphone_id, wanted)
            test = listener.test_digitally if wanted.mode == "digital" else listener.test_aloud
            testing = asyncio.ensure_future(test(label_id, wanted.timeout_s))
            try:
                finding = await _while_asked(request, testing)
            finally:
                testing.cancel()
        except SelfTestError as error:
            raise ProblemError(409, error.code, str(error)) from error
    return json_response(_result(finding, wanted).model_dump_json())


async def _while_asked(request: web.Request, testing: asyncio.Future[Finding]) -> Finding:
    """Wait for a test, but not when its caller is gone: what it finds would be told to nobody.

    Raises:
        SelfTestError: as the test does, or the caller is gone.
    """
    while not testing.done():
        if has_left(request):
            raise SelfTestError("caller_gone", "The caller has gone")
        await asyncio.wait([testing], timeout=_CALLER_GONE_EVERY_S)
    return testing.result()


def _label_id(shared: Context, microphone_id: str, wanted: SelfTest) -> str:
    """The label to test.

    Raises:
        ProblemError: it is not watched, or cannot be tested in this mode.
    """
    watched = [each.label.id for each in shared.supervisor.snapshot(microphone_id).labels]
    testable = [label_id for label_id in watched if wanted.mode == "aloud" or label_id in TESTABLE]
    if wanted.label is None:
        if testable:
            return testable[0]
        raise invalid(
            "label", f"no sound that this microphone watches can be synthesised; {_ways([])}", "not_testable"
        )
    try:
        label_id = shared.library.resolve(wanted.label).id
    except LabelError as error:
        raise invalid("label", str(error), "invalid_label") from error
    if label_id not in watched:
        raise invalid(
            "label", f"the microphone does not watch it; it watches {', '.join(watched)}", "not_watched"
        )
    if label_id not in testable:
        raise invalid("label", f"this sound cannot be synthesised; {_ways(testable)}", "not_testable")
    return label_id


def _ways(testable: list[str]) -> str:
    others = f"test {' or '.join(testable)}, or " if testable else ""
    return f"{others}use mode 'aloud' and play it in the room (synthesised are {', '.join(TESTABLE)})"


def _result(finding: Finding, wanted: SelfTest) -> SelfTestResult:
    watched = finding.watched
    return SelfTestResult(
        label_id=watched.label.id,
        name=watched.label.names["en"],
        mode=wanted.mode,
        outcome=finding.outcome,
        words=finding.words,
        score=None if finding.score is None else score(finding.score),
        threshold=watched.threshold,
        delay_s=None if finding.delay_s is None else round(finding.delay_s, 3),
        level_dbfs=None if finding.level_dbfs is None else round(finding.level_dbfs, 1),
        noise_floor_dbfs=round(finding.noise_floor_dbfs, 1),
        live_score=None if finding.live_score is None else score(finding.live_score),
    )


ROUTES = (
    Route(
        "POST",
        "/api/microphones/{id}/self-test",
        self_test,
        "Test whether it finds a sound",
        "Microphones",
        description=(
            f"`digital` mixes a synthesised sound, {ABOVE_FLOOR_DB:.0f} dB above the noise floor, into a copy"
            " of the live sound, through the same windows, gate, model and rules; the real sound is judged"
            " undisturbed beside it, so that no alarm can come of a test and none is lost. It shows that all"
            " works from the digital input on, not the microphone itself."
            " `aloud` waits for you to play the sound in the room, once, and shows that too: the first"
            " detection of that label is told to the caller alone, unless it goes on for 30 s; other labels,"
            " and whatever comes after it, are told as always. Answers when the sound was found, or at the"
            " end. 409 says why the microphone cannot be tested now, 422 which sounds can."
        ),
        body=SelfTest,
        answer=SelfTestResult,
        errors=(400, 404, 409, 413, 422),
    ),
)
