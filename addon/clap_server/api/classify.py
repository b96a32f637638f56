"""POST /api/classify: scores of an uploaded recording."""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clap_server.api.context import context, has_left, json_response
from clap_server.api.form import MAX_FIELD_BYTES, parts_of, read_text, receiving
from clap_server.api.present import classification, meanings_of
from clap_server.api.problems import ProblemError, client_gone, invalid
from clap_server.api.route import Route
from clap_server.api.schemas import Classification
from clap_server.audio.decode import decode_blocks
from clap_server.detection.classify import classify as classify_blocks
from clap_server.detection.library import split_labels
from clap_server.errors import AudioError, LabelError
from clap_server.listening.shared_model import SharedModel
from clap_server.store.folder import PRIVATE_FOLDER
from clap_server.store.trouble import explain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import BodyPartReader, web

    from clap_server.api.context import Context

MAX_UPLOAD_BYTES = 200_000_000
MAX_DURATION_S = 900.0
DEFAULT_THRESHOLD = 0.5
HOP_S = 0.5
COPY_BYTES = 1 << 20
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
# How soon it is noticed that a client has gone, in seconds.
_LOOK_S = 0.25


@dataclass(slots=True)
class _Upload:
    """What the form held."""

    audio: Path | None = None
    labels: list[str] = field(default_factory=list)
    threshold: float = DEFAULT_THRESHOLD
    normalize: Literal["softmax"] | None = None


async def classify(request: web.Request) -> web.Response:
    """Score a recording."""
    shared = context(request)
    async with _received(request, shared) as upload:
        if upload.audio is None:
            raise invalid("audio", "is required: send a recording as a file")
        if not upload.labels:
            raise invalid("labels", "is required: name at least one sound, such as 'glass breaking, alarm'")
        async with shared.classify_slots:
            answer = await _classify(request, upload.audio, upload)
    shared.metrics.file_classified()
    return json_response(answer)


async def refuse_large(request: web.Request) -> web.StreamResponse | None:
    """Answer ``Expect: 100-continue``: a client that asks first need not send what is too large."""
    if (request.content_length or 0) > MAX_UPLOAD_BYTES + MAX_FIELD_BYTES:
        return _too_large().response()
    if request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return None


def _too_large() -> ProblemError:
    return ProblemError(
        413,
        "upload_too_large",
        f"The upload is larger than {MAX_UPLOAD_BYTES // 1_000_000} MB; "
        "send a shorter recording or a compressed one",
    )


@contextlib.asynccontextmanager
async def _received(request: web.Request, shared: Context) -> AsyncIterator[_Upload]:
    """Read the form; the recording goes to a file that is removed at the end."""
    if (request.content_length or 0) > MAX_UPLOAD_BYTES + MAX_FIELD_BYTES:
        raise _too_large()
    folder = shared.store.folder.uploads
    upload = _Upload()
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
            file = stack.enter_context(tempfile.NamedTemporaryFile(dir=folder, prefix="upload-"))
        except OSError as error:
            raise explain(error, folder, "clips_failed") from error
        with receiving(request, "the fields 'audio' (a file) and 'labels'"):
            await _read_form(request, upload, file)
        yield upload


async def _read_form(
    request: web.Request, upload: _Upload, file: tempfile._TemporaryFileWrapper[bytes]
) -> None:
    seen = set()
    async for part in parts_of(request):
        if part.name in seen:
            raise invalid(part.name or "", "was sent twice; send each field once")
        seen.add(part.name)
        match part.name:
            case "audio":
                await _store(part, file)
                upload.audio = Path(file.name)
            case "labels":
                try:
                    upload.labels = split_labels(await read_text(part))
                except LabelError as error:
                    raise invalid("labels", str(error), "invalid_label") from error
            case "threshold":
                upload.threshold = _threshold(await read_text(part))
            case "normalize":
                upload.normalize = _normalize(await read_text(part))
            case other:
                raise invalid(
                    (other or "")[:50], "is not a field here; use audio, labels, threshold and normalize"
                )


