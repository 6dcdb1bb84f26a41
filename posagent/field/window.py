"""The window in which a visit is watched: whether it is still there.

Rules: when it was closed nobody sees the screen any more, and the visit ends as if the engineer had left it. A terminal
that has gone can be read for ever, and what is read is nothing: whoever draws on it must stop, so its place is taken by
/dev/null at once.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from posagent.field import laptop

LOOK_MS = 500
STANDARD = (0, 1, 2)
"""Input, output and errors."""


class Window:
    """Of this process, while it is entered. Only the main thread may enter it."""

    def __init__(self) -> None:
        self._gone = threading.Event()
        self._over = threading.Event()
        self._before: dict[int, Any] = {}
        self._terminals = [one for one in STANDARD if os.isatty(one)]

    def gone(self) -> bool:
        """Whether it was closed, or the process was asked to end."""
        return self._gone.is_set()

    def __enter__(self) -> Self:
        for number, handler in ((laptop.HANG_UP, self._closed), (signal.SIGTERM, self._asked)):
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                self._before[number] = signal.signal(number, handler)
        if self._terminals and laptop.sees_hang_ups():
            threading.Thread(target=self._watch, name="window", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        if self.gone():
            return  # what is told twice must not end the report
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._terminals[0], 0)  # nothing but that it has gone
        while not self._over.is_set():
            if poll.poll(LOOK_MS):
                self._closed()
                return

    def _asked(self, *_: int | FrameType | None) -> None:
        self._gone.set()

    def _closed(self, *_: int | FrameType | None) -> None:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for one in self._terminals:
            os.dup2(nowhere, one)
        os.close(nowhere)
        self._gone.set()
