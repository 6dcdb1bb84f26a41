"""Bytes from the serial line become lines: editing, history, completion, bounds. Pure.

Rules: what is shown is made of printable ASCII, carriage return, line feed and backspace alone, so that every terminal
shows the same. A line is at most LINE_BYTES_MAX; a longer one is answered once and skipped to its end. Bytes that are
neither printable ASCII nor a key are dropped and make the line a bad request. Memory is bounded whatever arrives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from posagent.console.columns import COLUMNS, table
from posagent.console.keys import Keys, Press

LINE_BYTES_MAX = 1024
HISTORY_LINES_MAX = 20
PROMPT = b"posagent> "
_WINDOW = COLUMNS - len(PROMPT) - 1
"""Characters of a line that are shown while it is edited."""


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


@dataclass(frozen=True, slots=True)
class Stroke:
    """A key that was pressed while `Editor.single` asks for single ones."""

    key: Press | str


Item = Key | Echo | Line | Stroke
Complete = Callable[[str], Sequence[str]]
"""What the last word of a text may become."""


class Editor:
    """Collects typed bytes into lines. `echo` may be switched off while an answer is pasted, `single` on while
    single keys are wanted instead of lines.

    A line that is only typed on is shown as it is, whatever its length; as soon as it is edited, a window of it.
    """

    def __init__(self, complete: Complete = lambda _: ()) -> None:
        self._complete = complete
        self._keys = Keys()
        self._line = ""
        self._at = 0
        self._shown, self._column = "", 0
        self._start = 0
        self._over = False
        """Whether more is shown of the line than the window, the cursor at its end."""
        self._skipping = self._garbage = False
        self._history: deque[str] = deque(maxlen=HISTORY_LINES_MAX)
        self._back, self._draft = 0, ""
        self.echo = True
        self.single = False

    def forget(self) -> None:
        """Whatever was typed so far does not count."""
        self._keys.forget()
        self._clear()

    def forget_history(self) -> None:
        """Whoever comes next does not see what was typed."""
        self._history.clear()

    def feed(self, data: bytes) -> Iterator[Item]:
        for byte in data:
            key = self._keys.key(byte)
            if key is None:
                continue
            if self.single:
                yield Stroke(key)
            else:
                yield from self._key(key)

    def _clear(self) -> None:
        self._line, self._at, self._back = "", 0, 0
        self._shown, self._column, self._start, self._over = "", 0, 0, False
        self._skipping = self._garbage = False

    def _key(self, key: Press | str) -> Iterator[Item]:
        if key is Press.ENTER:
            yield from self._end()
        elif key is Press.INTERRUPT:
            self.forget()
            yield Key.INTERRUPT
        elif self._skipping:
            return
        elif isinstance(key, str):
            yield from self._insert(key)
        elif key is Press.DELETE and not self._line:
            yield Key.LOGOUT
        elif key is Press.NOISE:
            self._garbage = True
        elif key is Press.TAB:
            yield from self._completed()
        elif key is Press.REDRAW:
            yield from self._again()
        else:
            yield from self._edit(key)

    def _end(self) -> Iterator[Item]:
        text, skipped, garbage = self._line, self._skipping, self._garbage
        self.forget()
        if self.echo:
            yield Echo(b"\r\n")
        if skipped:
            yield Key.TOO_LONG
        elif garbage:
            yield Key.GARBAGE
        else:
            if self.echo and text.strip() and (not self._history or self._history[-1] != text):
                self._history.append(text)
            yield Line(text)

    def _insert(self, text: str) -> Iterator[Item]:
        if len(self._line) + len(text) > LINE_BYTES_MAX:
            self._clear()
            self._skipping = True
            return
        line = self._line[: self._at] + text + self._line[self._at :]
        yield from self._change(line, self._at + len(text))

    def _edit(self, key: Press) -> Iterator[Item]:
        line, at = self._line, self._at
        match key:
            case Press.LEFT:
                at = max(0, at - 1)
            case Press.RIGHT:
                at = min(len(line), at + 1)
            case Press.HOME:
                at = 0
            case Press.END:
                at = len(line)
            case Press.BACKSPACE:
                line, at = line[: max(0, at - 1)] + line[at:], max(0, at - 1)
            case Press.DELETE:
                line = line[:at] + line[at + 1 :]
            case Press.KILL_WORD:
                begin = len(line[:at].rstrip(" ").rpartition(" ")[0])
                begin += bool(begin)
                line, at = line[:begin] + line[at:], begin
            case Press.KILL_START:
                line, at = line[at:], 0
                self._garbage = self._garbage and bool(line)
            case Press.KILL_END:
                line = line[:at]
            case Press.UP | Press.DOWN:
                line = self._recalled(1 if key is Press.UP else -1)
                at = len(line)
        yield from self._change(line, at)

    def _recalled(self, further: int) -> str:
        """The line `further` back in the history; below the last one is what was being typed."""
        if self._back == 0:
            self._draft = self._line
        self._back = min(max(0, self._back + further), len(self._history))
        return self._draft if self._back == 0 else self._history[-self._back]

    def _completed(self) -> Iterator[Item]:
        before = self._line[: self._at]
        word = before.rpartition(" ")[2]
        candidates = self._complete(before)
        if not candidates:
            return
        whole = candidates[0] + " " if len(candidates) == 1 else _common(candidates)
        if whole.startswith(word) and len(whole) > len(word):
            yield from self._insert(whole[len(word) :])
        elif self.echo:
            lines = "".join(f"\r\n{line}" for line in table(candidates))
            yield Echo(lines.encode("ascii", "replace"))
            yield from self._again()

    # what is shown

    def shown(self) -> bytes:
        """The line that is being typed, as it stands behind a fresh prompt."""
        self._shown, self._column, self._over = "", 0, False
        return b"".join(item.data for item in self._change(self._line, self._at) if isinstance(item, Echo))

    def _again(self) -> Iterator[Item]:
        """Prompt and line once more, on a line of their own."""
        shown = self.shown()
        if self.echo:
            yield Echo(b"\r\n" + PROMPT + shown)

    def _change(self, line: str, at: int) -> Iterator[Item]:
        """The line is this now: show what is different."""
        if not self.echo:
            self._line, self._at = line, at
            return
        at_end = self._at == len(self._line) and at == len(line) and line.startswith(self._line)
        typed_on = at_end and len(self._line) < len(line) and (self._over or self._shown == self._line)
        if typed_on and len(line) > _WINDOW:
            yield Echo(line[len(self._line) :].encode("ascii"))
            self._line, self._at, self._over = line, at, True
            return
        if self._over and (line, at) == (self._line, self._at):
            return
        self._line, self._at = line, at
        if self._over:
            yield from self._again()
            return
        if at < self._start or at > self._start + _WINDOW:
            self._start = max(0, at - _WINDOW // 2)
        if len(line) <= _WINDOW:
            self._start = 0
        shown, column = line[self._start : self._start + _WINDOW], at - self._start
        out = redrawn(self._shown, self._column, shown, column)
        self._shown, self._column = shown, column
        if out:
            yield Echo(out.encode("ascii"))


def redrawn(old: str, column: int, new: str, at: int) -> str:
    """What turns the text `old` on a screen into `new`, and moves the cursor from `column` to `at`."""
    if old == new:
        return "\b" * (column - at) if at <= column else new[column:at]
    same = len(_common((old, new)))
    out = "\b" * (column - same) if same <= column else old[column:same]
    out += new[same:] + " " * (len(old) - len(new))
    return out + "\b" * (max(len(old), len(new)) - at)


def _common(texts: Sequence[str]) -> str:
    """What they all begin with."""
    first, last = min(texts), max(texts)
    return first[
        : next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    ]
