"""One spelling of codes: a problem's type, a status and a storage code are all written with underscores."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import clap_server

SERVER = Path(clap_server.__file__).parent
TELLS = {"ProblemError", "invalid", "not_found", "SourceError", "SourceStatus", "Trouble", "SelfTestError"}
HYPHENATED = re.compile(r"[a-z]+(-[a-z]+)+")


def _codes() -> set[str]:
    """Words without spaces among the arguments of whatever carries a code."""
    found: set[str] = set()
    for file in SERVER.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in TELLS:
                texts = [part.value for part in node.args if isinstance(part, ast.Constant)]
                found |= {text for text in texts if isinstance(text, str) and re.fullmatch(r"[a-z_-]+", text)}
    return found


def test_codes_are_spelt_one_way() -> None:
    codes = _codes()
    assert {"not_owner", "stalled", "no_such_microphone", "timeout"} & codes
    assert [code for code in sorted(codes) if HYPHENATED.fullmatch(code)] == []
