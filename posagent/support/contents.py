"""What is in a support bundle, in what order, and how much of it: a text in JSON, before it is sealed.

    {"about": {…}, "parts": {"status.json": "…", "journal.jsonl": "…", …}}

Rules: what is more useful comes first and is never cut; of logs and the journal the newest lines are kept. Everything
has gone through `fields.kept` or `fields.configured` before it is counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from posagent.core.redact import Redactor
from posagent.support import fields

ABOUT_BYTES = 4096
"""Kept free for what is said of the bundle itself."""
LINE_BYTES_MAX = 64 << 10


@dataclass(slots=True, kw_only=True)
class Contents:
    """The bundle's text while it grows up to `bytes_max`."""

    bytes_max: int
    redactor: Redactor = field(default_factory=Redactor)
    parts: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    @property
    def room(self) -> int:
        return self.bytes_max - ABOUT_BYTES - sum(_stored(name, text) for name, text in self.parts.items())

    def document(self, name: str, value: Any) -> None:
        """One JSON value, whole or not at all."""
        text = _json(fields.kept(value, self.redactor))
        if _stored(name, text) > self.room:
            self.left_out.append(name)
        else:
            self.parts[name] = text

    def configuration(self, name: str, config: Any) -> None:
        self.parts[name] = _json(fields.configured(config, self.redactor))

    def lines(self, name: str, newest_first: Iterable[Any], share: float = 1.0) -> None:
        """One JSON value a line, oldest first; as many of the newest as fit into a share of the room."""
        room, found = int(self.room * share) - _stored(name, ""), list[str]()
        for value in newest_first:
            line = _json(fields.kept(value, self.redactor))
            room -= _stored("", line)
            if room < 0 or len(line) > LINE_BYTES_MAX:
                self.left_out.append(f"{name}: older lines")
                break
            found.append(line)
        self.parts[name] = "".join(f"{line}\n" for line in reversed(found))

    def text(self, about: Mapping[str, Any]) -> bytes:
        told = {
            **fields.kept(about, self.redactor),
            "redacted": dict(self.redactor.counts),
            "left_out": self.left_out,
            "parts": {name: len(text.encode()) for name, text in self.parts.items()},
        }
        return _json({"about": told, "parts": self.parts}).encode()


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _stored(name: str, text: str) -> int:
    """Bytes that a part takes in the whole: JSON in JSON needs more."""
    return len(_json({name: text}).encode())
