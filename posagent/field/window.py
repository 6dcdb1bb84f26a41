"""The window in which a visit is watched: whether it is still there.

Rules: when it was closed nobody sees the screen any more, and the visit ends as if the engineer had left it. A terminal
that has gone can be read for ever, and what is read is nothing: whoever draws on it must stop, so its place is taken by
/dev/null at once.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self, TextIO

from posagent.field import laptop

STANDARD = (0, 1, 2)
"""Input, output and errors."""


class Pane:
    """A terminal that is written to, also when it has gone: then nothing happens. Textual's writer would end at the
    first error, and whoever has something for it would wait for ever."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._terminal.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._terminal.flush()

    def fileno(self) -> int:
        return self._terminal.fileno()

    def isatty(self) -> bool:
        return True


class Window:
    """Of this process, while it is entered. Only the main thread may enter it."""

    def __init__(self) -> None:
        self._gone = False
        self._before: dict[int, Any] = {}
        self._terminals = [one for one in STANDARD if os.isatty(one)]

    def gone(self) -> bool:
        """Whether it was closed, or the process was asked to end. To be asked again and again: nobody tells a process
        that does not belong to the window's session."""
        if not self._gone and not all(map(os.isatty, self._terminals)):
            self._closed()
        return self._gone

    def __enter__(self) -> Self:
        for number, handler in ((laptop.HANG_UP, self._closed), (signal.SIGTERM, self._asked)):
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._gone:
            return  # what is told twice must not end the report
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _asked(self, *_: int | FrameType | None) -> None:
        self._gone = True

    def _closed(self, *_: int | FrameType | None) -> None:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for one in self._terminals:
            os.dup2(nowhere, one)
        os.close(nowhere)
        self._gone = True
