"""Which port leads to which terminal, while cables are pulled, plugged elsewhere, and moved on to the next terminal.

Rules: a terminal is known by the id it says itself, never by the name of a port. A port that is new, or came back, or
whose terminal is done, is asked who is there; one that leads to a terminal at work belongs to that one alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

SILENT_S = 2.0
"""A port where nobody answered is asked again after so long: it may be restarting."""
DONE_S = 8.0
"""One whose terminal is done as well: the cable may have gone on to the next."""


class Port(Protocol):
    """field.link.Line: an open serial port. Every method raises OSError when the cable is gone."""

    def read(self, timeout_s: float) -> bytes: ...

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class _Watched:
    """A port whose end is noticed, whoever uses it then; a `wrong` one ends at once."""

    def __init__(self, port: Port, on_gone: Callable[[], None]) -> None:
        self._port = port
        self._on_gone = on_gone
        self.wrong = False

    def read(self, timeout_s: float) -> bytes:
        try:
            self._check()
            return self._port.read(timeout_s)
        except OSError:
            self._on_gone()
            raise

    def write(self, data: bytes) -> None:
        try:
            self._check()
            self._port.write(data)
        except OSError:
            self._on_gone()
            raise

    def close(self) -> None:
        self._port.close()

    def _check(self) -> None:
        if self.wrong:
            raise OSError("another terminal is there")


class Places:
    """`look` lists the ports that are there now, `open_port` opens one."""

    def __init__(self, look: Callable[[], list[str]], open_port: Callable[[str], Port]) -> None:
        self._look = look
        self.open = open_port
        self._lock = threading.Lock()
        self._leads_to: dict[str, str] = {}
        self._asked: dict[str, float] = {}

    def to_ask(self, now: float, at_work: Callable[[str], bool]) -> list[str]:
        """Ports whose terminal should be asked for its name now; each is to be answered with `found` or `silent`."""
        there = self._look()
        with self._lock:
            for gone in self._leads_to.keys() - set(there):
                del self._leads_to[gone]
            for gone in self._asked.keys() - set(there):
                del self._asked[gone]
            found = [port for port in there if self._is_due(port, now, at_work)]
            self._asked |= dict.fromkeys(found, float("inf"))
        return found

    def _is_due(self, port: str, now: float, at_work: Callable[[str], bool]) -> bool:
        if port not in self._asked:
            return True
        terminal = self._leads_to.get(port)
        if terminal is None:
            return now >= self._asked[port] + SILENT_S
        return not at_work(terminal) and now >= self._asked[port] + DONE_S

    def found(self, port: str, terminal: str, now: float) -> None:
        with self._lock:
            self._asked[port] = now
            self._leads_to[port] = terminal

    def silent(self, port: str, now: float) -> None:
        with self._lock:
            self._asked[port] = now
            self._leads_to.pop(port, None)

    def wrong(self, port: str) -> None:
        """Somebody else answered there than was expected: it is asked again at once."""
        with self._lock:
            self._leads_to.pop(port, None)
            self._asked.pop(port, None)

    def leads_to(self, terminal: str) -> str | None:
        with self._lock:
            return next((port for port, there in self._leads_to.items() if there == terminal), None)


class Berth:
    """One terminal's claim to whichever port leads to it. `on_open` hears the port's name, `on_gone` that it went."""

    def __init__(
        self, places: Places, terminal: str, *, on_open: Callable[[str], None], on_gone: Callable[[], None]
    ) -> None:
        self._places = places
        self.terminal = terminal
        self._on_open = on_open
        self._on_gone = on_gone
        self._line: _Watched | None = None

    def open_line(self) -> Port:
        """The line, each time anew. Raises OSError while no port leads to the terminal."""
        port = self._places.leads_to(self.terminal)
        if port is None:
            raise OSError(f"no port leads to {self.terminal} now")
        try:
            self._line = _Watched(self._places.open(port), lambda: self._gone(port))
        except OSError:
            self._gone(port)
            raise
        self._on_open(port)
        return self._line

    def reached(self, terminal: str) -> None:
        """Who answered. When it is somebody else, not a byte of what is meant for ours goes there."""
        if terminal != self.terminal and self._line is not None:
            self._line.wrong = True

    def _gone(self, port: str) -> None:
        self._places.wrong(port)
        self._on_gone()
