"""What is shown of a terminal: the cells of its row, the lines of the panel about it, its lines in a plain log. Pure.

Rules: a row fits 80 columns in either language; Chinese characters are two columns wide.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from posagent import texts
from posagent.field.diary import GOOD, TOUCH, Row, Stage
from posagent.field.words import say, word

COLUMNS: Mapping[str, int] = {
    "port": 9,
    "terminal": 10,
    "version": 14,
    "state": 12,
    "part": 9,
    "left_s": 7,
    "power": 6,
    "waits": 12,
}
"""Width of each column but the last, which takes what is left. With a space between them they are 80."""
LOG_LINES = 4


def width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def fit(text: str, columns: int) -> str:
    """Cut or padded to exactly so many columns."""
    if width(text) > columns:
        cut, room = "", columns - 1
        for one in text:
            room -= width(one)
            if room < 0:
                break
            cut += one
        text = cut + "~"
    return text + " " * (columns - width(text))


def cells(row: Row, lang: str) -> dict[str, str]:
    """By column."""
    version = row.before or "?"
    if row.wanted and row.wanted != row.before:
        version = f"{version}>{row.wanted}"
    return {
        "port": _short(row.port),
        "terminal": row.terminal,
        "version": version,
        "state": word(row.ending or row.stage, lang),
        "part": bar(row.part, COLUMNS["part"] - 1),
        "left_s": "" if row.left_s is None else texts.duration(row.left_s, lang).replace(" ", ""),
        "power": power(row.status, lang),
        "waits": waits(row, lang),
    }


def bar(part: float | None, columns: int) -> str:
    if part is None:
        return ""
    filled = min(columns - 4, int((columns - 4) * part))
    return "#" * filled + "." * (columns - 4 - filled) + f"{int(100 * part):3d}%"


def power(status: Mapping[str, Any], lang: str) -> str:
    told = status.get("power") or {}
    percent = told.get("battery_percent")
    return "" if percent is None else f"{percent}%{'+' if told.get('mains') else ''}"


def waits(row: Row, lang: str) -> str:
    """What it waits for: the cable, a closed gate; when it is done and not well, why."""
    if row.pulled and not row.ended:
        return word("pulled", lang)
    if row.ended:
        return "" if row.ending in GOOD else row.support_code or row.code
    if row.stage == Stage.UNLOCKING and row.notes and row.notes[-1] == TOUCH:
        return word(TOUCH, lang)
    closed = texts.closed_gate(row.status) if row.status.get("update") else None
    return "" if closed is None else texts.localized(closed, "reason", lang)


def panel(row: Row, lang: str) -> list[str]:
    """About one terminal: what it does, its slots, power, gates, and what happened last."""
    status = row.status
    head = f"{row.terminal}  {row.port}"
    if row.ended:
        head += f"  {word(row.ending, lang)}" + (f" - {row.detail} [{row.code}]" if row.code not in ("", "ok") else "")
    lines = [head]
    if status:
        lines.append(texts.state_line(status, lang) if not row.ended else "")
        lines += [texts.slot_line(name, slot, lang).strip() for name, slot in status["slots"].items()]
        lines.append(texts.power_line(status["power"], lang))
        if status.get("update"):
            lines.append(texts.progress_line(status, lang))
        lines += texts.gate_lines(status["gates"], lang)
        if status.get("help"):
            lines.append(texts.localized(status["help"], "text", lang))
    lines.append(f"{say('log', lang)}: " + " | ".join(word(note, lang) for note in row.notes[-LOG_LINES:]))
    return [line for line in lines if line]


def headline(rows: list[Row], lang: str) -> str:
    ended = [row for row in rows if row.ended]
    return say("sum", lang, len(ended), len(rows), sum(row.ending not in GOOD for row in ended))


class Plain:
    """Lines for scripts and dumb terminals: one for each change of a terminal that matters."""

    def __init__(self, lang: str) -> None:
        self._lang = lang
        self._shown: dict[str, tuple[object, ...]] = {}

    def lines(self, rows: list[Row]) -> Iterator[str]:
        for row in rows:
            waiting = waits(row, self._lang)
            tenth = None if row.part is None else int(row.part * 10)
            now = (row.stage, row.ending, row.pulled, row.port, waiting, tenth)
            if self._shown.get(row.terminal) != now:
                self._shown[row.terminal] = now
                yield self._line(row, waiting)

    def _line(self, row: Row, waiting: str) -> str:
        told = cells(row, self._lang)
        words = [row.terminal, row.port, told["version"], told["state"], told["part"], told["left_s"], waiting]
        if row.ended and row.detail:
            words.append(f"- {row.detail}")
        return " ".join(one for one in words if one)


def _short(port: str) -> str:
    """The last part of a port's name, by which people call it."""
    return port.replace("\\", "/").rsplit("/", 1)[-1].removeprefix("cu.")
