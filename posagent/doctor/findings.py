"""What a check of the board has found, and how a check says so.

Rules: a check answers with a verdict or raises `CannotTell`; its name, title and remedy come from the catalogue. Detail
is facts (devices, numbers), one line, bounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

DETAIL_CHARS_MAX = 600


class Level(StrEnum):
    """`skipped`: could not be looked at, and why."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check says."""

    level: Level
    detail: str = ""


class CannotTell(Exception):
    """This check cannot be made here; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A verdict with its name. `title` says what should be; the remedy is for the board's engineer."""

    check: str
    level: Level
    detail: str
    title: str
    title_zh: str
    remedy: str
    remedy_zh: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def ok(detail: str = "") -> Verdict:
    return Verdict(Level.OK, detail)


def warning(detail: str) -> Verdict:
    return Verdict(Level.WARNING, detail)


def fault(detail: str) -> Verdict:
    return Verdict(Level.FAULT, detail)


def skipped(why: str) -> Verdict:
    return Verdict(Level.SKIPPED, why)


def all_of(faults: Iterable[str], detail: str = "", warnings: Iterable[str] = ()) -> Verdict:
    """A fault with all its reasons, else a warning with all of them, else fine."""
    found, doubts = list(faults), list(warnings)
    if found:
        return fault("; ".join(found))
    return warning("; ".join(doubts)) if doubts else ok(detail)


def one_line(text: str) -> str:
    """Fit for a screen and for JSON, whatever a command or a file said."""
    clean = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(clean.split())[:DETAIL_CHARS_MAX]
