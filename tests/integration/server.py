"""A small peer that speaks the server's wire over real sockets, and does what a test tells it.

Whatever it sends is made by the server's own schemas, and whatever it is sent is checked by them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web
from pydantic import BaseModel, ValidationError

from clap_server.api import schemas
from clap_server.audio.source import SourceError, SourceState
from clap_server.audio.url import check_url, redact_url, restore_url
from clap_server.detection.everyday.rate import rate_of_score
from clap_server.detection.everyday.unknown import why_unknown
from clap_server.detection.library import load_library
from clap_server.listening.config import LabelChoice, MicrophoneSettings, UrlSourceSettings

if TYPE_CHECKING:
    from clap_server.detection.patterns import AlarmPattern

TOKEN = "the-right-token"
MODEL = schemas.ModelInfo(
    name="builtin",
    requested="builtin",
    builtin=True,
    device="cpu",
    dtype="float32",
    sample_rate=48000,
    window_s=2,
    problem=None,
)


def wire(kind: type[BaseModel], **fields: Any) -> dict[str, Any]:
    """Return a message as JSON, checked by the server's schema where it knows the fields."""
    checked = kind.model_validate(fields).model_dump(mode="json")
    whole: dict[str, Any] = _with_unknown(checked, json.loads(json.dumps(fields, default=str)))
    return whole


def _with_unknown(checked: Any, sent: Any) -> Any:
    """Add what the schema left out."""
    if isinstance(checked, dict) and isinstance(sent, dict):
        return {key: _with_unknown(checked.get(key, sent.get(key)), sent.get(key)) for key in checked | sent}
    if isinstance(checked, list) and isinstance(sent, list):
        return [_with_unknown(*pair) for pair in zip(checked, sent, strict=True)]
    return checked


def status(
    state: str = "listening",
    code: str = "ok",
    reason: str = "sound arrives",
    notice: str | None = None,
    since: datetime | None = None,
) -> dict[str, Any]:
    return wire(
        schemas.MicrophoneStatus,
        state=SourceState(state),
        code=code,
        reason=reason,
        notice=notice,
        since=since or datetime.now(UTC),
    )


class Subscribe(schemas.Subscribe):
    epoch: str | None = None


