"""Which mode the serial line is in: for people, or for programs that asked for theirs with the line `machine 1`.

Rules: of bytes that come at once, those behind that line are the machine mode's already; people find a locked prompt
when a program has gone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from posagent.console.machine import Machine

_LINE = re.compile(rb"[^\r\n]*[\r\n]|[^\r\n]+")


class Human(Protocol):
    """console.session.Session."""

    on_machine: Callable[[], None] | None

    def feed(self, data: bytes) -> None: ...

    def hang_up(self) -> None: ...

    def greet(self) -> None: ...


class Switch:
    """Gives the port's bytes to one of both."""

    def __init__(self, human: Human, machine: Machine) -> None:
        self._human, self._machine = human, machine
        human.on_machine = self._to_machine
        machine.on_end = human.greet

    def feed(self, data: bytes) -> None:
        while data and not self._machine.open:
            line = _LINE.match(data)
            end = line.end() if line is not None else len(data)
            self._human.feed(data[:end])
            data = data[end:]
        if data:
            self._machine.feed(data)

    def hang_up(self) -> None:
        """The line is gone. A program may come back for a while, and has to say that it is the same."""
        if not self._machine.open:
            self._human.hang_up()

    def _to_machine(self) -> None:
        self._human.hang_up()
        self._machine.begin()
