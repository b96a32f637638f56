"""Errors as problem details (RFC 9457); every detail says what to do."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from clap_server.api.schemas import Problem
from clap_server.errors import ClapServerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONTENT_TYPE = "application/problem+json"
MAX_LISTED_ERRORS = 20
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_Model = TypeVar("_Model", bound=BaseModel)


class ProblemError(ClapServerError):
    """A request that cannot be answered as asked.

    Args:
        status: HTTP status.
        code: stable name; becomes the type ``/problems/<code>``.
        detail: what is wrong and what to do, in words.
        errors: what is wrong with which field.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        """The answer that tells it."""
        problem = Problem(
            type=f"/problems/{self.code}",
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            errors=[{"field": field, "message": message} for field, message in self.errors] or None,
        )
        return web.Response(
            status=self.status,
            text=problem.model_dump_json(exclude_none=True),
            content_type=CONTENT_TYPE,
            headers=self.headers,
        )


def invalid(field: str, message: str, code: str = "invalid_request") -> ProblemError:
    """A value that is not usable."""
    return ProblemError(422, code, f"{field}: {message}", errors=[(field, message)])


def not_found(what: str, code: str) -> ProblemError:
    """Something that is not there."""
    return ProblemError(404, code, what)


def client_gone() -> ProblemError:
    """For the log alone: whoever asked does not read it any more."""
    return ProblemError(408, "client_gone", "The client closed the connection before the answer was ready")


def from_validation(error: ValidationError) -> ProblemError:
    """Put pydantic's findings into words, field by field; what was sent is never repeated."""
    items = error.errors(include_url=False, include_input=False)
    # A list counts as too short when its items are wrong, which is then all there is to tell.
    items = [
        item
        for item in items
        if not (item["type"] == "too_short" and any(_within(other["loc"], item["loc"]) for other in items))
    ]
    if any(item["type"] == "json_invalid" for item in items):
        return ProblemError(400, "invalid_json", "The body is not JSON; send a JSON object in UTF-8")
    errors = [(_field(item["loc"]), _message(item)) for item in items[:MAX_LISTED_ERRORS]]
    field, message = errors[0]
    detail = f"{field}: {message}" if field else message
    if len(items) > 1:
        detail += f" (and {len(items) - 1} more)"
    return ProblemError(422, "invalid_request", detail, errors=errors)


def _within(inner: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _field(loc: tuple[int | str, ...]) -> str:
    # The names of a source's types are part of pydantic's path, not of the body.
    parts = [
        str(part)
        for index, part in enumerate(loc)
        if not (index and loc[index - 1] == "source" and part in {"url", "file", "device", "push"})
    ]
    return ".".join(parts)


_MESSAGES = {
    "missing": "is required",
    "extra_forbidden": "is not known; remove it",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_too_short": "must have at least {min_length} character(s)",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "has characters that are not allowed; it must match {pattern}",
    "too_short": "needs at least {min_length} item(s)",
    "too_long": "takes at most {max_length} items",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "set_type": "must be a list",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "union_tag_invalid": "must have a type that is one of {expected_tags}",
    "union_tag_not_found": "needs a 'type': url, file, device or push",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
}


def _message(item: Any) -> str:
    template = _MESSAGES.get(item["type"])
    if template is None:
        return str(item["msg"])
    return template.format(**item.get("ctx", {}))


def parse(schema: type[_Model], body: bytes | str | dict[str, Any]) -> _Model:
    """Check what was sent against a schema.

    Args:
        schema: what it should be.
        body: JSON text, or what was read from it.

    Raises:
        ProblemError: it is not that; says per field what is wrong.
    """
    try:
        if isinstance(body, dict):
            # In JSON's own mode, where a list may become a tuple or a set.
            return schema.model_validate_json(to_json(body))
        return schema.model_validate_json(body)
    except ValidationError as error:
        raise from_validation(error) from None


async def read_body(request: web.Request, schema: type[_Model]) -> _Model:
    """Read a JSON body and check it against a schema.

    Raises:
        ProblemError: it is not JSON, or not what it should be.
    """
    return parse(schema, await request.read())


def _given_once(request: web.Request, name: str) -> str | None:
    """A part of the query; None if it is not there."""
    given = request.query.getall(name, [])
    if len(given) > 1:
        raise invalid(name, "was given twice; give it once")
    return given[0] if given else None


def read_decimal(request: web.Request, name: str, low: float, high: float) -> float | None:
    """Read a number of the query; None if it is not there.

    Raises:
        ProblemError: it is no such number, or is given twice.
    """
    text = _given_once(request, name)
    if text is None:
        return None
    value = float(text) if _DECIMAL.fullmatch(text) else low - 1
    if not low <= value <= high:
        raise invalid(name, f"must be a number from {low:g} to {high:g}")
    return value


def read_number(request: web.Request, name: str, low: int, high: int) -> int | None:
    """Read a whole number of the query; None if it is not there.

    Raises:
        ProblemError: it is no such number, or is given twice.
    """
    text = _given_once(request, name)
    if text is None:
        return None
    if (
        not (text.isascii() and text.isdecimal())
        or len(text) > len(str(high))
        or not low <= int(text) <= high
    ):
        raise invalid(name, f"must be a whole number from {low} to {high}")
    return int(text)
