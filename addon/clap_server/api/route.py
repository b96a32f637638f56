"""One row of the route table, from which the application and OpenAPI are both made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web
    from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter.

    Attributes:
        name: in the address.
        schema: JSON schema of its value.
        description: in words.
    """

    name: str
    schema: dict[str, Any]
    description: str


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A request that the server answers.

    Attributes:
        method: HTTP method.
        path: with ``{name}`` for a path parameter.
        handler: answers it.
        summary: one line.
        tag: heading under which it is documented.
        description: more, in Markdown.
        status: of the good answer.
        also: further statuses of good answers with the same body.
        file: whether the answer is a file, of which a part may be asked for, or only what is new.
        answer: schema of the good answer, or its content type; None if it has no body.
        body: schema of a JSON body, or an OpenAPI request body.
        partial: whether the body may leave anything out.
        query: parameters in the address.
        errors: statuses of the problems that it may answer with, besides 401, 503 and 415 for a body.
        public: whether it is answered without a token.
        trusted: whether it is answered to trusted networks without one; for what changes nothing and gives
            out no sound of the home.
    """

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    summary: str
    tag: str
    description: str = ""
    status: int = 200
    also: tuple[int, ...] = ()
    file: bool = False
    answer: type[BaseModel] | str | None = None
    body: type[BaseModel] | dict[str, Any] | None = None
    partial: bool = False
    query: tuple[Parameter, ...] = ()
    errors: tuple[int, ...] = ()
    public: bool = False
    trusted: bool = False

    @property
    def path_parameters(self) -> tuple[str, ...]:
        """Names in the path."""
        return tuple(re.findall(r"{(\w+)}", self.path))
