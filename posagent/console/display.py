"""What is written to the other end: clean lines that fit a screen, a page at a time, and one line that is redrawn.

Owns: where the cursor is, and what waits behind `-- more --`.
Rules: nothing but printable characters, carriage return, line feed and backspace. What waits is bounded, and goes with
whoever did not want to see it. Lines that have to be copied as a whole, and JSON, are neither wrapped nor paged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from posagent.console.columns import clean, fit, width, wrap
from posagent.console.keys import Press

ROWS = 24
MORE = "-- more --"
OVER_MORE = f"\r{' ' * len(MORE)}\r"
CUT = "..."
HELD_CHARACTERS_MAX = 64 * 1024


class Display:
    """Of 24 rows and 80 columns. `write` gets bytes; `paging(on)` hears when single keys are wanted, or lines again."""

    def __init__(self, write: Callable[[bytes], None], paging: Callable[[bool], None] = lambda _: None) -> None:
        self._write = write
        self._paging = paging
        self._begun = False
        """Whether something stands on the line of the cursor."""
        self._live = ""
        self._held: deque[str] = deque()
        self._held_characters = 0
        self._after: bytes | None = None

    @property
    def paged(self) -> bool:
        """Whether more waits for a key."""
        return bool(self._held)

    def echo(self, data: bytes) -> None:
        """What whoever types is shown of it."""
        self._begun = not data.endswith(b"\n")
        self._write(data)

    def text(self, lines: Sequence[str]) -> None:
        """Lines for people; what does not fit on the screen waits for a key."""
        self._put([part for line in lines for part in wrap(clean(line))], paged=True)

    def verbatim(self, line: str) -> None:
        """A line as it is, however long: it is copied, or read by a program."""
        self._put([clean(line)])

    def live(self, text: str, *, anew: bool) -> None:
        """A line in the place of the last one of this kind, or `anew` below it."""
        if self.paged:
            return
        if anew:
            self._settle()
        text = fit(clean(text))
        if not self._live:
            self._fresh()
        begin = "\r" if self._live else ""
        self._send(begin + text + " " * (width(self._live) - width(text)))
        self._live, self._begun = text, True

    def prompt(self, prompt: bytes) -> None:
        """At the beginning of a line, when all before it was seen."""
        self._settle()
        if self.paged:
            self._after = prompt
        else:
            self._fresh()
            self.echo(prompt)

    def key(self, key: Press | str) -> None:
        """One that was pressed at `-- more --`: space, enter, or q."""
        rows = {" ": ROWS - 1, Press.ENTER: 1, Press.DOWN: 1, "q": 0, "Q": 0, Press.INTERRUPT: 0}.get(key)
        if rows is None or not self.paged:
            return
        self._send(OVER_MORE)
        if rows:
            self._page(rows)
        else:
            self._seen()

    def forget(self) -> None:
        """Whoever wanted to see what waits has gone."""
        if self.paged:
            self._send(OVER_MORE)
            self._after = None
            self._seen()
        self._settle()

    def _put(self, lines: Sequence[str], *, paged: bool = False) -> None:
        self._settle()
        if self.paged:
            self._hold(lines)
        elif lines:
            self._fresh()
            if paged and len(lines) >= ROWS:
                self._hold(lines)
                self._paging(True)
                self._page(ROWS - 1)
            else:
                self._send("".join(f"{line}\r\n" for line in lines))

    def _hold(self, lines: Sequence[str]) -> None:
        for line in lines:
            if self._held_characters > HELD_CHARACTERS_MAX:
                line = CUT
            if line is not CUT or self._held[-1] is not CUT:
                self._held.append(line)
                self._held_characters += len(line) + 1

    def _page(self, rows: int) -> None:
        out = [self._held.popleft() for _ in range(min(rows, len(self._held)))]
        self._held_characters -= sum(len(line) + 1 for line in out)
        self._send("".join(f"{line}\r\n" for line in out))
        if self.paged:
            self._send(MORE)
            self._begun = True
        else:
            self._seen()

    def _seen(self) -> None:
        """Nothing waits any more."""
        self._held.clear()
        self._held_characters, self._begun = 0, False
        self._paging(False)
        after, self._after = self._after, None
        if after is not None:
            self.prompt(after)

    def _settle(self) -> None:
        """The line that was redrawn stays as it is."""
        if self._live:
            self._live = ""
            self._fresh()

    def _fresh(self) -> None:
        if self._begun:
            self._begun = False
            self._send("\r\n")

    def _send(self, text: str) -> None:
        self._write(text.encode("utf-8", "replace"))
