"""POST /api/classify: scores of an uploaded recording."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from aiohttp import BodyPartReader, web

from clap_server.api.context import context, json_response
from clap_server.api.present import score
from clap_server.api.problems import ProblemError, invalid
from clap_server.api.route import Route
from clap_server.api.schemas import Classification, LabelScore, WindowScores
from clap_server.audio.decode import decode
from clap_server.detection.library import NORMAL, split_labels
from clap_server.detection.scoring import LabelScorer
from clap_server.errors import AudioError, LabelError, ModelError, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from typing import BinaryIO

    from numpy.typing import NDArray

    from clap_server.api.context import Context
    from clap_server.clap.model import ClapModel
    from clap_server.detection.labels import Label

MAX_UPLOAD_BYTES = 200_000_000
MAX_FIELD_BYTES = 1_000_000
MAX_DURATION_S = 900.0
DEFAULT_THRESHOLD = 0.5
HOP_S = 0.5
# Few windows at a time: live microphones get their turn in between.
CHUNK_WINDOWS = 8
COPY_BYTES = 1 << 20
MODEL_CHANGES = 3


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
            answer = await _classify(shared, upload.audio, upload)
    shared.metrics.file_classified()
    return json_response(answer.model_dump_json())


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
        "upload-too-large",
        f"The upload is larger than {MAX_UPLOAD_BYTES // 1_000_000} MB; "
        "send a shorter recording or a compressed one",
    )


@contextlib.asynccontextmanager
async def _received(request: web.Request, shared: Context) -> AsyncIterator[_Upload]:
    """Read the form; the recording goes to a file that is removed at the end."""
    if request.content_type != "multipart/form-data":
        raise ProblemError(
            415, "not-multipart", "Send multipart/form-data with the fields 'audio' (a file) and 'labels'"
        )
    if (request.content_length or 0) > MAX_UPLOAD_BYTES + MAX_FIELD_BYTES:
        raise _too_large()
    folder = shared.store.folder.cache / "uploads"
    upload = _Upload()
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(exist_ok=True)
            file = stack.enter_context(tempfile.NamedTemporaryFile(dir=folder, prefix="upload-"))
        except OSError as error:
            raise _unwritable(error) from error
        try:
            await _read_form(request, upload, file)
        except (ValueError, AssertionError, RuntimeError) as error:
            raise ProblemError(
                400,
                "invalid-multipart",
                "The form is damaged or incomplete; send it again as multipart/form-data",
            ) from error
        yield upload


async def _read_form(
    request: web.Request, upload: _Upload, file: tempfile._TemporaryFileWrapper[bytes]
) -> None:
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            raise invalid("body", "must not hold a form within the form")
        match part.name:
            case "audio":
                if upload.audio is not None:
                    raise invalid("audio", "was sent twice; send one recording")
                await _store(part, file)
                upload.audio = Path(file.name)
            case "labels":
                try:
                    upload.labels = split_labels(await _text(part))
                except LabelError as error:
                    raise invalid("labels", str(error), "invalid-label") from error
            case "threshold":
                upload.threshold = _threshold(await _text(part))
            case "normalize":
                upload.normalize = _normalize(await _text(part))
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
        raise _unwritable(error) from error


def _finish(file: BinaryIO | tempfile._TemporaryFileWrapper[bytes], rest: bytes) -> None:
    file.write(rest)
    file.flush()


def _unwritable(error: OSError) -> StoreError:
    return StoreError(
        f"The upload cannot be kept while it is read ({error.strerror}); free some space on the server"
    )


async def _text(part: BodyPartReader) -> str:
    data = bytearray()
    while chunk := await part.read_chunk(1 << 16):
        data += chunk
        if len(data) > MAX_FIELD_BYTES:
            raise ProblemError(413, "field-too-large", f"The field '{part.name}' is far too long; shorten it")
    try:
        return data.decode().strip()
    except UnicodeDecodeError:
        raise invalid(part.name or "", "must be text in UTF-8") from None


def _threshold(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise invalid("threshold", "must be a number from 0 to 1") from None
    if not 0 <= value <= 1:
        raise invalid("threshold", "must be from 0 to 1")
    return value


def _normalize(text: str) -> Literal["softmax"] | None:
    if text in {"", "none"}:
        return None
    if text != "softmax":
        raise invalid("normalize", "must be 'softmax', or left out")
    return "softmax"


async def _classify(shared: Context, audio: Path, upload: _Upload) -> Classification:
    try:
        labels = shared.library.resolve_all(upload.labels)
    except LabelError as error:
        raise invalid("labels", str(error), "invalid-label") from error
    for _ in range(MODEL_CHANGES):
        model = shared.holder.model
        try:
            samples = await asyncio.to_thread(decode, audio, model.sample_rate, max_duration_s=MAX_DURATION_S)
        except AudioError as error:
            raise invalid("audio", str(error), "unreadable-audio") from error
        bounds = _bounds(len(samples), model)
        scores = await _scores(shared, model, [samples[start:end] for start, end in bounds], labels, upload)
        if shared.holder.model is model:
            return _answer(
                upload,
                labels=labels,
                bounds=bounds,
                scores=scores,
                count=len(samples),
                sample_rate=model.sample_rate,
            )
    raise ModelError("The model changed while the recording was scored; send it again")


def _bounds(count: int, model: ClapModel) -> list[tuple[int, int]]:
    """First and last sample of each window; the last one ends with the recording."""
    length, hop = round(model.window_s * model.sample_rate), round(HOP_S * model.sample_rate)
    starts = [*range(0, max(1, count - length), hop)]
    if count > length:
        starts.append(count - length)
    return [(start, min(count, start + length)) for start in starts]


async def _scores(
    shared: Context,
    model: ClapModel,
    windows: Sequence[NDArray[np.float32]],
    labels: Sequence[Label],
    upload: _Upload,
) -> NDArray[np.float32]:
    # In the model's own thread: a model may be used from one at a time.
    scorer = await shared.supervisor.batcher.run(
        lambda: LabelScorer(model, labels, shared.library.background)
    )
    parts = []
    for first in range(0, len(windows), CHUNK_WINDOWS):
        embeddings = await shared.supervisor.embed(windows[first : first + CHUNK_WINDOWS])
        parts.append(
            scorer.distribution(embeddings) if upload.normalize == "softmax" else scorer.scores(embeddings)
        )
    scores = np.concatenate(parts)
    columns = [scorer.label_ids.index(label.id) for label in labels]
    return scores[:, columns]


def _answer(
    upload: _Upload,
    *,
    labels: Sequence[Label],
    bounds: Sequence[tuple[int, int]],
    scores: NDArray[np.float32],
    count: int,
    sample_rate: int,
) -> Classification:
    # Nothing of interest was heard only as far as that is so in every window.
    best = [
        round(score(column.min() if label.id == NORMAL.id else column.max()), 6)
        for label, column in zip(labels, scores.T, strict=True)
    ]
    ranked = sorted(zip(upload.labels, best, strict=True), key=lambda pair: -pair[1])
    return Classification(
        top_label=ranked[0][0],
        top_score=ranked[0][1],
        labels=[
            LabelScore(label=label, score=value, detected=value >= upload.threshold)
            for label, value in ranked
        ],
        threshold=upload.threshold,
        duration_s=round(count / sample_rate, 3),
        windows=[
            WindowScores(
                start_s=round(start / sample_rate, 3),
                end_s=round(end / sample_rate, 3),
                scores={
                    label: round(score(value), 6) for label, value in zip(upload.labels, row, strict=True)
                },
            )
            for (start, end), row in zip(bounds, scores, strict=True)
        ],
    )


ROUTES = (
    Route(
        "POST",
        "/api/classify",
        classify,
        "Score a recording",
        "Classify",
        description=(
            "Each label's score is independent of the other labels, and is the highest of any window."
            " `normal` is the complement: its score is the lowest of any window."
            " With `normalize=softmax` the scores of a window are a distribution over the labels."
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
                                "description": "any recording that FFmpeg reads",
                            },
                            "labels": {
                                "type": "string",
                                "description": "1 to 200 labels, separated by commas",
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
    ),
)
