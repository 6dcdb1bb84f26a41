"""The laptop's serial line to one terminal: opened again as often as it goes away, driven by whoever waits.

Owns: the line, the conversation over it, the lock that lets several threads use both.
Rules: nothing waits longer than READ_S while it holds the lock.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from posagent.core.errors import PosagentError
from posagent.core.talk import NUMBER_BYTES, Guest, Opened, Refused, Resumed

READ_S = 0.05
HAND_OVER_S = 0.001
"""A lock that is taken again at once is not seen by those who wait for it."""
REOPEN_S = 1.0


class Line(Protocol):
    """A raw byte port. Everything raises OSError when the cable is gone."""

    def read(self, timeout_s: float) -> bytes:
        """What has come, at once if there is something; nothing after so many seconds."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class LaptopClock(Protocol):
    def monotonic(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """LaptopClock of the laptop itself."""

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class LineLost(PosagentError):
    """The terminal does not answer, or has `forgotten` what was asked."""

    def __init__(self, detail: str = "", *, forgotten: bool = False) -> None:
        super().__init__("line_lost", detail)
        self.forgotten = forgotten


class Cable:
    """`open_line` raises OSError while there is no line. `on_message` gets messages, `on_opened` hears that the
    conversation is a new one, `on_state` that it is `connecting`, `connected`, `resumed` or `lost`. They are called
    while the line is held and must not wait."""

    def __init__(
        self,
        open_line: Callable[[], Line],
        *,
        clock: LaptopClock,
        bytes_per_s: float,
        versions: tuple[int, int],
        on_message: Callable[[bytes], None],
        on_opened: Callable[[Opened], None],
        on_state: Callable[[str], None],
    ) -> None:
        self._open_line, self.clock = open_line, clock
        self._on_message, self._on_opened, self._on_state = on_message, on_opened, on_state
        self.bytes_per_s = bytes_per_s
        self._versions = versions
        self._lock = threading.RLock()
        self._wanted = 0
        """Threads that wait for the lock."""
        self._line: Line | None = None
        self._open_at = 0.0
        self._guest = Guest(number=secrets.token_bytes(NUMBER_BYTES), bytes_per_s=bytes_per_s, versions=versions)
        self._refused: PosagentError | None = None
        self._was_connected = False
        self._keeper: threading.Thread | None = None
        self._closed = False

    @property
    def connected(self) -> bool:
        return self._guest.connected

    @property
    def backlog(self) -> int:
        """Bytes that the line has not taken."""
        return self._guest.link.backlog if self._guest.link is not None else 0

    @property
    def rate(self) -> float | None:
        """Bytes a second that it carried; None where that is not known yet."""
        return self._guest.link.rate if self._guest.link is not None else None

    def send(self, message: bytes) -> None:
        """Once a conversation is open; one that was lost since then loses the message."""
        if self._guest.link is not None:
            self._guest.link.send(message)

    def wait(self, reached: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Drive the line until it holds. Raises LineLost, PosagentError `machine_version`."""
        deadline = self.clock.monotonic() + timeout_s
        while not reached():
            if self.clock.monotonic() >= deadline:
                raise LineLost(f"{what} in {timeout_s:.0f} s")
            self.turn(min(READ_S, timeout_s))

    def turn(self, seconds: float) -> None:
        """Let happen what happens in so many seconds, or in the first of them. Raises PosagentError."""
        with self.held():
            if self._refused is not None:
                raise self._refused
            if self._closed:
                raise LineLost("the line was closed")
            line = self._opened()
            if line is not None:
                try:
                    self._turn(line, seconds)
                except OSError:
                    self._gone()
        if line is None:
            self.clock.sleep(seconds)
        elif self._wanted:
            self.clock.sleep(HAND_OVER_S)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else uses the line meanwhile."""
        self._wanted += 1
        self._lock.acquire()
        self._wanted -= 1
        try:
            yield
        finally:
            self._lock.release()

    def keep(self) -> None:
        """From now on a thread drives the line while nobody else does."""
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, daemon=True, name="line")
            self._keeper.start()

    def close(self) -> None:
        """Say goodbye: the terminal locks at once."""
        with self.held():
            self._closed = True
            line, self._line = self._line, None
            if line is not None:
                try:
                    if self._guest.connected and self._guest.link is not None:
                        line.write(self._guest.link.bye())
                    line.close()
                except OSError:
                    pass  # the cable is gone: the terminal locks when it has heard nothing for a while
        if self._keeper is not None and self._keeper is not threading.current_thread():
            self._keeper.join()

    def _keep(self) -> None:
        try:
            while not self._closed:
                self.turn(READ_S)
                self.clock.sleep(READ_S)  # others want the line as well
        except PosagentError:
            return  # whoever calls hears it as well

    def _opened(self) -> Line | None:
        now = self.clock.monotonic()
        if self._line is None and now >= self._open_at:
            self._open_at = now + REOPEN_S
            try:
                self._line = self._open_line()
            except OSError:
                return None
            self._on_state("connecting")
            self._guest.call(now)
        return self._line

    def _turn(self, line: Line, seconds: float) -> None:
        now = self.clock.monotonic()
        if data := self._guest.poll(now):
            line.write(data)
        self._tell_lost()
        data = line.read(max(0.0, min(seconds, self._guest.next_wake() - now)))
        if not data:
            return
        now = self.clock.monotonic()
        for happened in self._guest.feed(data, now):
            match happened:
                case bytes():
                    self._on_message(happened)
                case Opened():
                    self._was_connected = True
                    self._on_opened(happened)
                    self._on_state("connected")
                case Resumed():
                    self._was_connected = True
                    self._on_state("resumed")
                case Refused(oldest, newest):
                    ours = f"{self._versions[0]} to {self._versions[1]}"
                    detail = f"the terminal speaks the versions {oldest} to {newest}, this laptop {ours}"
                    self._refused = PosagentError("machine_version", detail)
                case _:
                    pass
        if data := self._guest.poll(now):
            line.write(data)

    def _gone(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            try:
                line.close()
            except OSError:
                pass  # as gone as can be
        self._guest.call(self.clock.monotonic())
        self._open_at = self.clock.monotonic() + REOPEN_S
        self._tell_lost()

    def _tell_lost(self) -> None:
        if self._was_connected and not self._guest.connected:
            self._was_connected = False
            self._on_state("lost")
