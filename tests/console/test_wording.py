"""What the line says itself is whole in both languages, and nothing of it is idle."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from posagent.console import wording
from posagent.console.verbs import VERBS
from tests.test_texts import CHINESE

CONSOLE = Path(wording.__file__).parent
REASONS = {"logged out", "session over", "idle"}
"""Why a session ended, as access and session name it."""


@pytest.mark.parametrize("name", wording.WORDS)
def test_every_word_has_both_languages(name: str) -> None:
    english, chinese = wording.WORDS[name]
    assert english and not CHINESE.search(english)
    assert CHINESE.search(chinese)
    assert english.count("{}") == chinese.count("{}"), "both are filled in with the same values"


@pytest.mark.parametrize("name", ["access", "auth", "commands", "paste"])
def test_why_somebody_may_not_is_said_in_both_languages(name: str) -> None:
    for node in ast.walk(ast.parse((CONSOLE / f"{name}.py").read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or ast.unparse(node.func) not in ("Refusal", "PosagentError"):
            continue
        code = node.args[0]
        assert isinstance(code, ast.Constant)
        if code.value != "internal":
            assert "detail_zh" in {keyword.arg for keyword in node.keywords}, ast.unparse(node)


def test_every_word_that_is_asked_for_exists_and_none_is_idle() -> None:
    asked = {
        str(node.args[0].value)
        for path in CONSOLE.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "say" and isinstance(node.args[0], ast.Constant)
    }
    assert asked | REASONS | {f"verb_{name}" for name in VERBS} == wording.WORDS.keys()
