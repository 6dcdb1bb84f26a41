"""Bytes from the serial line become commands: line editing, bounds, words. Pure.

Rules: a line is at most LINE_BYTES_MAX; a longer one is answered once and skipped to its end. Bytes that are neither
printable ASCII nor an editing key are dropped and make the line a bad request. Memory is bounded whatever arrives.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from posagent.core.errors import PosagentError

LINE_BYTES_MAX = 1024

HELP = """\
status            what runs here and what the update does
why               why nothing happens now
estimate          how long it takes
unlock ROLE       prove an engineer's key; roles: look, update, rollback, support
logout            lock again
look, support:    check, history, audit
update:           and update [SOURCE] [--now], cancel, defer [HOURS], confirm,
                  allow sha256:DIGEST (a bundle that has expired; signed for again)
rollback:         and rollback (signed for again)
--json behind a command answers in one line of JSON
To unlock: sign the challenge line on the laptop and paste the signature here:
  echo 'CHALLENGE' | ssh-keygen -Y sign -n posagent-console -f KEY-cert.pub"""


class Key(Enum):
    """What is not part of a line."""

    INTERRUPT = auto()  # ^C
    LOGOUT = auto()  # ^D on an empty line
    TOO_LONG = auto()
    GARBAGE = auto()


@dataclass(frozen=True, slots=True)
class Echo:
    """Bytes to show to whoever types."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Line:
    """A whole line, printable ASCII."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    verb: str
    words: tuple[str, ...]
    json: bool


def command_of(text: str) -> Command | None:
    """The command in a line; None for an empty one. Raises ValueError for an open quote."""
    words = shlex.split(text, comments=False, posix=True)
    json = "--json" in words
    words = [word for word in words if word != "--json"]
    return Command(verb=words[0].lower(), words=tuple(words[1:]), json=json) if words else None


def args_of(command: Command) -> dict[str, Any]:
    """The API's arguments in a command's words. Raises PosagentError `bad_request`."""
    words = list(command.words)
    if command.verb == "update":
        at_once = "--now" in words
        sources = [word for word in words if word != "--now"]
        if len(sources) > 1:
            raise PosagentError("bad_request", "update takes one source")
        return {"source": "".join(sources), "now": at_once}
    if command.verb == "allow" and len(words) == 1:
        return {"bundle": words[0]}
    if command.verb == "defer" and len(words) == 1 and words[0].isdecimal():
        return {"hours": int(words[0][:4])}
    if words:
        raise PosagentError("bad_request", f"{command.verb} takes no words")
    return {}


class Editor:
    """Collects typed bytes into lines. `echo` may be switched off while an answer is pasted."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._skipping = False
        self._garbage = False
        self._after_return = False
        self.echo = True

    def forget(self) -> None:
        """Whatever was typed so far does not count."""
        self._line.clear()
        self._skipping = self._garbage = False

    def feed(self, data: bytes) -> Iterator[Key | Echo | Line]:
        for byte in data:
            yield from self._byte(byte)

    def _byte(self, byte: int) -> Iterator[Key | Echo | Line]:
        after_return, self._after_return = self._after_return, byte == 0x0D
        if byte == 0x0A and after_return:
            return  # the second half of a line end
        if byte in (0x0D, 0x0A):
            yield from self._end()
        elif byte == 0x03:
            self.forget()
            yield Key.INTERRUPT
        elif byte == 0x04 and not self._line:
            yield Key.LOGOUT
        elif byte in (0x08, 0x7F):
            if self._line:
                self._line.pop()
                yield from self._shown(b"\b \b")
        elif byte == 0x15:
            yield from self._shown(b"\b \b" * len(self._line))
            self._line.clear()
        elif self._skipping:
            return
        elif 0x20 <= byte < 0x7F:
            yield from self._printable(byte)
        else:
            self._garbage = True

    def _printable(self, byte: int) -> Iterator[Key | Echo | Line]:
        if len(self._line) >= LINE_BYTES_MAX:
            self._line.clear()
            self._skipping = True
            return
        self._line.append(byte)
        yield from self._shown(bytes([byte]))

    def _shown(self, data: bytes) -> Iterator[Echo]:
        if self.echo and data:
            yield Echo(data)

    def _end(self) -> Iterator[Key | Echo | Line]:
        text, skipped, garbage = self._line.decode("ascii"), self._skipping, self._garbage
        self.forget()
        yield from self._shown(b"\r\n")
        if skipped:
            yield Key.TOO_LONG
        elif garbage:
            yield Key.GARBAGE
        else:
            yield Line(text)