class Peer:
    """One server; ``stop`` and ``start`` keep what it knows, as a real one keeps it on disk."""

    def __init__(self) -> None:
        self.server_id = str(uuid.uuid4())
        self.epoch = str(uuid.uuid4())
        self.storage_problem: str | None = None
        self.overload: str | None = None
        self.api_version = 1
        self.token = TOKEN
        self.model = MODEL
        self.library = load_library()
        self.found: dict[str, list[float]] = {}
        self.guessed: set[str] = set()
        """By label, the highest threshold with which each event of a test was found."""
        self.settings: dict[str, MicrophoneSettings] = {}
        self.adopted: set[str] = set()
        self.muted: set[str] = set()
        self.refuse_mute: str | None = None
        self.forgotten: set[str] = set()
        self.statuses: dict[str, dict[str, Any]] = {}
        self.since: datetime | None = None
        self.changes: list[schemas.EventMessage] = []
        self.clips: dict[str, bytes] = {}
        self.coming_clips: dict[str, bytes] = {}
        self.clip_comes_at_request = 0
        self.refuse: dict[str, str] = {}
        self.silent: dict[str, tuple[str, str]] = {}
        self.checked: list[str] = []
        self.self_test: schemas.SelfTestResult | str = "The microphone is not listening: stalled"
        self.windows: dict[str, list[schemas.ExplainedWindow]] = {}
        self.classification: schemas.Classification | str = "audio: this is no sound"
        self.uploads: list[tuple[bytes, dict[str, Any]]] = []
        self.verdicts: list[tuple[str, str]] = []
        self.requests: list[tuple[str, str]] = []
        self.subscriptions: list[Subscribe] = []
        self.break_after_changes: int | None = None
        self.breaks_after_replay = False
        self.microphones_in_a_message = 100
        self.answer_everything_with: web.Response | None = None
        self.greeting: str | None = None
        self.replayed: str | None = None
        self.frozen = False
        self.hangs = False
        self.thawed = asyncio.Event()
        self.first_sequence = 0
        self.port = 0
        self._sockets: set[web.WebSocketResponse] = set()
        self._subscribed = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    # --- running ---

    async def start(self) -> None:
        app = web.Application(middlewares=[self._authenticate], client_max_size=2**26)
        app.router.add_get("/api/info", self._get_info)
        app.router.add_get("/api/labels", self._get_labels)
        app.router.add_get("/api/microphones", self._get_microphones)
        app.router.add_put("/api/microphones/{id}", self._put_microphone)
        app.router.add_post("/api/microphones/check", self._check_microphone)
        app.router.add_post("/api/microphones/{id}/release", self._release_microphone)
        app.router.add_put("/api/microphones/{id}/mute", self._mute)
        app.router.add_delete("/api/microphones/{id}/mute", self._mute)
        app.router.add_post("/api/microphones/{id}/self-test", self._self_test)
        app.router.add_get("/api/microphones/{id}/explain", self._explain)
        app.router.add_post("/api/sources/check", self._check_source)
        app.router.add_post("/api/classify", self._classify)
        app.router.add_get("/api/events", self._get_events)
        app.router.add_post("/api/events/{id}/feedback", self._feedback)
        app.router.add_get("/api/events/{id}/{file}", self._get_clip)
        app.router.add_get("/api/ws", self._websocket)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self.disconnect_all()
            await self._runner.cleanup()
            self._runner = None

    async def disconnect_all(self) -> None:
        for socket in tuple(self._sockets):
            await socket.close()

    async def subscribed(self, count: int = 1) -> None:
        """Wait until ``count`` clients in all have subscribed since the beginning."""
        async with asyncio.timeout(15), self._subscribed:
            await self._subscribed.wait_for(lambda: len(self.subscriptions) >= count)

    # --- what a test makes happen ---

    @property
    def last_sequence(self) -> int:
        return self.changes[-1].sequence if self.changes else self.first_sequence

    async def start_event(
        self,
        microphone_id: str,
        label_id: str = "glass_breaking",
        *,
        age: timedelta = timedelta(),
        pattern: AlarmPattern | None = None,
        close: list[schemas.CloseLabel] | None = None,
        group: schemas.EventGroupInfo | None = None,
        score: float = 0.8,
    ) -> schemas.EventInfo:
        started_at = datetime.now(UTC) - age
        microphone = self.microphone(microphone_id)
        label = next((label for label in microphone["labels"] if label["id"] == label_id), None)
        event = schemas.EventInfo(
            id=str(uuid.uuid4()),
            sequence=self.last_sequence + 1,
            microphone_id=microphone_id,
            microphone_name=microphone["name"],
            label_id=label_id,
            label_name=label["name"] if label else label_id,
            started_at=started_at,
            detected_at=started_at,
            ended_at=None,
            threshold=0.7,
            score=score,
            peak_score=score,
            peak_level_dbfs=-12.5,
            has_clip=False,
            pattern=pattern,
            close=close or [],
            group=group,
        )
        await self._change("started", event)
        return event

    async def confirm_event(self, event: schemas.EventInfo, pattern: AlarmPattern) -> schemas.EventInfo:
        return await self.tell_more(event, pattern=pattern)

    async def tell_more(self, event: schemas.EventInfo, **news: Any) -> schemas.EventInfo:
        confirmed = event.model_copy(update=news)
        await self.send(schemas.EventConfirmedMessage(event=confirmed))
        return confirmed

    async def end_event(
        self, event: schemas.EventInfo, *, ended_at: datetime | None = None, peak_score: float = 0.9
    ) -> schemas.EventInfo:
        ended = event.model_copy(
            update={
                "sequence": self.last_sequence + 1,
                "ended_at": ended_at or datetime.now(UTC),
                "peak_score": peak_score,
                "has_clip": True,
            }
        )
        await self._change("ended", ended)
        return ended

    async def _change(self, change: str, event: schemas.EventInfo) -> None:
        message = schemas.EventMessage(sequence=event.sequence, change=change, event=event)
        self.changes.append(message)
        await self.send(message)

    async def set_status(self, microphone_id: str, value: dict[str, Any]) -> None:
        self.statuses[microphone_id] = value
        await self.send(wire(schemas.MicrophoneMessage, microphone_id=microphone_id, status=value))

    async def send_scores(self, microphone_id: str, **scores: float) -> None:
        await self.send(
            schemas.ScoresMessage(
                microphone_id=microphone_id, at=datetime.now(UTC), level_dbfs=-20, scores=scores
            )
        )

    async def send_level(self, microphone_id: str, level_dbfs: float, *, at: datetime | None = None) -> None:
        await self.send(
            schemas.LevelMessage(
                microphone_id=microphone_id,
                at=at or datetime.now(UTC),
                level_dbfs=level_dbfs,
                noise_floor_dbfs=-60,
                gated=False,
            )
        )

    async def send(self, message: BaseModel | dict[str, Any] | str) -> None:
        for socket in tuple(self._sockets):
            # One that closes gets it by the next replay.
            with contextlib.suppress(ConnectionError):
                await socket.send_str(text(message))

    async def remove_microphone(self, microphone_id: str) -> None:
        del self.settings[microphone_id]
        self.adopted.discard(microphone_id)
        await self.send(schemas.MicrophoneRemovedMessage(microphone_id=microphone_id))

    async def tell_microphone(self, microphone_id: str) -> None:
        message = wire(schemas.MicrophoneChangedMessage, microphone=self.microphone(microphone_id))
        await self.send(message)

    # --- what it knows ---

    def info(self, **changes: Any) -> dict[str, Any]:
        code = "disk_full" if self.storage_problem else None
        return (
            wire(
                schemas.ServerInfo,
                server_id=self.server_id,
                epoch=self.epoch,
                version="0.1.0",
                api_version=self.api_version,
                model=self.model,
                label_library_version=self.library.version,
                last_sequence=self.last_sequence,
                storage={"problem": self.storage_problem, "code": code},
                overload=self.overload,
            )
            | changes
        )

    def open_events(self) -> dict[str, tuple[str, str]]:
        """Return microphone and label of the events that go on, by their ids."""
        found: dict[str, tuple[str, str]] = {}
        for message in self.changes:
            if message.event.id in self.forgotten:
                continue
            if message.change == "started":
                found[message.event.id] = (message.event.microphone_id, message.event.label_id)
            else:
                found.pop(message.event.id, None)
        return found

    def microphone(self, microphone_id: str) -> dict[str, Any]:
        settings = self.settings[microphone_id]
        active = set(self.open_events().values())
        labels = [
            self._watched(choice, settings, active=(microphone_id, label_id) in active)
            for choice in settings.labels
            for label_id in (self.library.resolve(choice.label).id,)
        ]
        source = settings.source
        if isinstance(source, UrlSourceSettings):
            source = UrlSourceSettings(url=redact_url(source.url))
        return wire(
            schemas.MicrophoneInfo,
            id=microphone_id,
            name=settings.name,
            source=source,
            labels=labels,
            negatives=list(settings.negatives),
            hop_s=settings.hop_s,
            enabled=settings.enabled,
            muted=microphone_id in self.muted,
            recording=settings.recording,
            denoise=settings.denoise,
            owner=settings.owner,
            adopted=microphone_id in self.adopted,
            status=self._status(microphone_id),
            windows_scored=0,
            windows_gated=0,
            windows_dropped=0,
        )

    def _watched(
        self, choice: LabelChoice, settings: MicrophoneSettings, *, active: bool = False
    ) -> schemas.WatchedLabelInfo:
        label = self.library.resolve(choice.label)
        threshold = label.threshold if choice.threshold is None else choice.threshold
        unknown = why_unknown(
            label,
            self.found,
            negatives=bool(settings.negatives),
            denoise=settings.denoise,
            hop_s=settings.hop_s,
        )
        lowered = None
        if label.library and threshold == label.threshold < 0.7:
            lowered = schemas.Lowered(found=self._share(label.id, 0.7), words="in words")
        return schemas.WatchedLabelInfo(
            id=label.id,
            name=label.names["en"],
            kind=label.kind,
            threshold=threshold,
            icon=label.icon,
            library=label.library,
            active=active,
            false_alarms_per_day=rate_of_score(threshold) if label.prompts else None,
            found=None if unknown else self._share(label.id, threshold),
            found_unknown=unknown if label.prompts else None,
            guessed=label.id in self.guessed,
            lowered=lowered,
            meaning="in words",
        )

    def _share(self, label_id: str, threshold: float) -> schemas.FoundInTests | None:
        if (scores := self.found.get(label_id)) is None:
            return None
        share = sum(score >= threshold for score in scores) / len(scores)
        return schemas.FoundInTests(
            found=round(share * len(scores)), events=len(scores), share=share, low=share, high=share
        )

    def _status(self, microphone_id: str) -> dict[str, Any]:
        if microphone_id in self.muted:
            reason = "muted: nothing is listened to until it is unmuted"
            return status("muted", "muted", reason, since=self.since)
        return self.statuses.get(microphone_id, status(since=self.since))

    def microphones(self) -> list[dict[str, Any]]:
        return [self.microphone(microphone_id) for microphone_id in self.settings]

    # --- HTTP ---

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        if self.hangs:
            await self.thawed.wait()
        if self.answer_everything_with is not None:
            return self.answer_everything_with
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return problem(401, "unauthorized", "Send the token.")
        return await handler(request)

    async def _get_info(self, _: web.Request) -> web.Response:
        return answer(self.info())

    async def _get_labels(self, _: web.Request) -> web.Response:
        labels = [
            schemas.LabelInfo(
                id=label.id,
                names=dict(label.names),
                prompts=list(label.prompts),
                negatives=list(label.negatives),
                kind=label.kind,
                threshold=label.threshold,
                icon=label.icon,
                library=True,
                false_alarms_per_day=rate_of_score(label.threshold),
                found=self._share(label.id, label.threshold),
                found_unknown=why_unknown(label, self.found),
                guessed=label.id in self.guessed,
                lowered=None,
                meaning="in words",
            )
            for label in self.library.labels
        ]
        return answer(schemas.LabelLibrary(version=self.library.version, labels=labels))

    async def _get_microphones(self, _: web.Request) -> web.Response:
        return answer({"microphones": self.microphones()})

    async def _put_microphone(self, request: web.Request) -> web.Response:
        microphone_id = request.match_info["id"]
        settings = self._checked(microphone_id, await request.json())
        if isinstance(settings, web.Response):
            return settings
        old = self.settings.get(microphone_id)
        self.settings[microphone_id] = settings
        if old is not None and old.owner == "server" != settings.owner:
            self.adopted.add(microphone_id)
        if old != settings:
            await self.tell_microphone(microphone_id)
        return answer(self.microphone(microphone_id))

    async def _check_microphone(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert body.keys() == {"id", "settings"}
        settings = self._checked(body["id"], body["settings"])
        if isinstance(settings, web.Response):
            return settings
        labels = [self._watched(choice, settings) for choice in settings.labels]
        return answer(schemas.CheckedMicrophone(labels=labels, source=settings.source))

    def _checked(self, microphone_id: str | None, body: Any) -> MicrophoneSettings | web.Response:
        try:
            settings = MicrophoneSettings.model_validate(body)
        except ValidationError as error:
            errors = [{"field": str(item["loc"][0]), "message": item["msg"]} for item in error.errors()]
            return problem(422, "invalid", "Mend the settings.", errors)
        if isinstance(settings.source, UrlSourceSettings):
            old = self.settings.get(microphone_id or "")
            old_url = old.source.url if old and isinstance(old.source, UrlSourceSettings) else None
            try:
                url = restore_url(settings.source.url, old_url)
                check_url(url)
            except SourceError as error:
                return problem(422, error.code, error.reason)
            settings = settings.model_copy(update={"source": UrlSourceSettings(url=url)})
        if detail := self.refuse.get(settings.name):
            return problem(422, "invalid", detail)
        return settings

    async def _release_microphone(self, request: web.Request) -> web.Response:
        microphone_id = request.match_info["id"]
        release = schemas.Release.model_validate_json(await request.read())
        if (settings := self.settings.get(microphone_id)) is None:
            return problem(404, "no_such_microphone", "There is no such microphone.")
        if settings.owner != release.owner:
            return problem(409, "not_owner", "It belongs to another.")
        if microphone_id in self.adopted:
            self.adopted.discard(microphone_id)
            self.settings[microphone_id] = settings.model_copy(update={"owner": "server"})
            await self.tell_microphone(microphone_id)
        else:
            await self.remove_microphone(microphone_id)
        return web.Response(status=204)

    async def _mute(self, request: web.Request) -> web.Response:
        microphone_id = request.match_info["id"]
        assert microphone_id in self.settings
        if self.refuse_mute is not None:
            return problem(409, "refused", self.refuse_mute)
        (self.muted.add if request.method == "PUT" else self.muted.discard)(microphone_id)
        await self.tell_microphone(microphone_id)
        return answer(self.microphone(microphone_id))

    async def _self_test(self, request: web.Request) -> web.Response:
        assert schemas.SelfTest.model_validate_json(await request.read()) == schemas.SelfTest()
        assert request.match_info["id"] in self.settings
        if isinstance(self.self_test, str):
            return problem(409, "not_listening", self.self_test)
        return answer(self.self_test)

    async def _explain(self, request: web.Request) -> web.Response:
        microphone_id = request.match_info["id"]
        windows = self.windows.get(microphone_id)
        if windows is None:
            return problem(404, "no_such_microphone", "There is no such microphone.")
        return answer(
            schemas.Explanation(
                microphone_id=microphone_id,
                seconds=int(request.query["seconds"]),
                status=schemas.MicrophoneStatus.model_validate(self._status(microphone_id)),
                conclusions=[],
                windows_scored=0,
                windows_gated=0,
                windows_dropped=0,
                windows_failed=0,
                labels=[],
                moments=[],
                windows=windows,
            )
        )

    async def _check_source(self, request: web.Request) -> web.Response:
        source = schemas.SourceCheck.model_validate(await request.json()).source
        assert isinstance(source, UrlSourceSettings)
        self.checked.append(source.url)
        if source.url in self.silent:
            code, reason = self.silent[source.url]
            return problem(422, code, f"source: {reason}", [{"field": "source", "message": reason}])
        return answer(schemas.SourceHeard(level_dbfs=-30))

    async def _get_events(self, request: web.Request) -> web.Response:
        query = request.query
        assert query.keys() <= {"before", "microphone", "label", "limit"}
        newest = {message.event.id: message.event for message in self.changes}
        events = sorted(newest.values(), key=lambda event: event.sequence)
        events = [
            event
            for event in events
            if event.sequence < int(query.get("before", event.sequence + 1))
            and event.microphone_id == query.get("microphone", event.microphone_id)
            and event.label_id == query.get("label", event.label_id)
        ][-int(query["limit"]) :]
        return answer(schemas.EventList(events=events, last_sequence=self.last_sequence, epoch=self.epoch))

    async def _feedback(self, request: web.Request) -> web.Response:
        verdict = schemas.Feedback.model_validate_json(await request.read()).verdict
        known = {message.event.id: message.event for message in self.changes}
        if (event := known.get(request.match_info["id"])) is None:
            return problem(404, "no_such_event", "There is no event of this id.")
        self.verdicts.append((event.id, verdict))
        taken = {"feedback": verdict, "learnt": True, "learnt_words": "it counts", "score_now": 0.25}
        return answer(schemas.FeedbackTaken(**(event.model_dump() | taken)))

    async def _classify(self, request: web.Request) -> web.Response:
        fields = dict(await request.post())
        audio = fields.pop("audio")
        assert isinstance(audio, web.FileField)
        self.uploads.append((audio.file.read(), fields))
        if isinstance(self.classification, str):
            return problem(422, "unreadable_audio", self.classification)
        return answer(self.classification)

    async def _get_clip(self, request: web.Request) -> web.Response:
        clip = self.clips.get(f"{request.match_info['id']}/{request.match_info['file']}")
        if clip is None and self.clip_comes_at_request > 0:
            self.clip_comes_at_request -= 1
            self.clips.update(self.coming_clips if self.clip_comes_at_request == 0 else {})
            return problem(404, "no_clip_yet", "The sound still goes on.")
        if clip is None:
            return problem(404, "no_clip", "This event has no recording.")
        return web.Response(body=clip)

    # --- WebSocket ---

    def _missed(self, subscribe: Subscribe) -> list[schemas.EventMessage]:
        after = subscribe.after
        if after is None:
            return []
        known = {message.sequence: message.event.id for message in self.changes}
        other_epoch = subscribe.epoch not in (None, self.epoch)
        other_event = subscribe.event_id not in (None, known.get(after, subscribe.event_id))
        if other_epoch or other_event or after > self.last_sequence:
            after = 0
        return [message for message in self.changes if message.sequence > after]

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(text(self.greeting or self.info()))
        first = await socket.receive()
        if first.type is not WSMsgType.TEXT:
            return socket
        subscribe = Subscribe.model_validate_json(first.data)
        listed, size = self.microphones(), self.microphones_in_a_message
        for start in range(0, max(len(listed), 1), size):
            part = listed[start : start + size]
            message = wire(schemas.MicrophonesMessage, microphones=part, more=start + size < len(listed))
            await socket.send_str(text(message))
        missed = self._missed(subscribe)
        if self.break_after_changes is not None:
            missed = missed[: self.break_after_changes]
        for message in missed:
            await socket.send_str(text(message))
        if self.break_after_changes is not None:
            self.break_after_changes = None
            await socket.close()
            return socket
        replayed = wire(
            schemas.ReplayedMessage, last_sequence=self.last_sequence, active=list(self.open_events())
        )
        await socket.send_str(text(self.replayed or replayed))
        self._sockets.add(socket)
        async with self._subscribed:
            self.subscriptions.append(subscribe)
            self._subscribed.notify_all()
        try:
            if self.breaks_after_replay:
                await socket.close()
            if self.frozen:
                # A machine that lost its power: the connection stays open and nothing answers pings.
                await self.thawed.wait()
            async for _ in socket:
                pass
        finally:
            self._sockets.discard(socket)
        return socket


def text(message: BaseModel | dict[str, Any] | str) -> str:
    match message:
        case str():
            return message
        case BaseModel():
            return message.model_dump_json()
    return json.dumps(message)


def answer(body: BaseModel | dict[str, Any]) -> web.Response:
    return web.Response(text=text(body), content_type="application/json")


def problem(code: int, name: str, detail: str, errors: list[dict[str, str]] | None = None) -> web.Response:
    body = schemas.Problem(type=f"/problems/{name}", title=name, status=code, detail=detail, errors=errors)
    return web.Response(status=code, text=body.model_dump_json(), content_type="application/problem+json")
