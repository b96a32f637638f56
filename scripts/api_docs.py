"""Writes docs/api.md, the API's description for people.

After a change of the API: .venv/server/bin/python scripts/api_docs.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clap_server.api.app import ROUTES
from clap_server.api.openapi import document

TARGET = Path(__file__).parent.parent / "docs" / "api.md"


def to_markdown(document: dict[str, Any]) -> str:
    """Describe an API for people; ``document`` is its OpenAPI description."""
    lines = [
        "# The API",
        "",
        "<!-- Made by scripts/api_docs.py; do not edit. -->",
        "",
        f"{document['info']['description']}",
        "",
        "A running server describes itself at `/api/openapi.json` and shows it at `/docs`.",
    ]
    for tag in document["tags"]:
        lines += ["", f"## {tag['name']}"]
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if tag["name"] in operation["tags"]:
                    lines += _operation(path, method, operation)
    lines += ["", "## Schemas"]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += _schema(name, schema)
    return "\n".join(lines) + "\n"


def _operation(path: str, method: str, operation: dict[str, Any]) -> list[str]:
    socket = "101" in operation["responses"]
    lines = ["", f"### `{'WS' if socket else method.upper()} {path}`", "", f"{operation['summary']}."]
    if "description" in operation:
        lines += ["", operation["description"]]
    if operation.get("security") == []:
        lines += ["", "Needs no token."]
    query = [item for item in operation.get("parameters", ()) if item["in"] == "query"]
    if query:
        lines += ["", "| query | type | meaning |", "|---|---|---|"]
        lines += [f"| `{item['name']}` | {_type(item['schema'])} | {item['description']} |" for item in query]
    for content_type, content in operation.get("requestBody", {}).get("content", {}).items():
        lines += ["", f"Body, `{content_type}`: {_type(content['schema'])}"]
        if "properties" in content["schema"]:
            lines += _fields(content["schema"])
    lines += [""]
    for status, answer in operation["responses"].items():
        for content_type, content in answer.get("content", {"": {"schema": {}}}).items():
            if content_type != "application/problem+json":
                shown = _type(content["schema"]) if content["schema"].get("$ref") else f"`{content_type}`"
                lines.append(f"Answers {status}" + (f" with {shown}" if content_type else "") + ".")
    problems = [
        status
        for status, answer in operation["responses"].items()
        if "application/problem+json" in answer.get("content", {})
    ]
    lines.append(f"Problems: {', '.join(problems)}.")
    return lines


def _schema(name: str, schema: dict[str, Any]) -> list[str]:
    lines = ["", f"### {name}", ""]
    if "description" in schema:
        lines += [" ".join(schema["description"].split())]
    if "enum" in schema:
        lines += ["", f"One of {', '.join(f'`{value}`' for value in schema['enum'])}."]
    return lines + _fields(schema)


def _fields(schema: dict[str, Any]) -> list[str]:
    if not schema.get("properties"):
        return []
    lines = ["", "| field | type | meaning |", "|---|---|---|"]
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        meaning = field.get("description", "")
        if name not in required and "default" in field:
            meaning = f"{meaning} (default: `{field['default']}`)".strip()
        optional = "" if name in required else "?"
        lines.append(f"| `{name}`{optional} | {_type(field)} | {meaning} |")
    return lines


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_type(option) for option in schema[several])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        least, most = schema.get("minItems"), schema.get("maxItems")
        count = f"{least} to {most} " if least and most else f"up to {most} " if most else ""
        return f"list of {count}{_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    limits = [
        f"{word} {schema[key]:.15g}" if isinstance(schema[key], float) else f"{word} {schema[key]}"
        for key, word in (
            ("minimum", "from"),
            ("exclusiveMinimum", "over"),
            ("maximum", "to"),
            ("exclusiveMaximum", "under"),
            ("maxLength", "up to"),
        )
        if key in schema
    ]
    if schema.get("format") == "date-time":
        kind = "time"
    return " ".join([str(kind), *limits])


if __name__ == "__main__":
    TARGET.write_text(to_markdown(document(ROUTES)), "utf-8")
