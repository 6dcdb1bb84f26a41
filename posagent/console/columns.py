"""Texts in columns of a screen: width of Chinese characters, wrapping, cutting, and nothing but printable characters.

Rules: a line is at most COLUMNS wide, so that no terminal program wraps it by itself and pages are counted right.
What comes from outside (versions, names, logs) may hold control characters: they never reach the engineer's screen.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

COLUMNS = 79
"""One less than a screen has: some wrap as soon as the last one is written."""
_INDENT = "  "


def clean(text: str) -> str:
    """With a question mark for each character that is not printable."""
    return text if text.isprintable() else "".join(one if one.isprintable() else "?" for one in text)


def width(text: str) -> int:
    """Columns that it takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fit(text: str, columns: int = COLUMNS) -> str:
    """The beginning that fits, with dots where something is missing."""
    return text if width(text) <= columns else text[: _within(text, columns - 3)] + "..."


def wrap(text: str, columns: int = COLUMNS) -> list[str]:
    """Lines that fit: broken at spaces and behind Chinese characters, what follows indented a little more."""
    if width(text) <= columns:
        return [text]
    bare = text.lstrip(" ")
    indent = (text[: len(text) - len(bare)] + _INDENT)[: columns // 2]
    lines, rest = list[str](), text
    while width(rest) > columns:
        end = _within(rest, columns)
        at = _break(rest, len(indent) if lines else len(text) - len(bare), end)
        lines.append(rest[:at].rstrip(" "))
        rest = indent + rest[at:].lstrip(" ")
    return [*lines, rest]


def table(words: Iterable[str], columns: int = COLUMNS) -> list[str]:
    """Words side by side, as many lines as it takes."""
    words = list(words)
    wide = max(map(len, words), default=0) + 2
    each = max(1, columns // wide)
    return ["".join(f"{word:{wide}}" for word in words[at : at + each]).rstrip() for at in range(0, len(words), each)]


def _within(text: str, columns: int) -> int:
    """How many characters of it fit; at least one."""
    used = 0
    for index, character in enumerate(text):
        used += _columns(character)
        if used > columns:
            return max(index, 1)
    return len(text)


def _break(text: str, begin: int, end: int) -> int:
    """The last place up to `end`, behind `begin`, where a line may be broken; `end` where there is none."""
    for at in range(end, begin, -1):
        if text[at] == " " or _columns(text[at - 1]) == 2 or text[at - 1] == "/":
            return at
    return end