async def _store(part: BodyPartReader, file: tempfile._TemporaryFileWrapper[bytes]) -> None:
    size = 0
    waiting = bytearray()
    try:
        while chunk := await part.read_chunk(1 << 16):
            size += len(chunk)
            if size > MAX_UPLOAD_BYTES:
                raise _too_large()
            waiting += chunk
            if len(waiting) >= COPY_BYTES:
                await asyncio.to_thread(file.write, bytes(waiting))
                waiting.clear()
        await asyncio.to_thread(_finish, file, bytes(waiting))
    except OSError as error:
        raise explain(error, Path(file.name).parent, "clips_failed") from error


def _finish(file: tempfile._TemporaryFileWrapper[bytes], rest: bytes) -> None:
    file.write(rest)
    file.flush()


def _threshold(text: str) -> float:
    # Python's own reading also takes other digits and underscores.
    if not _NUMBER.fullmatch(text):
        raise invalid("threshold", "must be a number from 0 to 1")
    value = float(text)
    if not 0 <= value <= 1:
        raise invalid("threshold", "must be from 0 to 1")
    return value


def _normalize(text: str) -> Literal["softmax"] | None:
    if text in {"", "none"}:
        return None
    if text != "softmax":
        raise invalid("normalize", "must be 'softmax', or left out")
    return "softmax"


async def _classify(request: web.Request, audio: Path, upload: _Upload) -> str:
    shared = context(request)
    model = SharedModel(shared.holder.model, shared.supervisor.batcher)

    def score_file() -> str:
        blocks = decode_blocks(audio, model.sample_rate, max_duration_s=MAX_DURATION_S)
        found = classify_blocks(
            model, shared.library, blocks, upload.labels, hop_s=HOP_S, normalize=upload.normalize
        )
        # In this thread too: of a long recording it is megabytes, for which live sound must not wait.
        meanings = meanings_of(
            upload.labels, shared.library, shared.holder.model, upload.threshold, upload.normalize
        )
        return classification(found, upload.threshold, meanings).model_dump_json()

    scoring = asyncio.create_task(asyncio.to_thread(score_file))
    try:
        while not scoring.done():
            if has_left(request):
                raise client_gone()
            await asyncio.wait([scoring], timeout=_LOOK_S)
        return scoring.result()
    except LabelError as error:
        raise invalid("labels", str(error), "invalid_label") from error
    except AudioError as error:
        raise invalid("audio", str(error), "unreadable_audio") from error
    finally:
        if not scoring.done():
            model.abandon()
            # The slot is free, and the recording may go, when the thread has let go of both.
            await asyncio.wait([scoring])
            scoring.exception()


ROUTES = (
    Route(
        "POST",
        "/api/classify",
        classify,
        "Score a recording",
        "Classify",
        description=(
            "The windows are those of live sound, and so is the gate for quiet: a window that live would not"
            " be scored counts as 0. Each label's score in a window is independent of the other labels;"
            " its score of the recording is the highest of any window."
            " `normal` is the complement of the others: its score is the lowest of any window."
            " With `normalize=softmax` the scores of a window are a distribution over the labels; the window"
            " that stands for the recording is the one in which a label other than `normal` is highest, and"
            " quiet is scored like the rest."
            f" Recordings may have up to {MAX_UPLOAD_BYTES // 1_000_000} MB"
            f" and {MAX_DURATION_S / 60:.0f} minutes."
        ),
        body={
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["audio", "labels"],
                        "additionalProperties": False,
                        "properties": {
                            "audio": {
                                "type": "string",
                                "format": "binary",
                                "description": "WAV, FLAC, MP3, OGG, M4A or another format that FFmpeg reads",
                            },
                            "labels": {
                                "type": "string",
                                "description": "1 to 200 labels, parted by Latin, Chinese or Arabic commas",
                                "examples": ["glass breaking, alarm, normal"],
                            },
                            "threshold": {
                                "type": "number",
                                "minimum": 0,
                                "maximum": 1,
                                "default": DEFAULT_THRESHOLD,
                            },
                            "normalize": {"type": "string", "enum": ["softmax"]},
                        },
                    }
                }
            },
        },
        answer=Classification,
        errors=(400, 413, 415, 422),
        trusted=True,
    ),
)
